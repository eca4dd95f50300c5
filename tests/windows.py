"""What of the tests does not run on Windows, or not under Wine, and why: the whole list by name.

Owns: the names.  ``conftest.py`` leaves them out and says so; ``test_windows.py`` sees that there
is a test for each name.  Not here: ``skipif`` on a test whose condition is not a platform's name
(no ``os.fork``, no AF_UNIX), which pytest reports by itself.
Invariant: what is listed is a matter of the test, of the platform or of Wine, no fault of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["FILES", "TESTS", "WINE", "files_to_run", "reason_for", "under_wine"]

HERE = Path(__file__).parent

FORK = "no fork on Windows"
POSIX = "counts on files, terminals, limits or signals of POSIX systems"
SIGNALS = "no signal can be sent to a child on Windows"

EXAMPLES = "test_examples.py"
PACKAGING = "test_packaging.py"
FETCH = "protocols/http/test_fetch.py"
TURNS = "protocols/http/test_turns.py"
KEYS = "reactor/manager/test_keys.py"
UNIX = "UNIX sockets, which Windows' asyncio does not have"

# Whole files, by their path under tests/.
FILES: dict[str, str] = {
    "benchmarks": "the drivers are for Linux: they pin processes and read /proc",
    "programs": "the programs' servers are Debian's",
    "protocols/http/test_against_httpbin.py": "the server's process ends by a signal of POSIX's",
    "reactor/pollers/test_epoll.py": "epoll is Linux's",
    "reactor/pollers/test_kqueue.py": "kqueue is the BSDs' and macOS'",
    "reactor/pollers/test_uring.py": "io_uring is Linux's",
    "reactor/pollers/test_uring_receives.py": "io_uring is Linux's",
    "reactor/test_eventloop_processes.py": "pipes and children of POSIX systems: "
    "test_eventloop_windows.py has those of Windows",
    "reactor/test_eventloop_servers.py": UNIX,
    "soak": "its server ends with its standard input, which cannot be watched on Windows",
}

# Tests, by file and name.
TESTS: dict[str, str] = {
    f"{KEYS}::test_no_connection_is_shared_between_unix_paths": UNIX,
    f"{KEYS}::test_unix_path_where_nobody_listens_is_refused_by_its_name": UNIX,
    f"{KEYS}::test_unix_path_keeps_the_factorys_own_errors_and_the_deadline": UNIX,
    "protocols/http/test_auth.py::test_a_file_that_others_may_touch_is_refused": POSIX,
    "protocols/http/adapters/test_httpx.py::test_unix_socket_is_the_way": UNIX,
    "protocols/http/test_cookies_of_callers.py::test_the_file_is_for_its_owner_alone": POSIX,
    "protocols/http/test_client_safety.py::test_unix_socket_answers_for_all_hosts": UNIX,
    "protocols/http/test_client_safety.py::test_path_that_the_system_would_cut_raises": UNIX,
    f"{FETCH}::test_signal_removes_partial_files_and_says_what_was_done": SIGNALS,
    f"{FETCH}::test_signal_ends_a_run_that_waits_for_standard_input": SIGNALS,
    "protocols/http/test_fetch_files.py::"
    "test_partial_file_has_the_permissions_that_the_umask_leaves": POSIX,
    "protocols/http/test_fetch_input.py::test_failing_read_is_raised_once_and_ends_the_source": (
        "opens a directory, which Windows refuses"
    ),
    f"{EXAMPLES}::test_client_gets_its_text_back_from_the_server": SIGNALS,
    f"{EXAMPLES}::test_client_gets_its_text_back_over_tls": SIGNALS,
    f"{EXAMPLES}::test_follower_comes_back_to_a_server_that_goes_and_comes": SIGNALS,
    f"{EXAMPLES}::test_driver_of_the_docs_talks_to_the_echo_server": SIGNALS,
    f"{EXAMPLES}::test_client_names_a_port_where_nobody_listens": SIGNALS,
    "protocols/http/test_streams.py::"
    "test_handler_of_a_signal_may_close_the_response_that_is_being_read": POSIX,
    f"{TURNS}::test_signal_handler_may_not_call_the_client_that_waits": POSIX,
    "reactor/manager/test_blocking.py::"
    "test_child_process_is_refused_its_parents_manager_and_disturbs_it_not": FORK,
    "reactor/test_eventloop.py::"
    "test_reader_of_a_number_that_was_closed_does_not_deafen_a_new_connection": (
        "counts on the lowest free number to be given out"
    ),
    "reactor/transports/test_watcher.py::"
    "test_descriptor_that_cannot_be_watched_on_is_reported_once": (
        "watches a pipe; on Windows only sockets can be"
    ),
}

# The same, but only under Wine: what it does otherwise than Windows.
WINE: dict[str, str] = {
    f"{PACKAGING}::{name}": "nothing is installed there: the tests run on a tree"
    for name in (
        "test_ci_calls_the_second_command_of_the_readme",
        "test_changelog_tells_of_the_installed_version",
        "test_installed_version_is_that_of_the_tree",
        "test_console_script_is_installed_and_its_function_exists",
    )
}


def files_to_run(chosen: list[str]) -> list[str]:
    """Return the files of tests below *chosen*, or all, but for those that are left out."""
    found = [path for each in chosen or ["tests"] for path in _tests_below(Path(each))]
    places = [path.relative_to("tests").as_posix() for path in found]
    return [
        f"tests/{place}"
        for place in places
        if not any(place == left or place.startswith(f"{left}/") for left in FILES)
    ]


def _tests_below(path: Path) -> list[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def under_wine() -> bool:
    """Return whether this is Wine, whose ntdll says so."""
    if sys.platform != "win32":
        return False
    import ctypes

    return hasattr(ctypes.windll.ntdll, "wine_get_version")


def reason_for(path: Path, name: str | None = None) -> str | None:
    """Return why a file, or a test in it, is not run here; None when it is."""
    if sys.platform != "win32":
        return None
    if not path.is_relative_to(HERE):
        return None
    place = path.relative_to(HERE).as_posix()
    if name is None:
        return FILES.get(place)
    known = {**TESTS, **(WINE if under_wine() else {})}
    return known.get(f"{place}::{name}")


if __name__ == "__main__":  # for .ci/wine
    sys.stdout.writelines(f"{file}\n" for file in files_to_run(sys.argv[1:]))
