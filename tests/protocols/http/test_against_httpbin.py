"""The client against pytest-httpbin: its whole surface, plain and over TLS."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from protocols.http import (
    BasicAuth,
    BearerAuth,
    Client,
    DigestAuth,
    PasswordAuth,
    StatusError,
    TooManyRedirects,
)
from reactor import EndpointTimeoutError, TLSTruncatedError, client_context
from tests.peers.httpbin import Httpbin

# What stands for the names in its paths; for all others, a 1.
PARTS = {
    "algorithm": "SHA-256", "codes": "418", "delay": "0", "filename": "favicon.ico", "fmt": "png",
    "qop": "auth", "value": "aGF0",
}  # fmt: skip
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture(scope="module")
def httpbin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Httpbin]:
    with Httpbin(tmp_path_factory.mktemp("httpbin")) as server:
        yield server


@pytest.fixture(params=["http", "https"])
def client(request: pytest.FixtureRequest, httpbin: Httpbin) -> Iterator[Client]:
    """Return a client with the server's root as its base."""
    # Python 3.13 is stricter than the server's root is.
    tls = client_context(ca_file=httpbin.ca_file, alpn=("http/1.1",))
    tls.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    with Client(base_url=httpbin.url("/", scheme=request.param), tls=tls) as client:
        yield client


@pytest.mark.parametrize("method", METHODS)
def test_every_method_arrives_with_what_it_brings(client: Client, method: str) -> None:
    with_content: dict[str, Any] = {} if method == "GET" else {"json": {"a": [1, "é"]}}
    got = client.request(
        method,
        f"/{method.lower()}",
        params={"q": ["1", "é"]},
        headers={"X-Own": "1"},
        **with_content,
    ).json()
    assert got["args"] == {"q": ["1", "é"]}
    assert got["headers"]["X-Own"] == "1"
    if with_content:
        assert got["json"] == {"a": [1, "é"]}
    got = client.request(method, "/anything/deep?x=y").json()
    assert (got["method"], got["args"]) == (method, {"x": "y"})


def test_forms_and_files_arrive(client: Client) -> None:
    got = client.post("/post", data={"a": ["1", "2"], "b": "é"}).json()
    assert got["form"] == {"a": ["1", "2"], "b": "é"}
    got = client.post(
        "/post", data={"a": "1"}, files={"f": ("n.txt", b"in it", "text/plain")}
    ).json()
    assert (got["form"], got["files"]) == ({"a": "1"}, {"f": "in it"})
    got = client.post("/post", content=b"\x00\xff" * 100).json()
    assert base64.b64decode(got["data"].partition(",")[2]) == b"\x00\xff" * 100
    big = "x" * 300_000
    assert client.put("/put", content=big).json()["data"] == big


@pytest.mark.parametrize("status", [200, 201, 204, 206, 304, 400, 401, 404, 418, 500, 503])
def test_every_status_comes_back(client: Client, status: int) -> None:
    response = client.get(f"/status/{status}")
    assert response.status_code == status
    if status < 400:
        response.raise_for_status()
    else:
        with pytest.raises(StatusError, match=str(status)):
            response.raise_for_status()


def test_request_says_who_asks(client: Client) -> None:
    assert client.get("/user-agent", headers={"User-Agent": "me/1"}).json() == {
        "user-agent": "me/1"
    }
    assert client.get("/ip").json()["origin"].startswith("127.0.0.1")
    assert client.get("/headers").json()["headers"]["Accept"] == "*/*"


@pytest.mark.parametrize("path", ["redirect", "relative-redirect", "absolute-redirect"])
def test_redirects_are_followed(client: Client, path: str) -> None:
    assert client.get(f"/{path}/3").status_code == 302
    response = client.get(f"/{path}/3", follow_redirects=True)
    assert response.status_code == 200
    assert [each.status_code for each in response.history] == [302, 302, 302]
    assert response.url.path == "/get"


def test_redirects_keep_to_method_and_limit(client: Client) -> None:
    got = client.post(
        "/redirect-to", params={"url": "/post", "status_code": "307"}, content=b"it",
        follow_redirects=True,
    ).json()  # fmt: skip
    assert got["data"] == "it"
    got = client.post(
        "/redirect-to", params={"url": "/get", "status_code": "303"}, content=b"it",
        follow_redirects=True,
    ).json()  # fmt: skip
    assert "Content-Length" not in got["headers"] or got["headers"]["Content-Length"] in ("", "0")
    with pytest.raises(TooManyRedirects):
        client.get("/redirect/21", follow_redirects=True)


def test_cookies_are_kept_sent_and_deleted(client: Client) -> None:
    client.get("/cookies/set", params={"a": "1", "b": "2"}, follow_redirects=True)
    assert client.get("/cookies").json()["cookies"] == {"a": "1", "b": "2"}
    client.get("/cookies/set/c/3", follow_redirects=True)
    client.get("/cookies/delete?a", follow_redirects=True)
    assert client.get("/cookies").json()["cookies"] == {"b": "2", "c": "3"}
    assert client.get("/cookies", cookies={"d": "4"}).json()["cookies"]["d"] == "4"


