"""httpx on our client: its two clients, with our transports in place of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from protocols.http.adapters.httpx import AsyncTransport, Transport
from reactor import EndpointError
from tests.peers.echo import LARGE, echo
from tests.peers.scripted import (
    Authority,
    Server,
    black_hole,
    on_reactor,
    refusing_port,
    run,
    serving,
    serving_in_thread,
)

pytestmark = pytest.mark.usefixtures("nothing_is_told")

QUICK = httpx.Timeout(20, read=0.2)


@contextlib.asynccontextmanager
async def using(**options: Any) -> AsyncIterator[tuple[Server, httpx.AsyncClient, AsyncTransport]]:
    """Serve, and yield the server and a client with its transport."""
    arguments = {name: options.pop(name) for name in ("verify", "cert") if name in options}
    transport = AsyncTransport(**arguments)
    async with (
        serving(echo, tls=options.pop("tls", None)) as server,
        httpx.AsyncClient(transport=transport, **options) as client,
    ):
        yield server, client, transport


@pytest.fixture
def server() -> Iterator[Server]:
    with serving_in_thread(echo) as server:
        yield server


# -- requests -----------------------------------------------------------------------------


@on_reactor
async def test_request_goes_out_as_httpx_made_it() -> None:
    async with using() as (server, client, _):
        request = client.build_request(
            "POST",
            server.url("/a"),
            params={"q": "1 2"},
            json={"x": 1},
            headers=[(b"X-Mine", b"\xe9")],
        )
        told = (await client.send(request)).json()
    assert told["method"] == "POST"
    assert told["target"] == "/a?q=1+2"
    assert told["content"] == '{"x":1}'
    sent = {name.lower(): value for name, value in told["fields"]}
    assert len(sent) == len(told["fields"])
    for name, value in request.headers.raw:
        assert sent.pop(name.decode().lower()) == value.decode("latin-1")
    assert sent == {}


@on_reactor
async def test_field_that_httpx_left_out_is_left_out() -> None:
    async with using() as (server, client, _):
        request = httpx.Request("GET", server.url())
        told = (await client.send(request)).json()
    assert [name for name, _ in told["fields"]] == ["Host"]


@on_reactor
async def test_content_from_an_async_iterator_is_streamed_up() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            await asyncio.sleep(0)
            yield b"piece %d;" % number

    async with using() as (server, client, _):
        told = (await client.put(server.url(), content=pieces())).json()
        assert told["content"] == "piece 0;piece 1;piece 2;"
        assert ["Transfer-Encoding", "chunked"] in told["fields"]
        told = (await client.post(server.url(), files={"f": ("n.txt", b"in it")})).json()
        assert "in it" in told["content"]


@on_reactor
async def test_body_is_streamed_down_and_its_connection_kept() -> None:
    async with using() as (server, client, transport):
        async with client.stream("GET", server.url("/large")) as response:
            pieces = [piece async for piece in response.aiter_bytes()]
        assert len(pieces) > 1
        assert b"".join(pieces) == LARGE
        await client.get(server.url())
        assert server.connections == 1
        assert "1 of 1000 connections" in repr(transport)


@on_reactor
async def test_stream_that_is_left_early_costs_its_connection_and_no_more() -> None:
    async with using() as (server, client, _):
        for _ in range(3):
            async with client.stream("GET", server.url("/drip")) as response:
                assert await anext(response.aiter_bytes()) == b"some"
        assert server.connections == 3
        assert (await client.get(server.url())).status_code == 200


@on_reactor
async def test_response_tells_version_reason_and_all_fields() -> None:
    async with using() as (server, client, _):
        response = await client.get(server.url("/status/418"))
        assert (response.http_version, response.reason_phrase) == ("HTTP/1.1", "Said So")
        response = await client.get(server.url("/cookie"))
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2; Path=/"]
        assert (await client.head(server.url())).content == b""


# -- what is left to httpx ----------------------------------------------------------------


@on_reactor
async def test_cookies_redirects_and_codings_are_left_to_httpx() -> None:
    async with using() as (server, client, _):
        response = await client.get(server.url("/redirect"))
        assert response.status_code == 302
        response = await client.get(server.url("/redirect"), follow_redirects=True)
        assert response.json()["target"] == "/elsewhere"
        assert [each.status_code for each in response.history] == [302]
        assert (await client.get(server.url("/gzip"))).json()["target"] == "/gzip"
        await client.get(server.url("/cookie"))
        assert dict(client.cookies) == {"a": "1", "b": "2"}
        told = (await client.get(server.url())).json()
        assert [value for name, value in told["fields"] if name.lower() == "cookie"] == ["a=1; b=2"]
        client.cookies.clear()
        told = (await client.get(server.url())).json()
        assert not [name for name, _ in told["fields"] if name.lower() == "cookie"]


@on_reactor
async def test_credentials_are_httpx_s() -> None:
    async with using() as (server, client, _):
        assert (await client.get(server.url("/basic"))).status_code == 401
        answered = await client.get(server.url("/basic"), auth=("ann", "secret"))
        assert answered.status_code == 200
        url = server.url("/basic").replace("//", "//ann:secret@")
        assert (await client.get(url)).status_code == 200


# -- failures -----------------------------------------------------------------------------


@on_reactor
async def test_failures_are_httpx_s_own_and_name_ours() -> None:
    async with using() as (server, client, _):
        with refusing_port() as port, pytest.raises(httpx.ConnectError) as caught:
            await client.get(f"http://127.0.0.1:{port}/")
        assert isinstance(caught.value.__cause__, EndpointError)
        assert caught.value.request.url.port == port
        with pytest.raises(httpx.RemoteProtocolError, match="9"):
            await client.get(server.url("/cut"))
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("gopher://127.0.0.1/")
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(server.url(), headers={"X": "a\nb"})
        with pytest.raises(httpx.LocalProtocolError):
            await client.request("CONNECT", server.url())


@pytest.mark.parametrize("extension", [{"sni_hostname": "other.example"}, {"target": b"/other"}])
@on_reactor
async def test_extension_that_is_not_followed_is_refused(extension: dict[str, Any]) -> None:
    async with using() as (server, client, _):
        with pytest.raises(httpx.LocalProtocolError, match=next(iter(extension))):
            await client.get(server.url(), extensions=extension)
        assert server.connections == 0


@on_reactor
async def test_error_of_the_caller_s_own_iterator_is_not_translated() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        raise ValueError("mine")

    async with using() as (server, client, _):
        with pytest.raises(ValueError, match="mine"):
            await client.post(server.url(), content=pieces())


@on_reactor
async def test_cancelled_request_leaves_nothing() -> None:
    async with using() as (server, client, transport):
        task = asyncio.ensure_future(client.get(server.url("/silence")))
        while not server.connections:  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "1 leased" not in repr(transport)


# -- TLS ----------------------------------------------------------------------------------


@pytest.fixture
def roots(authority: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "roots.pem"
    path.write_bytes(authority.pem)
    return path


def test_verify_is_a_file_a_context_or_off(
    authority: Authority, trusting: ssl.SSLContext, roots: Path
) -> None:
    async def main(verify: Any) -> int:
        async with using(tls=authority.server(), verify=verify) as (server, client, _):
            return (await client.get(server.url())).status_code

    for verify in (str(roots), roots, trusting, False):
        assert run(main(verify)) == 200
    with pytest.raises(httpx.ConnectError, match="certificate"):
        run(main(True))


def test_cert_is_shown_to_the_server(authority: Authority, roots: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_bytes(authority.certificate("me@example.org"))
    context = authority.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem.decode())

    async def main(cert: Any) -> int:
        async with using(tls=context, verify=str(roots), cert=cert) as (server, client, _):
            return (await client.get(server.url())).status_code

    for cert in (str(own), (str(own), str(own))):
        assert run(main(cert)) == 200
    with pytest.raises(httpx.TransportError):
        run(main(None))


def test_context_and_cert_together_are_refused(trusting: ssl.SSLContext) -> None:
    with pytest.raises(ValueError, match="cert goes into"):
        AsyncTransport(verify=trusting, cert="own.pem")
    with pytest.raises(FileNotFoundError):
        AsyncTransport(verify="/nowhere.pem")


# -- the blocking client --------------------------------------------------------------------


def test_blocking_client_streams_both_ways(server: Server) -> None:
    with httpx.Client(transport=Transport()) as client:
        told = client.post(server.url(), content=iter([b"a", b"b"])).json()
        assert told["content"] == "ab"
        with client.stream("GET", server.url("/large")) as response:
            assert b"".join(response.iter_bytes()) == LARGE
        assert client.get(server.url("/gzip")).json()["target"] == "/gzip"
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(server.url("/cut"))
        with pytest.raises(httpx.ConnectError), refusing_port() as port:
            client.get(f"http://127.0.0.1:{port}/")
    assert server.connections == 1


# -- timeouts -------------------------------------------------------------------------------


@on_reactor
async def test_timeouts_are_httpx_s_own() -> None:
    async with using() as (server, client, _):
        with pytest.raises(httpx.ReadTimeout):
            await client.get(server.url("/silence"), timeout=QUICK)
        with pytest.raises(httpx.ReadTimeout):
            await client.get(server.url("/drip"), timeout=QUICK)
        with black_hole() as port, pytest.raises(httpx.ConnectTimeout):
            await client.get(f"http://127.0.0.1:{port}/", timeout=httpx.Timeout(20, connect=0.1))


def test_limits_are_followed(server: Server) -> None:
    limits = httpx.Limits(max_connections=1, keepalive_expiry=0)
    with httpx.Client(transport=Transport(limits=limits)) as client:
        with client.stream("GET", server.url("/drip")), pytest.raises(httpx.PoolTimeout):
            client.get(server.url(), timeout=httpx.Timeout(20, pool=0.05))
        assert client.get(server.url()).status_code == 200


# -- the way ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, httpx.URL, httpx.Proxy])
@on_reactor
async def test_proxy_is_asked_with_its_credentials(kind: Any) -> None:
    async with serving(echo) as proxy:
        way = kind(f"http://ann:secret@127.0.0.1:{proxy.port}")
        async with httpx.AsyncClient(transport=AsyncTransport(proxy=way)) as client:
            told = (await client.get("http://origin.example/x")).json()
    assert told["target"] == "http://origin.example/x"
    assert dict(told["fields"])["Proxy-Authorization"] == "Basic YW5uOnNlY3JldA=="
    with refusing_port() as port:
        transport = AsyncTransport(proxy=f"http://127.0.0.1:{port}")
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("http://origin.example/x")


@on_reactor
async def test_unix_socket_is_the_way(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    async with httpx.AsyncClient(transport=AsyncTransport(uds=path)) as client:
        assert (await client.get("http://anywhere.example/")).text == "ok"
    server.close()
    await server.wait_closed()
