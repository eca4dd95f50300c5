"""The fetcher from outside: a child process, real sockets, everything that can go wrong."""

from __future__ import annotations

import errno
import functools
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trustme

import reactor
from protocols.http.fetch import Interruption, main
from reactor.errors import system_error
from tests.peers.child import Child, Ended, running
from tests.peers.site import Connection, Site, Stalled, page, raw, silence

FETCH = ("-m", "protocols.http")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where no source tree is, for ``-m`` looks at the current directory first."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def on_reactor(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine test on the reactor."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        reactor.run(test(*args, **kwargs))

    return run


def fetching(*arguments: str, **options: Any) -> AbstractAsyncContextManager[Child]:
    return running(*FETCH, *arguments, **options)


async def fetch(*arguments: str, data: bytes | None = None, **options: Any) -> Ended:
    if data is not None:
        options["stdin"] = subprocess.PIPE
    async with fetching(*arguments, **options) as child:
        return await child.end(data)


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the last line of what bad usage brings."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    return output.err.splitlines()[-1]


# -- what is fetched and said --------------------------------------------------------------


@on_reactor
async def test_url_is_fetched_and_summed_up() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        ended = await fetch(site.url("/page"))
    assert ended.status == 0
    first, second = ended.out.splitlines()
    assert first.startswith("1 request, 0 failed, 5 B in ")
    assert second == "1 connection opened, reused 0 times"
    [line] = ended.err.splitlines()
    assert line.startswith("200 ")
    assert line.endswith(site.url("/page"))


@on_reactor
async def test_one_connection_serves_many_urls_one_after_the_other() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        urls = [site.url(f"/page?{number}") for number in range(20)]
        ended = await fetch("--concurrency", "1", *urls)
        assert site.accepted == 1
    assert ended.out.splitlines()[1] == "1 connection opened, reused 19 times"


@on_reactor
async def test_json_summary_has_every_figure() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        ended = await fetch("--json", "--concurrency=1", site.url("/page"), site.url("/gone"))
    assert ended.status == 1
    summary = json.loads(ended.out)
    assert summary.pop("seconds") > 0
    assert summary.pop("requests_per_second") > 0
    assert summary.pop("bytes_per_second") > 0
    assert isinstance(summary.pop("version"), str)
    assert summary == {
        "requests": 2,
        "succeeded": 1,
        "failed": 1,
        "bytes": len(b"hello") + len(b"not here\n"),
        "connections": {"opened": 1, "reused": 1},
        "interrupted": None,
        "input_error": None,
        "failures": [
            {
                "url": site.url("/gone"),
                "status": 404,
                "error": "StatusError",
                "reason": "404 Not Found",
            }
        ],
        "failures_omitted": 0,
    }


@on_reactor
async def test_quiet_run_says_failures_only() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        ended = await fetch("--quiet", site.url("/page"), site.url("/gone"))
    assert ended == (1, "", f"cyfetch: {site.url('/gone')}: 404 Not Found\n")


@on_reactor
async def test_quiet_run_with_json_has_the_summary_alone() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        ended = await fetch("--quiet", "--json", site.url("/page"))
    assert json.loads(ended.out)["succeeded"] == 1
    assert ended.err == ""


def files_under(folder: Path) -> list[bytes]:
    return [each.read_bytes() for each in folder.rglob("*") if each.is_file()]


@on_reactor
async def test_file_is_what_the_server_stores(tmp_path: Path) -> None:
    packed = gzip.compress(b"hello")
    async with Site() as site:
        site.routes["/page"] = page(packed, fields="Content-Encoding: gzip\r\n")
        ended = await fetch("--output-dir", str(tmp_path), site.url("/page"))
    assert ended.status == 0
    assert files_under(tmp_path) == [packed]


@on_reactor
async def test_headers_are_sent_with_every_request() -> None:
    heads = []

    def note(connection: Connection, target: str) -> None:
        heads.append(connection.head.decode().split("\r\n"))
        connection.reply()

    async with Site() as site:
        site.routes["/"] = note
        ended = await fetch(
            "--header=X-One: 1", "--header", "User-Agent:mine", site.url("/"), site.url("/")
        )
    assert ended.status == 0
    assert len(heads) == 2
    for head in heads:
        assert "X-One: 1" in head
        assert "User-Agent: mine" in head


