"""Runs aiohttp's own tests on the reactor's event loop.

usage: python tests/aiohttp/run_suite.py [--stock] [PYTEST'S ARGUMENTS]

The tests are those of the sdist of the aiohttp that is installed; pip fetches it.  What fails on
our loop is run again, alone, on ours and on asyncio's: it counts when ours fails again and
asyncio's does not.  What is left out is named in ``EXCLUDED`` and run all the same: a test that
passes on ours, or fails on asyncio's, does not belong there.  With ``--stock``, for comparison,
everything runs on asyncio's loop only.

Left out are aiohttp's benchmarks, its autobahn tests, which want Docker, and what its own
configuration leaves out: the markers ``dev_mode`` and ``internal``.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
OPTIONS = [
    *("-o", "addopts=", "-p", "no:cacheprovider", "--strict-markers", "--timeout=120", "-q", "-ra"),
    *("--ignore-glob=tests/test_benchmarks_*", "--ignore=tests/autobahn"),
]
UNMARKED = ["-m", "not dev_mode and not autobahn and not internal"]

INNARDS = "reads the private _ssl_protocol or _sslcontext of asyncio's or uvloop's transport"
PATCHED = "puts another write() on the transport; an extension type has no attributes to set"
WHEN = "wants the private _when of a timer handle to be the int that was given; ours is a float"
CLOCK = "patches loop.time(); our timers go by the system's clock"
ORDER = (
    "wants what was queued before bytes came to run before whoever waits for the bytes; on our "
    "loop, as on uvloop, a transport's bytes are handed up as soon as they are there"
)

# Tests that fail on our loop and pass on asyncio's, each with the reason.
EXCLUDED: dict[str, str] = {
    **{
        f"tests/test_connector.py::test_tcp_connector_do_not_raise_connector_ssl_error"
        f"[pyloop-{host}]": INNARDS
        for host in (
            "ip address",
            "domain name",
            "fully-qualified domain name",
            "fully-qualified domain name with multiple trailing dots",
            "idna fully-qualified domain name",
        )
    },
    "tests/test_client_ws_functional.py::test_heartbeat_connection_closed[pyloop]": PATCHED,
    "tests/test_web_websocket_functional.py::test_heartbeat_connection_closed[pyloop]": PATCHED,
    "tests/test_web_functional.py::test_keepalive_expires_on_time[pyloop]": CLOCK,
    "tests/test_helpers.py::test_when_timeout_smaller_second_with_low_threshold[pyloop]": WHEN,
    "tests/test_client_ws_functional.py::test_concurrent_close_multiple_tasks[pyloop]": ORDER,
}


class Results(NamedTuple):
    """What a run came to, test by test."""

    passed: set[str]
    failed: set[str]
    skipped: int
    on_ours: int  # tests that made a loop of ours


def unpack(into: Path) -> Path:
    """Fetch the sdist; return where its tests are, without the package beside them."""
    name = f"aiohttp-{importlib.metadata.version('aiohttp')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    pip += ["--no-binary", "aiohttp", "--dest", str(into), name.replace("-", "==")]
    subprocess.run(pip, check=True)
    with tarfile.open(into / f"{name}.tar.gz") as sdist:
        wanted = [
            each
            for each in sdist.getmembers()
            if not each.name.startswith((f"{name}/aiohttp/", f"{name}/vendor/"))
        ]
        sdist.extractall(into, wanted, filter="data")
    return into / name


def node_id(case: ET.Element, tree: Path) -> str:
    """Return the name by which pytest knows a test."""
    parts = case.attrib["classname"].split(".")
    for count in range(len(parts), 0, -1):
        path = Path(*parts[:count]).with_suffix(".py")
        if (tree / path).is_file():
            return "::".join([path.as_posix(), *parts[count:], case.attrib["name"]])
    return case.attrib["name"]  # a module that could not be imported


def run(tree: Path, arguments: list[str], *, stock: bool) -> Results:
    """Run tests on one loop or the other."""
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "pytest", *OPTIONS, *UNMARKED]
    command += [f"--junitxml={report}", *([] if stock else ["-p", "on_reactor"]), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    subprocess.run(command, cwd=tree, env=environment, check=False)
    results = Results(set(), set(), 0, 0)
    if not report.exists():
        return results
    skipped = on_ours = 0
    for case in ET.parse(report).iter("testcase"):
        name = node_id(case, tree)
        if case.find("failure") is not None or case.find("error") is not None:
            results.failed.add(name)
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            results.passed.add(name)
        loops = case.find("properties/property[@name='loops']")
        on_ours += loops is not None and int(loops.attrib["value"]) > 0
    return results._replace(
        passed=results.passed - results.failed, skipped=skipped, on_ours=on_ours
    )


def heed_signals() -> None:
    """Undo what a shell does to its background: tests would inherit signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def look_at_excluded(tree: Path) -> list[str]:
    """Run what is left out on both loops; return what does not belong there."""
    ours = run(tree, list(EXCLUDED), stock=False)
    stock = run(tree, list(EXCLUDED), stock=True)
    wrong = []
    for name, reason in EXCLUDED.items():
        sys.stdout.write(f"left out: {name}: {reason}\n")
        if name not in ours.failed:
            wrong.append(f"excluded, and passes: {name}")
        if name not in stock.passed:
            wrong.append(f"excluded, and asyncio's loop fails it too: {name}")
    return wrong


def judge(first: Results, ours: Results, stock: Results) -> list[str]:
    """Say what became of each failure; return what is wrong."""
    wrong = []
    for name in sorted(first.failed):
        if name in stock.failed:
            verdict = "asyncio's loop fails it too"
        elif name in ours.passed:
            verdict = "passed when it ran again"
        else:
            verdict = "fails on our loop only"
            wrong.append(name)
        sys.stdout.write(f"{verdict}: {name}\n")
    return wrong


def main(arguments: list[str]) -> int:
    """Run, compare and return the exit status."""
    heed_signals()
    begin = time.monotonic()
    on_stock = "--stock" in arguments
    arguments = [each for each in arguments if each != "--stock"]
    with tempfile.TemporaryDirectory() as directory:
        tree = unpack(Path(directory))
        parallel = ["-n", str(os.cpu_count() or 1)]
        left_out = [] if on_stock else [f"--deselect={name}" for name in EXCLUDED]
        first = run(tree, [*parallel, *left_out, *arguments], stock=on_stock)
        wrong = [] if on_stock else look_at_excluded(tree)
        if first.failed and not on_stock:
            again = sorted(first.failed)
            wrong += judge(first, run(tree, again, stock=False), run(tree, again, stock=True))
    sys.stdout.write("".join(f"wrong: {each}\n" for each in wrong))
    sys.stdout.write(
        f"{len(first.passed)} passed ({first.on_ours} tests made a loop of ours), "
        f"{len(first.failed)} failed, {first.skipped} skipped, "
        f"{time.monotonic() - begin:.0f} s\n"
    )
    return 1 if wrong or not first.passed or (on_stock and first.failed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
