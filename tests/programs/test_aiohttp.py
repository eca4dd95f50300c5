"""aiohttp's client and its server, both on our loop."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import reactor
from tests.programs.certificates import contexts

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")

WAYS = ["tcp", "unix", "tls"]
PIECES = [random.Random(at).randbytes(100_000) for at in range(100)]


class Site:
    """A served application and a session of the client that reaches it."""

    def __init__(self, session: Any, base: str) -> None:
        self.session = session
        self.base = base


@contextlib.asynccontextmanager
async def serving(
    way: str, directory: Path, routes: dict[str, Callable[[Any], Awaitable[Any]]]
) -> AsyncIterator[Site]:
    assert isinstance(asyncio.get_running_loop(), reactor.EventLoop)
    app = web.Application(client_max_size=0)
    for path, handler in routes.items():
        app.router.add_route("*", path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    server_context, client_context = contexts()
    if way == "unix":
        path = str(directory / "site.sock")
        await web.UnixSite(runner, path).start()
        connector, base = aiohttp.UnixConnector(path), "http://localhost"
    else:
        context = server_context if way == "tls" else None
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        connector = aiohttp.TCPConnector(ssl=client_context)
        scheme = "https" if way == "tls" else "http"
        base = f"{scheme}://localhost:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Site(session, base)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("way", WAYS)
def test_many_requests_at_once_get_each_its_own_answer(way: str, tmp_path: Path) -> None:
    async def answer(request: Any) -> Any:
        asked = await request.json()
        await asyncio.sleep(0)
        return web.json_response({"asked": asked, "query": request.query["n"]})

    async def main() -> None:
        async with serving(way, tmp_path, {"/": answer}) as site:

            async def ask(number: int) -> Any:
                url = f"{site.base}/?n={number}"
                async with site.session.post(url, json={"number": number}) as response:
                    assert response.status == 200
                    return await response.json()

            answers = await asyncio.gather(*map(ask, range(300)))
            assert answers == [{"asked": {"number": n}, "query": str(n)} for n in range(300)]

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_bodies_are_streamed_both_ways(way: str, tmp_path: Path) -> None:
    async def echo(request: Any) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in request.content.iter_any():
            await response.write(piece)
        return response

    async def upload() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    async def main() -> None:
        async with serving(way, tmp_path, {"/": echo}) as site:
            received = hashlib.sha256()
            async with site.session.post(site.base, data=upload()) as response:
                async for piece in response.content.iter_chunked(30_000):
                    received.update(piece)
            assert received.digest() == hashlib.sha256(b"".join(PIECES)).digest()

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_file_is_sent_whole(way: str, tmp_path: Path) -> None:
    content = b"".join(PIECES)
    path = tmp_path / "file"
    path.write_bytes(content)

    async def send(request: Any) -> Any:
        return web.FileResponse(path)

    async def main() -> None:
        async with serving(way, tmp_path, {"/": send}) as site:
            async with site.session.get(site.base) as response:
                assert await response.read() == content
            part = {"Range": "bytes=1000000-5999999"}
            async with site.session.get(site.base, headers=part) as response:
                assert response.status == 206
                assert await response.read() == content[1_000_000:6_000_000]

    reactor.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_websocket_carries_messages_both_ways(way: str, tmp_path: Path) -> None:
    async def echo(request: Any) -> Any:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        return socket

    async def main() -> None:
        async with (
            serving(way, tmp_path, {"/": echo}) as site,
            site.session.ws_connect(site.base, max_msg_size=0) as socket,
        ):
            for number in range(1000):
                await socket.send_str(f"message {number}")
            for number in range(1000):
                assert await socket.receive_str() == f"message {number}"
            big = b"".join(PIECES)
            await socket.send_bytes(big)
            assert await socket.receive_bytes() == big
            await socket.close()
            assert socket.close_code == aiohttp.WSCloseCode.OK

    reactor.run(main())


def test_request_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        stuck = asyncio.Event()

        async def hang(request: Any) -> Any:
            await stuck.wait()
            return web.Response(text="late")

        async with serving("tcp", tmp_path, {"/": hang}) as site:
            with pytest.raises(asyncio.TimeoutError):
                await site.session.get(site.base, timeout=aiohttp.ClientTimeout(total=0.05))
            stuck.set()
            async with site.session.get(site.base) as response:
                assert await response.text() == "late"

    reactor.run(main())


def test_server_notices_that_its_client_has_gone(tmp_path: Path) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def pour(request: Any) -> Any:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(PIECES[0])
            except ConnectionError:
                gone.set()
                raise

        async with serving("tcp", tmp_path, {"/": pour}) as site:
            async with site.session.get(site.base) as response:
                await response.content.readexactly(1_000_000)
                response.close()
            await asyncio.wait_for(gone.wait(), 20)

    reactor.run(main())


def test_request_in_progress_is_answered_before_the_server_ends(tmp_path: Path) -> None:
    async def main() -> None:
        asked = asyncio.Event()
        finish = asyncio.Event()

        async def answer(request: Any) -> Any:
            asked.set()
            await finish.wait()
            return web.Response(text="whole")

        async with aiohttp.ClientSession() as session:
            async with serving("tcp", tmp_path, {"/": answer}) as site:
                task = asyncio.create_task(session.get(site.base))
                await asked.wait()
                asyncio.get_running_loop().call_soon(finish.set)
            async with await task as response:
                assert await response.text() == "whole"

    reactor.run(main())