@on_reactor
async def test_user_agent_names_the_fetcher() -> None:
    heads = []

    def note(connection: Connection, target: str) -> None:
        heads.append(connection.head)
        connection.reply()

    async with Site() as site:
        site.routes["/"] = note
        await fetch(site.url("/"))
    assert b"\r\nUser-Agent: cyfetch/" in heads[0]


@on_reactor
async def test_requests_under_way_never_exceed_the_concurrency() -> None:
    waiting: list[Connection] = []
    most = 0

    def gate(connection: Connection, target: str) -> None:
        nonlocal most
        waiting.append(connection)
        most = max(most, len(waiting))
        if len(waiting) == 4:
            for each in waiting:
                each.reply(b"go")
            waiting.clear()

    async with Site() as site:
        site.routes["/"] = gate
        urls = [site.url(f"/?{number}") for number in range(12)]
        ended = await fetch("--concurrency", "4", *urls)
        assert site.accepted == 4
    assert ended.status == 0
    assert most == 4


@on_reactor
async def test_redirect_is_a_failure_that_names_where_it_leads() -> None:
    async with Site() as site:
        site.routes["/"] = page(b"", "302 Found", "Location: http://other.invalid/\r\n")
        ended = await fetch("--quiet", "--no-location", site.url("/"))
    assert ended.status == 1
    assert ended.err == (
        f"cyfetch: {site.url('/')}: 302 Found (redirect to http://other.invalid/, not followed)\n"
    )


@on_reactor
async def test_control_characters_of_a_server_do_not_reach_the_terminal() -> None:
    async with Site() as site:
        site.routes["/"] = page(b"", "404 \x9b31mred")
        ended = await fetch("--quiet", site.url("/"), env={**os.environ, "PYTHONUTF8": "1"})
    assert "\x9b" not in ended.err
    assert "31mred" in ended.err


@on_reactor
async def test_long_body_of_an_error_is_not_read_to_its_end() -> None:
    async with Site() as site:
        site.routes["/"] = raw(
            b"HTTP/1.1 500 Broken\r\nContent-Length: 900000\r\n\r\n" + bytes(80_000), close=False
        )
        ended = await fetch("--quiet", site.url("/"))
    assert ended.err == f"cyfetch: {site.url('/')}: 500 Broken\n"


# -- where URLs come from ------------------------------------------------------------------


@on_reactor
async def test_urls_come_from_a_file(tmp_path: Path) -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        (tmp_path / "list").write_text(
            f"# a comment\n\n  {site.url('/page?1')}  \r\n#{site.url('/no')}\n{site.url('/page?2')}"
        )
        ended = await fetch("--input", str(tmp_path / "list"), site.url("/page?0"))
    assert ended.status == 0
    assert site.requests == {"/page?0": 1, "/page?1": 1, "/page?2": 1}


@pytest.mark.parametrize("arguments", [["-"], ["--input", "-"]])
def test_urls_come_from_standard_input(arguments: list[str]) -> None:
    async def test() -> None:
        async with Site() as site:
            site.routes["/page"] = page(b"hello")
            lines = "".join(f"{site.url('/page')}?{number}\n" for number in range(300))
            ended = await fetch("--json", *arguments, data=lines.encode())
        assert ended.status == 0
        assert json.loads(ended.out)["requests"] == len(site.requests) == 300

    reactor.run(test())


@on_reactor
async def test_url_is_fetched_while_standard_input_goes_on() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        async with fetching("-", stdin=subprocess.PIPE) as child:
            stdin = child.process.stdin
            assert stdin is not None
            for number in range(3):
                stdin.write(site.url(f"/page?{number}\n").encode())
                await site.arrived.wait()
                site.arrived.clear()
            ended = await child.end()
    assert ended.status == 0
    assert ended.out.startswith("3 requests, 0 failed")


