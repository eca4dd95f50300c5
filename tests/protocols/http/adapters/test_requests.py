"""requests on our client: its sessions, with our adapter mounted."""

from __future__ import annotations

import pickle
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from protocols.http.adapters.requests import Adapter
from reactor import EndpointError
from tests.peers.echo import LARGE, echo
from tests.peers.scripted import (
    Authority,
    Server,
    black_hole,
    refusing_port,
    serving_in_thread,
)

pytestmark = pytest.mark.usefixtures("nothing_is_told")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving_in_thread(echo) as server:
        yield server


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        for prefix in ("http://", "https://"):
            session.get_adapter(prefix).close()
        adapter = Adapter()
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        yield session


# -- requests -----------------------------------------------------------------------------


def test_request_goes_out_as_requests_made_it(server: Server, session: requests.Session) -> None:
    response = session.post(
        server.url("/a"), params={"q": "1 2"}, json={"x": 1}, headers={"X-Mine": "yes"}
    )
    told = response.json()
    assert (told["method"], told["target"], told["content"]) == ("POST", "/a?q=1+2", '{"x": 1}')
    sent = dict(told["fields"])
    assert sent.pop("Host") == f"127.0.0.1:{server.port}"
    assert sent == dict(response.request.headers)
    assert response.elapsed.total_seconds() > 0


def test_content_is_streamed_up(server: Server, session: requests.Session, tmp_path: Path) -> None:
    told = session.post(server.url(), data=iter([b"a", b"b"])).json()
    assert told["content"] == "ab"
    assert ["Transfer-Encoding", "chunked"] in told["fields"]
    file = tmp_path / "it"
    file.write_bytes(b"in a file")
    with file.open("rb") as opened:
        told = session.post(server.url(), data=opened).json()
    assert told["content"] == "in a file"
    assert ["Content-Length", "9"] in told["fields"]
    told = session.post(server.url(), files={"f": b"in it"}, data={"k": "v"}).json()
    assert "in it" in told["content"]
    assert session.post(server.url(), data={"k": "v"}).json()["content"] == "k=v"


def test_body_is_streamed_down_and_its_connection_kept(
    server: Server, session: requests.Session
) -> None:
    for _ in range(2):
        with session.get(server.url("/large"), stream=True) as response:
            assert b"".join(response.iter_content(10_000)) == LARGE
    assert session.get(server.url("/large")).content == LARGE
    with session.get(server.url("/large"), stream=True) as response:
        assert response.raw.read(100) == LARGE[:100]
        assert response.raw.read() == LARGE[100:]
    assert server.connections == 1


def test_stream_that_is_left_early_costs_its_connection_and_no_more(
    server: Server, session: requests.Session
) -> None:
    for _ in range(2):
        with session.get(server.url("/drip"), stream=True) as response:
            assert next(response.iter_content(4)) == b"some"
    assert server.connections == 2
    assert session.get(server.url()).status_code == 200


def test_response_tells_status_reason_and_encoding(
    server: Server, session: requests.Session
) -> None:
    response = session.get(server.url("/status/418"))
    assert (response.status_code, response.reason) == (418, "Said So")
    with pytest.raises(requests.HTTPError, match="418"):
        response.raise_for_status()
    response = session.head(server.url())
    assert response.content == b""
    assert response.headers["content-type"] == "application/json"
    assert response.raw.version == 11


# -- what is left to requests ---------------------------------------------------------------


def test_cookies_redirects_and_codings_are_left_to_requests(
    server: Server, session: requests.Session
) -> None:
    response = session.get(server.url("/redirect"))
    assert response.json()["target"] == "/elsewhere"
    assert [each.status_code for each in response.history] == [302]
    assert session.get(server.url("/redirect"), allow_redirects=False).status_code == 302
    assert session.get(server.url("/gzip")).json()["target"] == "/gzip"
    session.get(server.url("/cookie"))
    assert session.cookies.get_dict() == {"a": "1", "b": "2"}
    told = session.get(server.url()).json()
    assert dict(told["fields"])["Cookie"] == "a=1; b=2"
    session.cookies.clear()
    assert "Cookie" not in dict(session.get(server.url()).json()["fields"])