def test_basic_and_bearer_credentials_are_taken(client: Client) -> None:
    assert client.get("/basic-auth/ann/secret").status_code == 401
    assert client.get("/basic-auth/ann/secret", auth=("ann", "secret")).json()["user"] == "ann"
    assert client.get("/basic-auth/ann/secret", auth=("ann", "wrong")).status_code == 401
    hidden = client.get("/hidden-basic-auth/ann/secret", auth=BasicAuth("ann", "secret"))
    assert hidden.json()["authenticated"] is True
    assert client.get("/bearer").status_code == 401
    assert client.get("/bearer", auth=BearerAuth("t0ken")).json()["token"] == "t0ken"


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512"])
@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_digest_credentials_are_taken(client: Client, qop: str, algorithm: str) -> None:
    path = f"/digest-auth/{qop}/ann/secret/{algorithm}"
    response = client.get(path, auth=DigestAuth("ann", "secret"))
    if algorithm == "SHA-512":  # which no RFC names: RFC 7616 has SHA-512-256
        assert response.status_code == 401
        return
    assert response.json() == {"authenticated": True, "user": "ann"}
    assert client.get(path, auth=PasswordAuth("ann", "secret")).status_code == 200
    assert client.get(path, auth=DigestAuth("ann", "wrong")).status_code == 401


@pytest.mark.parametrize("coding", ["gzip", "deflate", "brotli"])
def test_codings_are_taken_off(client: Client, coding: str) -> None:
    flag = {"gzip": "gzipped", "deflate": "deflated"}.get(coding, coding)
    assert client.get(f"/{coding}").json()[flag] is True
    with client.stream("GET", f"/{coding}") as response:
        assert flag.encode() in response.read()


def test_bodies_are_streamed(client: Client) -> None:
    with client.stream("GET", "/bytes/100000", params={"seed": 1}) as response:
        assert sum(map(len, response.iter_bytes())) == 100_000
    assert len(client.get("/bytes/50000", params={"seed": 1}).content) == 50_000
    assert client.get("/drip?duration=0&numbytes=10&delay=0").content == b"*" * 10


@pytest.mark.parametrize("path", ["/stream/20", "/stream-bytes/20000?seed=1"])
def test_body_to_the_end_of_the_connection_needs_a_close_notify(client: Client, path: str) -> None:
    """Which this server does not send: whether that was the end, nobody could tell."""
    got = bytearray()
    with client.stream("GET", path) as response:
        if response.url.scheme == "https":
            with pytest.raises(TLSTruncatedError):
                got += b"".join(response.iter_bytes())
        else:
            got += b"".join(response.iter_bytes())
            assert len(got) == 20_000 or got.count(b"\n") == 20


def test_part_of_a_body_is_fetched(client: Client) -> None:
    whole = client.get("/range/1000")
    assert (whole.status_code, len(whole.content)) == (200, 1000)
    part = client.get("/range/1000", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])


def test_conditions_are_answered(client: Client) -> None:
    assert client.get("/etag/one", headers={"If-None-Match": '"one"'}).status_code == 304
    assert client.get("/etag/one", headers={"If-Match": '"two"'}).status_code == 412
    assert client.get("/cache", headers={"If-None-Match": "x"}).status_code == 304
    assert client.get("/cache/60").headers["cache-control"] == "public, max-age=60"
    got = client.get("/response-headers", params={"X-A": ["1", "2"]})
    assert got.headers.get_list("x-a") == ["1", "2"]


@pytest.mark.parametrize(
    ("path", "content_type", "beginning"),
    [
        ("/html", "text/html", b"<!DOCTYPE html>"),
        ("/xml", "application/xml", b"<?xml"),
        ("/robots.txt", "text/plain", b"User-agent"),
        ("/deny", "text/plain", b"\n"),
        ("/image/png", "image/png", b"\x89PNG"),
        ("/image/jpeg", "image/jpeg", b"\xff\xd8"),
        ("/image/svg", "image/svg+xml", b"<"),
        ("/image/webp", "image/webp", b"RIFF"),
    ],
)
def test_bodies_of_all_kinds_come_whole(
    client: Client, path: str, content_type: str, beginning: bytes
) -> None:
    response = client.get(path)
    assert response.headers["content-type"].startswith(content_type)
    assert response.content.startswith(beginning)
    assert len(response.content) == int(response.headers["content-length"])
    assert client.head(path).content == b""


def test_texts_are_decoded(client: Client) -> None:
    assert "∮" in client.get("/encoding/utf8").text
    assert client.get("/json").json()["slideshow"]
    assert len(client.get("/uuid").json()["uuid"]) == 36
    assert client.get("/base64/aGVsbG8=").text == "hello"
    assert client.get("/links/3/0", follow_redirects=True).text.count("<a") == 2


def test_late_answer_meets_its_deadline(client: Client) -> None:
    with pytest.raises(EndpointTimeoutError):
        client.get("/delay/1", timeout=0.2)


def test_every_route_answers_as_it_does_to_httpx(httpbin: Httpbin, client: Client) -> None:
    def part(match: re.Match[str]) -> str:
        return PARTS.get(match[1], "1")

    asked = 0
    with httpx.Client(verify=False, trust_env=False) as oracle:
        for route, methods in httpbin.routes:
            path = re.sub(r"<(?:\w+:)?(\w+)>", part, route)
            params = {"duration": "0", "url": "/get", "status_code": "302", "seed": "7"}
            for method in methods:
                url = str(client.build_request(method, path, params=params).url)
                theirs = oracle.request(method, url)
                where = f"{method} {url}"
                asked += 1
                try:
                    ours = client.request(method, url)
                except TLSTruncatedError:  # which httpx does not tell
                    assert not {"content-length", "transfer-encoding"} & set(theirs.headers), where
                    continue
                assert ours.status_code == theirs.status_code, where
                assert ours.reason_phrase == theirs.reason_phrase, where
                kind = "content-type"
                assert ours.headers.get(kind) == theirs.headers.get(kind), where
                assert (len(ours.content) > 0) == (len(theirs.content) > 0), where
                if "image" in path or "bytes" in path or "robots" in path:
                    assert ours.content == theirs.content, where
    assert asked > 150