@on_reactor
async def test_empty_input_is_no_failure_and_no_demonstration() -> None:
    ended = await fetch("-", data=b"# nothing\n")
    assert ended.status == 0
    assert ended.out.startswith("0 requests, 0 failed, 0 B")


@on_reactor
async def test_bad_url_of_a_list_is_a_failure_among_others() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        lines = f"{site.url('/page')}\nftp://host/\nhttp://me:secret@host/\nhttp://\x1b[1m\xe9/\n"
        ended = await fetch("--json", "-", data=lines.encode())
    assert ended.status == 1
    summary = json.loads(ended.out)
    assert (summary["succeeded"], summary["failed"]) == (1, 3)
    assert "invalid URL: scheme: 'ftp' is not http or https" in ended.err
    assert "http://[secure]@host/: invalid URL: userinfo: not supported" in ended.err
    assert "me:secret" not in ended.err + ended.out
    assert "\x1b" not in ended.err


@on_reactor
async def test_endless_line_is_one_failure() -> None:
    ended = await fetch("--json", "-", data=b"http://host/" + b"x" * 3_000_000 + b"\n")
    [failure] = json.loads(ended.out)["failures"]
    assert failure["reason"] == "invalid URL: url: it is longer than 65536"


@on_reactor
async def test_input_that_breaks_off_is_named_and_fails_the_run() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        unreadable = os.open(os.devnull, os.O_WRONLY)
        try:
            ended = await fetch("--json", site.url("/page"), "-", stdin=unreadable)
        finally:
            os.close(unreadable)
    assert ended.status == 1
    summary = json.loads(ended.out)
    assert summary["succeeded"] == 1
    assert summary["input_error"] == f"standard input: {os.strerror(errno.EBADF)}"
    assert f"cyfetch: {summary['input_error']}\n" in ended.err


