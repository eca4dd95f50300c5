"""uvicorn serving an ASGI application on our loop: inside of a program, and as one."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import reactor
from protocols.http import AsyncClient
from tests.peers.child import running
from tests.programs import asgi_app

uvicorn = pytest.importorskip("uvicorn")


@contextlib.asynccontextmanager
async def serving(http: str) -> AsyncIterator[str]:
    """Serve the application on the running loop; the URL of its root."""
    config = uvicorn.Config(
        asgi_app.app, http=http, ws="none", lifespan="on", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_application_answers_many_clients_at_once(http: str) -> None:
    async def main() -> None:
        async with serving(http) as base, AsyncClient() as client:
            responses = await asyncio.gather(*(client.get(f"{base}/loop") for _ in range(200)))
            for response in responses:
                assert response.status_code == 200
                assert json.loads(response.content) == {"loop": "reactor.eventloop.EventLoop"}

    reactor.run(main())


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_bodies_are_streamed_both_ways(http: str) -> None:
    async def main() -> None:
        async with serving(http) as base, AsyncClient() as client:
            body = asgi_app.PIECE * 50
            response = await client.post(f"{base}/echo", content=body)
            assert response.content == body
            response = await client.get(f"{base}/pour")
            assert response.content == asgi_app.PIECE * asgi_app.PIECES

    reactor.run(main())


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_application_hears_of_a_client_that_has_gone(http: str) -> None:
    asgi_app.gone.clear()

    async def main() -> None:
        async with serving(http) as base:
            host, port = base.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        # The server waits for its requests before it ends.
        assert asgi_app.gone == ["/wait"]

    reactor.run(main())


async def answer_over(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /loop HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_program_serves_until_a_signal_and_shuts_down_in_order(
    http: str, number: signal.Signals, tmp_path: Path
) -> None:
    path = tmp_path / "uvicorn.sock"
    command = [
        "-m", "uvicorn", "asgi_app:app", "--app-dir", str(Path(__file__).parent),
        "--loop", "reactor:new_event_loop", "--http", http, "--uds", str(path),
    ]  # fmt: skip

    async def main() -> None:
        async with running(*command, stderr=subprocess.STDOUT) as child:
            output: Any = child.process.stdout
            said = b""
            while b"Uvicorn running on" not in said:
                line = await output.readline()
                assert line, said
                said += line
            assert b'"reactor.eventloop.EventLoop"' in await answer_over(path)
            child.process.send_signal(number)
            said += await output.read()
            status = await child.process.wait()
        order = [b"lifespan.startup", b"Uvicorn running", b"lifespan.shutdown", b"Finished"]
        places = [said.find(each) for each in order]
        assert places == sorted(places)
        assert places[0] >= 0, said
        assert b"Traceback" not in said, said
        # Once it has shut down it sends itself the signal anew; SIGINT it takes for an end.
        assert status == (-signal.SIGTERM if number == signal.SIGTERM else 0)

    reactor.run(main())
