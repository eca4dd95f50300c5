"""The fetcher's requests and transfers, from outside: methods, data, output, resume, retries."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import reactor
from protocols.http import Headers, url
from protocols.http.fetch import main
from protocols.http.fetch_resume import ResumableFile
from protocols.http.fetch_run import Pace
from tests.peers.child import Ended, running
from tests.peers.echo import echo
from tests.peers.scripted import Authority, Conversation, answer, on_reactor, run, serving
from tests.peers.scripts import says, says_and_closes

BODY = bytes(range(256)) * 400
TAG = 'ETag: "one"'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run where no source tree is, for ``-m`` looks at the current directory first."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


async def fetch(*arguments: str) -> Ended:
    async with running("-m", "protocols.http", *arguments) as child:
        return await child.end()


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


async def told(*arguments: str) -> Any:
    """Return what an echoing server says that it was asked."""
    ended = await fetch("--quiet", "-o", "-", *arguments)
    assert (ended.status, ended.err) == (0, "")
    return json.loads(ended.out)


# -- the request ----------------------------------------------------------------------------


@on_reactor
async def test_method_and_data_are_sent(here: Path) -> None:
    (here / "it").write_bytes(b"in a file")
    async with serving(echo) as server:
        got = await told("-X", "DELETE", server.url("/a"))
        assert (got["method"], got["content"]) == ("DELETE", "")
        got = await told("--data", "a=1", server.url("/a"))
        assert (got["method"], got["content"]) == ("POST", "a=1")
        assert ["Content-Type", "application/x-www-form-urlencoded"] in got["fields"]
        got = await told("-X", "PUT", "--data-file", "it", server.url("/a"))
        assert (got["method"], got["content"]) == ("PUT", "in a file")
        assert ["Content-Length", "9"] in got["fields"]
        got = await told("--data", "{}", "--header", "Content-Type: application/json", server.url())
        assert ["Content-Type", "application/json"] in got["fields"]


@on_reactor
async def test_redirect_is_followed_and_its_secrets_stay() -> None:
    async with serving(echo) as other, serving(echo) as server:
        assert (await told(server.url("/redirect")))["target"] == "/elsewhere"

        async def away(peer: Conversation) -> None:
            await peer.request()
            await peer.send(answer(b"", f"Location: {other.url('/x')}", status="302 Found"))
            await peer.until_closed()

        async with serving(away) as first:
            got = await told("--header", "Authorization: Bearer t", first.url())
        assert got["target"] == "/x"
        assert "Authorization" not in dict(got["fields"])


# -- the output -----------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@on_reactor
async def test_output_that_is_no_file_is_written_to_and_stays_what_it_is(here: Path) -> None:
    os.mkfifo(here / "pipe")
    (here / "full").symlink_to("/dev/full")
    (here / "null").symlink_to("/dev/null")
    with (here / "pipe").open("r+b", buffering=0) as reader:
        async with serving(says(*[answer(b"four")] * 4)) as server:
            ended = await fetch("-o", "pipe", server.url())
            assert (ended.status, os.read(reader.fileno(), 100)) == (0, b"four")
            assert "-> pipe" in ended.err
            assert (await fetch("-C", "-o", "null", server.url())).status == 0
            ended = await fetch("-o", "full", server.url())
            assert ended.status == 1
            assert "full: No space left on device" in ended.err
    assert stat.S_ISFIFO((here / "pipe").stat().st_mode)
    assert (here / "full").is_symlink()
    assert (here / "null").is_symlink()
    assert names(here) == ["full", "null", "pipe"]


@pytest.mark.skipif(os.name == "nt", reason="a link takes a privilege")
@on_reactor
async def test_output_that_is_a_link_stays_one(here: Path) -> None:
    (here / "there").mkdir()
    (here / "link").symlink_to("there/file")
    async with serving(says(answer(b"four"))) as server:
        assert (await fetch("-o", "link", server.url())).status == 0
    assert (here / "link").is_symlink()
    assert (here / "there" / "file").read_bytes() == b"four"


@on_reactor
async def test_body_goes_to_standard_output_and_everything_else_to_the_other(here: Path) -> None:
    async with serving(says(answer(b"it"))) as server:
        ended = await fetch("-o", "-", server.url())
    assert (ended.status, ended.out) == (0, "it")
    assert "1 request, 0 failed" in ended.err
    assert names(here) == []


@pytest.mark.skipif(os.name == "nt", reason="pipes there do not wait otherwise")
@on_reactor
async def test_standard_output_that_does_not_wait_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def read_slowly() -> bytes:
        return b"".join(iter(lambda: os.read(reader, 4096), b""))

    try:
        async with (
            serving(says(answer(BODY * 20))) as server,
            running("-m", "protocols.http", "-o", "-", server.url(), stdout=writer) as child,
        ):
            os.close(writer)
            with ThreadPoolExecutor(1) as threads:
                reading = asyncio.get_running_loop().run_in_executor(threads, read_slowly)
                got, ended = await asyncio.gather(reading, child.end())
    finally:
        os.close(reader)
    assert (ended.status, got == BODY * 20) == (0, True), ended.err


@on_reactor
async def test_body_goes_to_a_file_of_ones_own_choice(here: Path) -> None:
    async with serving(says(answer(b"it"))) as server:
        ended = await fetch("-o", "mine.txt", server.url("/theirs"))
    assert ended.status == 0
    assert (here / "mine.txt").read_bytes() == b"it"
    assert names(here) == ["mine.txt"]


# -- going on -------------------------------------------------------------------------------


class Versions:
    """A server with one resource that breaks off its first answer, and may change after it.

    Attributes:
        ranges: the Range and If-Range of each request.
    """

    def __init__(self, second: list[bytes], *, fields: str = TAG) -> None:
        self.ranges: list[tuple[str | None, str | None]] = []
        self._answers = [
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n\r\n" % (len(BODY), fields.encode())
            + BODY[:50_000],
            *second,
        ]

    async def __call__(self, peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            fields = dict(
                line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:] if line
            )
            self.ranges.append((fields.get("range"), fields.get("if-range")))
            said = self._answers.pop(0)
            await peer.send(said)
            breaks_off = b"200 OK" in said and len(said) < len(BODY)
            if breaks_off or b"Connection: close" in said:
                peer.close()
                return


def part(first: int, *, fields: str = TAG, of: int = len(BODY), body: bytes = BODY) -> bytes:
    rest = f"Content-Range: bytes {first}-{of - 1}/{of}"
    return answer(body[first:], rest, fields, status="206 Partial Content")


@on_reactor
async def test_download_goes_on_where_it_broke_off(here: Path) -> None:
    versions = Versions([part(50_000)])
    async with serving(versions) as server:
        ended = await fetch("--quiet", "-C", "--output-dir", "d", server.url("/f"))
        assert ended.status == 1
        assert names(here / "d") == [".f.part", ".f.part.json"]
        ended = await fetch("--json", "-C", "--output-dir", "d", server.url("/f"))
    assert ended.status == 0
    assert json.loads(ended.out)["bytes"] == len(BODY) - 50_000
    assert versions.ranges == [(None, None), ("bytes=50000-", '"one"')]
    assert names(here / "d") == ["f"]
    assert (here / "d" / "f").read_bytes() == BODY


OTHER = bytes(300_000)


@pytest.mark.parametrize(
    ("second", "requests", "expected"),
    [
        # another version: 200 in place of 206
        ([answer(OTHER, 'ETag: "two"')], 2, OTHER),
        # a server that does not heed If-Range, and says of which version its part is
        ([part(50_000, fields='ETag: "two"', body=OTHER, of=300_000), answer(OTHER)], 3, OTHER),
        # another part than the one asked for
        ([part(0), answer(OTHER)], 3, OTHER),
        # not all of the rest
        ([answer(b"x", "Content-Range: bytes 50000-50000/102400", status="206 P"), answer(OTHER)],
         3, OTHER),
        # it is shorter now
        ([answer(b"", "Content-Range: bytes */7", status="416 No"), answer(OTHER)], 3, OTHER),
        # what is here is all of it
        ([answer(b"", "Content-Range: bytes */50000", status="416 No")], 2, BODY[:50_000]),
    ],
    ids=["changed", "changed, 206", "another part", "not all", "shorter", "whole"],
)  # fmt: skip
@on_reactor
async def test_two_versions_never_meet_in_one_file(
    here: Path, second: list[bytes], requests: int, expected: bytes
) -> None:
    versions = Versions(second)
    async with serving(versions) as server:
        await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
        assert (here / ".f.part").stat().st_size == 50_000
        ended = await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
    assert (ended.status, ended.err) == (0, "")
    assert (here / "f").read_bytes() == expected
    assert len(versions.ranges) == requests
    assert names(here) == ["f"]


MODIFIED = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"
A_SECOND_LATER = "Date: Thu, 01 Jan 2026 00:00:01 GMT"


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (TAG, '"one"'),
        (f"{MODIFIED}\r\n{A_SECOND_LATER}", "thu, 01 jan 2026 00:00:00 gmt"),
        # it may have changed once more within that second (RFC 9110 section 8.8.2.2)
        (f"{MODIFIED}\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT", None),
        (MODIFIED, None),
        (f"{MODIFIED}\r\nDate: now", None),
        (f"Last-Modified: then\r\n{A_SECOND_LATER}", None),
        (f'ETag: W/"one"\r\n{MODIFIED}\r\n{A_SECOND_LATER}', None),
        ('ETag: "one", "two"', None),
        ("X: y", None),
    ],
)
@on_reactor
async def test_rfc9110_13_1_5_only_a_strong_validator_is_worth_keeping(
    here: Path, fields: str, kept: str | None
) -> None:
    versions = Versions([answer(BODY)], fields=fields)
    async with serving(versions) as server:
        await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
        assert (here / ".f.part").exists() == (kept is not None)
        await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
    assert versions.ranges[1] == (None if kept is None else "bytes=50000-", kept)
    assert (here / "f").read_bytes() == BODY


@pytest.mark.parametrize("fields", ["Last-Modified: Fri, 02 Jan 2026 00:00:00 GMT", TAG])
@on_reactor
async def test_part_of_another_date_or_with_a_tag_is_not_of_the_version_with_a_date(
    here: Path, fields: str
) -> None:
    versions = Versions(
        [part(50_000, fields=fields), answer(OTHER)], fields=f"{MODIFIED}\r\n{A_SECOND_LATER}"
    )
    async with serving(versions) as server:
        await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
        ended = await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
    assert (ended.status, ended.err) == (0, "")
    assert (here / "f").read_bytes() == OTHER


REST = f"HTTP/1.1 206 P\r\n{TAG}\r\nContent-Range: bytes 50000-102399/102400\r\n".encode()


def chunked(body: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize(
    "said",
    [
        b"Content-Length: 5\r\n\r\nshort",
        b"Content-Length: 0\r\n\r\n",
        chunked(b"short"),
        b"Connection: close\r\n\r\nshort",
        chunked(bytes(60_000)),
    ],
    ids=["short", "empty", "short, chunked", "short, closed", "long"],
)
@on_reactor
async def test_rfc9110_14_4_part_that_is_not_as_long_as_its_range_is_not_committed(
    here: Path, said: bytes
) -> None:
    versions = Versions([REST + said, answer(BODY)])
    async with serving(versions) as server:
        await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
        ended = await fetch("--quiet", "--retry", "1", "-C", "-o", "f", server.url("/f"))
        assert ended.status == 1
        assert "the part is not as long as its Content-Range says" in ended.err
        assert names(here) == []
        ended = await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
    assert (ended.status, ended.err) == (0, "")
    assert versions.ranges[2:] == [(None, None)]
    assert (here / "f").read_bytes() == BODY


LONG = "1" * 5000


@pytest.mark.parametrize(
    ("status", "content_range"),
    [
        (206, f"bytes 50000-102399/{LONG}"),
        (206, f"bytes {LONG}-102399/102400"),
        (416, f"bytes */{LONG}"),
    ],
    ids=["size", "first", "416"],
)
@on_reactor
async def test_long_number_in_a_content_range_makes_it_an_invalid_one(
    here: Path, status: int, content_range: str
) -> None:
    wrong = answer(b"", f"Content-Range: {content_range}", status=f"{status} It")
    versions = Versions([wrong, answer(BODY)])
    async with serving(versions) as server:
        await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
        ended = await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
    assert (ended.status, ended.err) == (0, "")
    assert versions.ranges[2:] == [(None, None)]
    assert (here / "f").read_bytes() == BODY


@pytest.mark.parametrize(
    "note",
    [
        "[" * 200_000,
        '{"url": ' + "9" * 5000 + "}",
        '["a list"]',
        json.dumps({"validator": '"one"\r\nX: y'}),
        json.dumps({"validator": '"\u20ac"'}),
        json.dumps({"validator": '"\ud800"'}),
        json.dumps({"validator": 'W/"one"'}),
        json.dumps({"validator": ""}),
    ],
    ids=["deep", "long number", "list", "lines", "euro", "surrogate", "weak", "empty"],
)
@on_reactor
async def test_note_that_cannot_be_read_or_sent_is_none(here: Path, note: str) -> None:
    asked: list[bytes] = []

    async def script(peer: Conversation) -> None:
        while (head := await peer.request()) is not None:
            asked.append(head)
            await peer.send(answer(b"new"))

    async with serving(script) as server:
        url = server.url("/f")
        (here / ".f.part").write_bytes(b"old")
        (here / ".f.part.json").write_text(
            note.replace('{"validator"', f'{{"url": {json.dumps(url)}, "validator"')
        )
        ended = await fetch("--quiet", "-C", "-o", "f", url)
    assert (ended.status, ended.err) == (0, "")
    assert [b"Range" in head for head in asked] == [False]
    assert (here / "f").read_bytes() == b"new"
    assert names(here) == ["f"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("has_reader", [False, True])
@on_reactor
async def test_beginning_that_is_a_named_pipe_is_refused_and_not_waited_for(
    here: Path, has_reader: bool
) -> None:
    os.mkfifo(here / ".f.part")
    os.mkfifo(here / ".f.part.json")
    reader = os.open(here / ".f.part", os.O_RDONLY | os.O_NONBLOCK) if has_reader else None
    try:
        async with serving(says(answer(b"four", TAG))) as server:
            ended = await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
    finally:
        if reader is not None:
            os.close(reader)
    assert ended.status == 1
    assert ended.err.endswith("f: '.f.part' is no regular file\n")
    assert stat.S_ISFIFO((here / ".f.part").stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="a link takes a privilege")
@on_reactor
async def test_beginning_that_is_a_link_is_refused(here: Path) -> None:
    (here / "mine").write_bytes(b"mine")
    (here / ".f.part").symlink_to("mine")
    async with serving(says(answer(b"four", TAG))) as server:
        ended = await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
    assert ended.status == 1
    assert ended.err.endswith("f: '.f.part' is no regular file\n")
    assert (here / "mine").read_bytes() == b"mine"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock(2)")
@pytest.mark.parametrize("kept", [b"", b"kept "])
def test_file_that_another_run_writes_is_left_to_it(here: Path, kept: bytes) -> None:
    """Both have asked for the rest, or for all, before one of them writes."""
    size = len(kept) + 3

    def asks() -> ResumableFile:
        file = ResumableFile(here / "f", url.URL("http://127.0.0.1/f"))
        status = 206 if file.ask() else 200
        fields = [("ETag", '"one"')]
        if status == 206:
            fields.append(("Content-Range", f"bytes {file.offset}-{size - 1}/{size}"))
        assert file.answered(status, Headers(fields)) == ("rest" if kept else "anew")
        return file

    if kept:
        (here / ".f.part").write_bytes(kept)
        note = {"url": "http://127.0.0.1/f", "validator": '"one"'}
        (here / ".f.part.json").write_text(json.dumps(note))
    one, two, three = asks(), asks(), asks()
    with one:
        one.write(b"all")
        with pytest.raises(FileExistsError, match="is written by another run"), two:
            pytest.fail("it is another's")
        one.commit()
    assert (here / "f").read_bytes() == kept + b"all"
    assert names(here) == ["f"]
    if kept:  # what it would go on from has its name by now
        with pytest.raises(FileNotFoundError), three:
            pytest.fail("it is another's")
    else:
        with three:
            three.write(b"new")
            three.commit()
    assert (here / "f").read_bytes() == (kept + b"all" if kept else b"new")
    assert names(here) == ["f"]


@on_reactor
async def test_beginning_of_another_urls_body_is_thrown_away(here: Path) -> None:
    versions = Versions([answer(BODY)])
    async with serving(versions) as server:
        await fetch("--quiet", "-C", "-o", "f", server.url("/f"))
        await fetch("--quiet", "-C", "-o", "f", server.url("/g"))
    assert versions.ranges[1] == (None, None)
    assert (here / "f").read_bytes() == BODY


# -- retries and pace -------------------------------------------------------------------------


@on_reactor
async def test_what_fails_for_a_while_is_tried_again(here: Path) -> None:
    versions = Versions([answer(b"", status="503 Busy"), part(50_000)])
    async with serving(versions) as server:
        ended = await fetch("--retry", "2", "-C", "-o", "f", server.url("/f"))
    assert ended.status == 0
    assert (here / "f").read_bytes() == BODY
    first, second = [line for line in ended.err.splitlines() if "again in" in line]
    assert first.endswith("; again in 1 s")
    assert "503 Busy; again in 2 s" in second
    assert versions.ranges[1:] == [("bytes=50000-", '"one"')] * 2


@pytest.mark.parametrize(
    ("arguments", "said", "requests"),
    [
        ([], answer(b"", status="404 No"), 1),
        (["--data", "x"], answer(b"", status="503 Busy"), 1),
        (["--retry", "0"], answer(b"", status="503 Busy"), 1),
        ([], b"no HTTP at all\r\n\r\n", 1),
        ([], answer(b"", "Retry-After: 0", status="429 Slow"), 2),
    ],
)
@on_reactor
async def test_what_would_not_be_better_later_is_not_tried_again(
    arguments: list[str], said: bytes, requests: int
) -> None:
    asked = 0

    async def script(peer: Conversation) -> None:
        nonlocal asked
        while await peer.request() is not None:
            asked += 1
            await peer.send(said)
            if b"HTTP/1.1" not in said:
                return

    async with serving(script) as server:
        ended = await fetch("--quiet", "--retry", "1", *arguments, server.url())
    assert ended.status == 1
    assert asked == requests


@on_reactor
async def test_body_that_is_at_standard_output_already_is_not_begun_again() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"
    async with serving(says_and_closes(said)) as server:
        ended = await fetch("--quiet", "--retry", "3", "-o", "-", server.url())
        assert (ended.status, ended.out) == (1, "some")
        assert server.connections == 1


@on_reactor
async def test_part_that_nobody_asked_for_is_not_kept_as_the_whole(here: Path) -> None:
    part = answer(b"hello", "Content-Range: bytes 0-4/100", status="206 Partial Content")
    async with serving(says(part)) as server:
        ended = await fetch("-o", "file", server.url())
        assert ended.status == 1
        assert "a part that nobody asked for" in ended.err
        assert names(here) == []
        ended = await fetch("-o", "file", "--header", "Range: bytes=0-4", server.url())
        assert (ended.status, (here / "file").read_bytes()) == (0, b"hello")


@on_reactor
async def test_pace_that_is_too_slow_ends_with_the_timeout(here: Path) -> None:
    slowly = ("--limit-rate", "1", "--timeout", "1", "-o", "file")
    async with serving(says(answer(BODY * 20))) as server:  # more than is read at once
        ended = await fetch(*slowly, server.url())
        assert (ended.status, names(here)) == (1, [])
        assert "the deadline passed" in ended.err
    async with serving(says(answer(b"all of it"))) as server:
        ended = await fetch(*slowly, server.url())
        assert (ended.status, (here / "file").read_bytes()) == (0, b"all of it")


def test_pace_is_that_of_all_downloads_together() -> None:
    async def main() -> float:
        pace = Pace(1_000_000)
        began = time.monotonic()
        await asyncio.gather(*[pace.take(10_000) for _ in range(10)])
        return time.monotonic() - began

    assert reactor.run(main()) >= 0.099  # the tenth of a second that 100,000 bytes may take


@on_reactor
async def test_rate_is_limited() -> None:
    async with serving(says(answer(BODY))) as server:
        ended = await fetch("--json", "--limit-rate", "200k", server.url())
    assert json.loads(ended.out)["seconds"] >= 0.5


# -- the way ----------------------------------------------------------------------------------


@on_reactor
async def test_credentials_go_to_the_origin_of_each_url() -> None:
    async with serving(echo) as one, serving(echo) as two:
        ended = await fetch("--user", "ann:secret", one.url("/basic"), two.url("/basic"))
        assert ended.status == 0
        assert "secret" not in ended.err
        ended = await fetch("--quiet", "--user", "ann:wrong", one.url("/basic"))
        assert ended.err == f"cyfetch: {one.url('/basic')}: 401 No\n"


@on_reactor
async def test_netrc_is_read_when_it_is_asked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = here / ".netrc"
    netrc.write_text("machine 127.0.0.1 login ann password secret\n")
    netrc.chmod(0o600)
    for name in ("HOME", "USERPROFILE"):  # Windows has the second one
        monkeypatch.setenv(name, str(here))
    async with serving(echo) as server:
        assert (await fetch(server.url("/basic"))).status == 1
        assert (await fetch("--netrc", server.url("/basic"))).status == 0


@on_reactor
async def test_proxy_is_the_way() -> None:
    async with serving(echo) as proxy:
        got = await told(
            "--proxy", f"http://ann:secret@127.0.0.1:{proxy.port}", "http://o.example/"
        )
    assert got["target"] == "http://o.example/"
    assert dict(got["fields"])["Proxy-Authorization"] == "Basic YW5uOnNlY3JldA=="


# -- timings ----------------------------------------------------------------------------------


def test_timings_tell_each_phase_of_each_url(authority: Authority, here: Path) -> None:
    (here / "roots.pem").write_bytes(authority.pem)
    options = ["--ca-file", "roots.pem", "--timings", "--concurrency", "1"]

    async def main() -> None:
        async with serving(echo) as plain, serving(echo, tls=authority.server()) as secure:
            urls = [plain.url("/a"), plain.url("/b"), secure.url("/c", host="localhost")]
            ended = await fetch("--json", *options, *urls)
            assert ended.status == 0, ended.err
            first, again, over_tls = json.loads(ended.out)["timings"]
            assert [each["url"] for each in (first, again, over_tls)] == urls
            for each in (first, again, over_tls):
                assert 0 < each["first_byte"] <= each["total"]
            assert first["dns"] >= 0
            assert 0 < first["connect"] < first["first_byte"]
            assert first["tls"] is None
            assert [again[name] for name in ("dns", "connect", "tls")] == [None] * 3
            phases = [over_tls[name] for name in ("dns", "connect", "tls")]
            assert all(seconds > 0 for seconds in phases)
            assert sum(phases) < over_tls["first_byte"]
            ended = await fetch(*options, *urls)
            head, *rows = ended.out.splitlines()[:4]
            assert head.split() == ["dns", "connect", "tls", "first", "byte", "total", "(ms)"]
            assert [row.split()[-1] for row in rows] == urls
            assert rows[1].split()[:3] == ["-", "-", "-"]

    run(main())


# -- bad usage --------------------------------------------------------------------------------

URL = "http://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-X", "A B", URL], "argument -X/--request: invalid request head: 'method'"),
        (["-X", "CONNECT", URL], "CONNECT makes a tunnel"),
        (["-X", "GET"], "--request: there is no URL"),
        (["--data", "x", "--data-file", "y", URL], "not allowed with argument --data"),
        (["--data-file", "none", URL], "--data-file: 'none': No such file or directory"),
        (["-o", "x", URL, URL], "--output: it takes one URL"),
        (["-o", "none/x", URL], "--output: 'none/x': it is, or is in, no directory"),
        (["-o", "-", "--json", URL], "--json: standard output is for the body"),
        (["-o", "x", "--output-dir", "y", URL], "not allowed with argument"),
        (["-C", URL], "--continue: there is no file to go on with"),
        (["-C", "-o", "x", "--data", "y", URL], "--continue: only a GET can go on"),
        (["-C", "-o", "x", "-X", "PUT", URL], "--continue: only a GET can go on"),
        (["-u", "s3cret", URL], "argument -u/--user: not of the form USER:PASSWORD"),
        (["-u", "a:s3\x00cret", URL], "argument -u/--user"),
        (["--proxy", "ftp://x", URL], "argument --proxy: invalid URL: scheme"),
        (["--netrc", "-u", "a:b", URL], "not allowed with argument"),
        (["--limit-rate", "fast", URL], "'fast' is not a number of bytes"),
        (["--retry", "-1", URL], "'-1' is not a number from 0 to 1000"),
    ],
)
def test_bad_usage_is_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last
    assert "s3cret" not in last