def partial_files(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


# -- files -----------------------------------------------------------------------------------


@on_reactor
async def test_bodies_are_saved_under_the_names_in_their_urls(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    async with Site() as site:
        for number, path in enumerate(["/a.txt", "/x/a.txt", "/", "/..%2f..%2fetc%2fpasswd"]):
            site.routes[path] = page(b"%d" % number)
        ended = await fetch("--output-dir", str(out), *map(site.url, site.routes))
    assert ended.status == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "a.txt": b"0",
        "a-1.txt": b"1",
        "index.html": b"2",
        "_.._etc_passwd": b"3",
    }
    assert f"{site.url('/a.txt')} -> {out / 'a.txt'}\n" in ended.err


@on_reactor
async def test_body_of_an_error_is_not_saved(tmp_path: Path) -> None:
    async with Site() as site:
        ended = await fetch("--output-dir", str(tmp_path / "out"), site.url("/gone"))
    assert ended.status == 1
    assert list((tmp_path / "out").iterdir()) == []


@on_reactor
async def test_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    stalled = Stalled()
    async with Site() as site:
        site.routes["/file"] = stalled
        async with fetching("--output-dir", str(tmp_path), site.url("/file")) as child:
            await stalled.taken.wait()
            [partial] = partial_files(tmp_path)
            assert partial.startswith(".file.part-")
            assert (tmp_path / partial).stat().st_size > 0
            assert (tmp_path / "file").read_bytes() == b"old"
            [connection] = site.connections
            connection.send(b"!")
            ended = await child.end()
    assert ended.status == 0
    assert (tmp_path / "file").stat().st_size == Stalled.SENT_BYTES + 1
    assert partial_files(tmp_path) == []


@on_reactor
async def test_killed_fetcher_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    stalled = Stalled()
    async with Site() as site:
        site.routes["/file"] = stalled
        async with fetching("--output-dir", str(tmp_path / "out"), site.url("/file")) as child:
            await stalled.taken.wait()
            child.process.kill()
            await child.end()
    assert not (tmp_path / "out" / "file").exists()
    [partial] = (tmp_path / "out").iterdir()
    assert partial.name.startswith(".file.part-")


@on_reactor
async def test_cut_body_leaves_no_file(tmp_path: Path) -> None:
    async with Site() as site:
        site.routes["/file"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        ended = await fetch("--output-dir", str(tmp_path / "out"), site.url("/file"))
    assert ended.status == 1
    assert list((tmp_path / "out").iterdir()) == []


@on_reactor
async def test_name_that_a_directory_has_is_a_failure_of_its_url(tmp_path: Path) -> None:
    (tmp_path / "out" / "file").mkdir(parents=True)
    async with Site() as site:
        site.routes["/file"] = site.routes["/other"] = page(b"hello")
        ended = await fetch(
            "--quiet", "--output-dir", str(tmp_path / "out"), site.url("/file"), site.url("/other")
        )
    assert ended.status == 1
    what, _, why = ended.err.rpartition(": ")
    assert what == f"cyfetch: {site.url('/file')}: {tmp_path / 'out' / 'file'}"
    assert why == f"{os.strerror(errno.EISDIR)}\n" or sys.platform == "win32"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["file", "other"]


# -- failures --------------------------------------------------------------------------------


@on_reactor
async def test_unknown_host_is_named() -> None:
    ended = await fetch("--json", "http://nowhere.invalid/")
    assert ended.status == 1
    [failure] = json.loads(ended.out)["failures"]
    assert failure["error"] == "ResolveError"
    assert failure["status"] is None
    assert ended.err.startswith("cyfetch: http://nowhere.invalid/: resolve nowhere.invalid:80: ")
    assert ended.err.count("\n") == 1


@on_reactor
async def test_refused_port_is_named() -> None:
    async with Site() as site:
        url = site.url("/")
    ended = await fetch("--json", url)
    assert ended.status == 1
    assert json.loads(ended.out)["failures"][0]["error"] == "ConnectRefusedError"
    assert ended.err.endswith(f": {system_error(errno.ECONNREFUSED).strerror}\n")


FAULTS = {
    "garbage": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "RemoteProtocolError"),
    "cut head": (raw(b"HTTP/1.1 200 OK\r\nContent-"), "IncompleteResponseError"),
    "cut body": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        "IncompleteResponseError",
    ),
    "cut chunk": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
        "IncompleteResponseError",
    ),
    "no answer": (raw(b""), "IncompleteResponseError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_response_is_named_and_the_others_are_fetched(fault: str) -> None:
    route, error = FAULTS[fault]

    async def test() -> None:
        async with Site() as site:
            site.routes["/page"] = page(b"hello")
            site.routes["/bad"] = route
            urls = [site.url(path) for path in ("/page?1", "/bad", "/page?2")]
            ended = await fetch("--json", "--concurrency", "1", *urls)
        assert ended.status == 1
        summary = json.loads(ended.out)
        assert summary["succeeded"] == 2
        [failure] = summary["failures"]
        assert failure["error"] == error
        [line] = [line for line in ended.err.splitlines() if line.startswith("cyfetch: ")]
        assert line == f"cyfetch: {site.url('/bad')}: {failure['reason']}"
        assert "Traceback" not in ended.err

    reactor.run(test())


@pytest.mark.parametrize(
    ("start", "status"), [(b"", None), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbit", 200)]
)
def test_timeout_ends_a_url_before_the_head_and_in_the_body(
    start: bytes, status: int | None
) -> None:
    async def test() -> None:
        async with Site() as site:
            site.routes["/"] = raw(start, close=False) if start else silence
            ended = await fetch("--json", "--timeout", "0.2", site.url("/"))
        assert ended.status == 1
        [failure] = json.loads(ended.out)["failures"]
        assert failure["error"] == "EndpointTimeoutError"
        assert failure["status"] == status
        assert "the deadline passed" in ended.err

    reactor.run(test())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def secure_site(authority: trustme.CA) -> Site:
    certificate = authority.issue_cert("127.0.0.1")
    return Site(
        tls=reactor.server_context(
            certificate_pem=b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
            key_pem=certificate.private_key_pem.bytes(),
        )
    )


def test_certificate_that_does_not_verify_is_refused(authority: trustme.CA) -> None:
    async def test() -> None:
        async with secure_site(authority) as site:
            site.routes["/"] = page(b"secret")
            ended = await fetch("--json", site.url("/"))
            assert not site.requests
        assert ended.status == 1
        assert json.loads(ended.out)["failures"][0]["error"] == "TLSCertificateError"

    reactor.run(test())


def test_ca_file_makes_its_certificates_trusted(authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def test() -> None:
        async with secure_site(authority) as site:
            site.routes["/"] = page(b"secret")
            ended = await fetch("--json", "--ca-file", str(tmp_path / "ca.pem"), site.url("/"))
        assert ended.status == 0
        assert json.loads(ended.out)["bytes"] == len(b"secret")

    reactor.run(test())


# -- signals and outputs -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signal_removes_partial_files_and_says_what_was_done(
    name: str, status: int, tmp_path: Path
) -> None:
    async def test() -> None:
        stalled = Stalled()
        async with Site() as site:
            site.routes["/done"] = page(b"hello")
            site.routes["/file"] = stalled
            async with fetching(
                *("--output-dir", str(tmp_path / "out"), "--concurrency", "1"),
                *(site.url("/done"), site.url("/file"), site.url("/never")),
            ) as child:
                await stalled.taken.wait()
                child.process.send_signal(getattr(signal, name))
                ended = await child.end()
        assert ended.status == status
        lines = ended.out.splitlines()
        assert lines[0] == f"stopped by {name}, 2 not fetched; done until then:"
        assert lines[1].startswith("1 request, 0 failed, ")
        assert " MB in " in lines[1]
        assert "Traceback" not in ended.err
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["done"]
        assert "/never" not in site.requests

    reactor.run(test())


@on_reactor
async def test_signal_ends_a_run_that_waits_for_standard_input() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        async with fetching("--json", "-", stdin=subprocess.PIPE) as child:
            stdin = child.process.stdin
            assert stdin is not None
            stdin.write(site.url("/page\n").encode())
            await site.arrived.wait()
            child.process.send_signal(signal.SIGINT)
            await child.process.wait()
            ended = await child.end()
    assert ended.status == 130
    assert json.loads(ended.out)["interrupted"] == "SIGINT"


def test_first_signal_is_noted_and_the_second_has_the_systems_effect() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.number == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


def test_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
        assert not interruption.number
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_that_nobody_reads_does_not_change_the_status(stream: str) -> None:
    async def test() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            async with Site() as site:
                site.routes["/page"] = page(b"hello")
                options: dict[str, Any] = {stream: writing}
                ended = await fetch(
                    *(site.url(f"/page?{number}") for number in range(5)), **options
                )
        finally:
            os.close(writing)
        assert ended.status == 0
        assert site.requests.total() == 5
        assert "rror" not in ended.err + ended.out

    reactor.run(test())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@on_reactor
async def test_summary_that_cannot_be_written_fails_the_run() -> None:
    async with Site() as site:
        site.routes["/page"] = page(b"hello")
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            ended = await fetch("--quiet", "--json", site.url("/page"), stdout=full)
        finally:
            os.close(full)
    assert ended.status == 1
    assert ended.err == f"cyfetch: standard output: {os.strerror(errno.ENOSPC)}\n"


# -- without a URL, and on a terminal ------------------------------------------------------------


@on_reactor
async def test_run_without_a_url_fetches_from_a_server_of_its_own() -> None:
    ended = await fetch()
    assert ended.status == 0
    assert ended.err == ""
    assert "every body came as it was served" in ended.out
    assert " requests, 0 failed, " in ended.out
    assert "16 connections opened, reused " in ended.out


@on_reactor
async def test_run_without_a_url_heeds_the_options() -> None:
    ended = await fetch("--json", "--concurrency=3", "--quiet")
    summary = json.loads(ended.out)
    assert summary["failed"] == 0
    assert summary["connections"]["opened"] == 3


WORKING = [name for name, why in reactor.available_pollers().items() if not why]


@pytest.mark.parametrize("name", [name for name in WORKING if name != "simulated"])
@on_reactor
async def test_demonstration_names_the_poller_that_it_runs_on(name: str) -> None:
    ended = await fetch("--concurrency=3", env={**os.environ, "REACTOR_POLLER": name})
    assert f", {name}, " in ended.out.splitlines()[0]


def demonstrate_on_a_terminal(environment: dict[str, str]) -> tuple[str, str]:
    """Return what the demonstration writes to standard output, a pipe, and to a terminal."""
    pty = pytest.importorskip("pty", reason="terminals of POSIX systems")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, *FETCH],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment},
    ) as child:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65_536):
                shown += data
        except OSError as error:
            if error.errno != errno.EIO:  # Linux: the other side is closed
                raise
        finally:
            os.close(ours)
        assert child.stdout is not None
        out = child.stdout.read()
    assert child.returncode == 0
    return out.decode(), shown.decode()


