"""Which of CPython's asyncio tests are left out, by name, with the reason.

Owns: the names.  ``run_asyncio.py`` runs them all the same, and complains when one passes on our
loop or fails on the stock one.
"""

from __future__ import annotations

import sys

__all__ = ["EXCLUDED"]

MOCKED = "hands the loop a mock in place of a socket; our transports need a descriptor"
INNARDS = "looks at private attributes of the stock loop or its transports"
NAMED = "asks for 'ssl' in the name of the transport's class"
FREED = "wants the pipes of a closed loop to be open; ours frees them, and warns"
LOGGED = "patches base_events' logger; ours logs to the same logger from its own module"

_SELECTORS = ("EPoll", "Poll", "Select")

_POSIX: dict[str, str] = {
    **{
        f"test_base_events.BaseEventLoopWithSelectorTests.{test}": MOCKED
        for test in (
            "test_create_connection_ip_addr",
            "test_create_connection_ipv6_scope",
            "test_create_connection_no_inet_pton",
            "test_create_connection_service_name",
            "test_create_server_soreuseport_only_defined",
        )
    },
    "test_base_events.BaseEventLoopWithSelectorTests.test_log_slow_callbacks": LOGGED,
    **{
        f"test_events.{kind}EventLoopTests.{test}": NAMED
        for kind in _SELECTORS
        for test in ("test_create_ssl_connection", "test_create_ssl_unix_connection")
    },
    **{
        f"test_events.{kind}EventLoopTests.{test}": reason
        for kind in _SELECTORS
        for test, reason in (
            ("test_internal_fds", INNARDS),
            ("test_unclosed_pipe_transport", FREED),
        )
    },
    "test_ssl.TestSSL.test_flush_before_shutdown": INNARDS,
    "test_ssl.TestSSL.test_remote_shutdown_receives_trailing_data": INNARDS,
}

# Of Windows, where the stock loop is asyncio.ProactorEventLoop.
_WINDOWS: dict[str, str] = {
    **{name: reason for name, reason in _POSIX.items() if name.startswith("test_base_events.")},
}

EXCLUDED = _WINDOWS if sys.platform == "win32" else _POSIX