def test_credentials_are_requests_s(server: Server, session: requests.Session) -> None:
    assert session.get(server.url("/basic")).status_code == 401
    assert session.get(server.url("/basic"), auth=("ann", "secret")).status_code == 200
    url = server.url("/basic").replace("//", "//ann:secret@")
    assert session.get(url).status_code == 200


# -- failures -----------------------------------------------------------------------------


def test_failures_are_requests_s_own_and_name_ours(
    server: Server, session: requests.Session
) -> None:
    with refusing_port() as port, pytest.raises(requests.ConnectionError) as caught:
        session.get(f"http://127.0.0.1:{port}/")
    assert isinstance(caught.value.__cause__, EndpointError)
    assert caught.value.request is not None
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.get(server.url("/cut"))
    with pytest.raises(requests.exceptions.InvalidHeader):
        session.get(server.url(), headers={"X": "a\nb"})
    with pytest.raises(requests.exceptions.InvalidURL):
        session.get("http://127.1/")
    with pytest.raises(requests.exceptions.InvalidURL):
        session.request("CONNECT", server.url())
    assert session.get(server.url()).status_code == 200


# -- TLS ----------------------------------------------------------------------------------


def test_verify_and_cert_go_with_each_request(
    authority: Authority, session: requests.Session, tmp_path: Path
) -> None:
    roots, own = tmp_path / "roots.pem", tmp_path / "own.pem"
    roots.write_bytes(authority.pem)
    own.write_bytes(authority.certificate("me@example.org"))
    context = authority.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem.decode())
    with serving_in_thread(echo, tls=context) as server:
        for cert in (str(own), (str(own), str(own))):
            assert session.get(server.url(), verify=str(roots), cert=cert).status_code == 200
        assert session.get(server.url(), verify=False, cert=str(own)).status_code == 200
        with pytest.raises(requests.exceptions.SSLError, match="certificate"):
            session.get(server.url(), cert=str(own))
        with pytest.raises(requests.ConnectionError):
            session.get(server.url(), verify=str(roots))
        with pytest.raises(OSError, match="nowhere"):
            session.get(server.url(), verify="/nowhere.pem")
        session.close()
    (tmp_path / "no.pem").write_bytes(b"no certificate")
    with pytest.raises(requests.exceptions.SSLError):
        session.get("https://127.0.0.1:1/", cert=str(tmp_path / "no.pem"))


def test_verify_and_cert_are_not_looked_at_without_tls(
    server: Server, session: requests.Session
) -> None:
    for verify, cert in ((True, None), (False, "/nowhere.pem"), ("/nowhere.pem", None)):
        assert session.get(server.url(), verify=verify, cert=cert).status_code == 200
    assert server.connections == 1


# -- the adapter ----------------------------------------------------------------------------


def test_session_is_used_by_threads_and_pickled(server: Server, session: requests.Session) -> None:
    statuses: list[int] = []

    def work() -> None:
        statuses.extend(session.get(server.url()).status_code for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 80
    assert server.connections <= 4
    copy = pickle.loads(pickle.dumps(Adapter(max_connections=3)))
    assert copy._options == {"max_connections": 3}


def test_closed_adapter_begins_anew(server: Server, session: requests.Session) -> None:
    session.get(server.url())
    session.close()
    assert session.get(server.url()).status_code == 200


# -- timeouts -------------------------------------------------------------------------------


def test_timeouts_are_those_of_the_request(server: Server, session: requests.Session) -> None:
    with pytest.raises(requests.ReadTimeout):
        session.get(server.url("/silence"), timeout=0.2)
    with pytest.raises(requests.ConnectionError, match="timed out"):
        session.get(server.url("/drip"), timeout=(20, 0.2))
    with black_hole() as port, pytest.raises(requests.ConnectTimeout):
        session.get(f"http://127.0.0.1:{port}/", timeout=(0.1, 20))


def test_proxy_of_the_request_is_asked(server: Server, session: requests.Session) -> None:
    proxies = {"http": f"http://ann:secret@127.0.0.1:{server.port}"}
    told = session.get("http://origin.example/x", proxies=proxies).json()
    assert told["target"] == "http://origin.example/x"
    assert dict(told["fields"])["Proxy-Authorization"] == "Basic YW5uOnNlY3JldA=="
    assert session.get(server.url("/y")).json()["target"] == "/y"
    with pytest.raises(requests.exceptions.ProxyError):
        session.get("https://origin.example/", proxies={"https": server.url("")})