def test_terminal_shows_a_bar_where_rich_is_installed() -> None:
    pytest.importorskip("rich")
    out, shown = demonstrate_on_a_terminal({})
    assert "5000 requests, 0 failed" in out
    assert "\x1b[" in shown
    assert "of 5000, 0 failed" in shown


def test_terminal_shows_no_bar_without_rich(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    out, shown = demonstrate_on_a_terminal({"PYTHONPATH": path})
    assert "5000 requests, 0 failed" in out
    assert shown == ""


def test_dumb_terminal_shows_no_bar() -> None:
    _, shown = demonstrate_on_a_terminal({"TERM": "dumb"})
    assert shown == ""


# -- bad usage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency", "0"], "--concurrency: '0' is not a number from 1 to 65536"),
        (["--concurrency", "many"], "--concurrency: 'many' is not a number from 1 to 65536"),
        (["--timeout", "0"], "--timeout: '0' is not a number of seconds above 0"),
        (["--timeout", "nan"], "--timeout: 'nan' is not a number of seconds above 0"),
        (["--timeout", "inf"], "--timeout: 'inf' is not a number of seconds above 0"),
        (["--header", "Authorization s3cret"], "'Authorization': not of the form 'Name: value'"),
        (["--header", "X: s3cret\r\nY: 1"], "'X': a control character in the value"),
        (["--header", "X : s3cret"], "'X ': the name is not a token"),
        (["--header", "content-length: 3"], "'content-length': it follows from the data"),
        (["--ca-file", "no/such", "http://host"], "--ca-file: 'no/such': No such file"),
        (
            ["--ca-file", __file__, "http://host"],
            f"{__file__!r}: ca_file holds no certificate in PEM",
        ),
        (["--input", "no/such"], "--input: 'no/such': No such file"),
        (["--input", "."], "--input: '.': "),
        (["--output-dir", "x"], "--output-dir: there is no URL"),
        (["--output-dir", __file__, "http://host"], " exists"),
        (["-", "-"], "standard input can be read only once"),
        (["-", "--input", "-"], "standard input can be read only once"),
        (["http://host", "nonsense"], "'nonsense': invalid URL: scheme: there is none"),
        (["http://host:99999/"], "invalid URL: port: '99999' is not from 1 to 65535"),
        (["--timeou=3"], "unrecognized arguments: --timeou=3"),
    ],
)
def test_bad_usage_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    last = usage_error(capsys, *arguments)
    assert message in last
    assert "s3cret" not in last


def test_poller_that_is_not_to_be_had_is_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REACTOR_POLLER", "nonsense")
    assert "REACTOR_POLLER: unknown poller 'nonsense'; there is " in usage_error(
        capsys, "http://127.0.0.1:1/"
    )
    refused = next(name for name in reactor.available_pollers() if name not in WORKING)
    monkeypatch.setenv("REACTOR_POLLER", refused)
    assert "REACTOR_POLLER: " in usage_error(capsys, "http://127.0.0.1:1/")


def test_bad_usage_creates_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usage_error(capsys, "--output-dir", str(tmp_path / "out"), "nonsense")
    assert not (tmp_path / "out").exists()


def test_help_states_what_is_followed_and_every_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "Redirects are followed, 20 at most" in text
    assert "Exit status: 0 all fetched, 1 any failed, 2 bad usage, 130 Ctrl-C" in text


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("cyfetch ")
