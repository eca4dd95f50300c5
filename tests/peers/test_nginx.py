"""The test peer itself, seen through the standard library's HTTP client."""

import http.client
import ssl

import pytest

from tests.peers.nginx import Nginx


def body_of(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    return response.read()


@pytest.mark.parametrize("name", ["64", "1k", "100k"])
def test_files_are_served_byte_exact_over_http(nginx: Nginx, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", nginx.http_port)
    try:
        assert body_of(connection, f"/{name}") == (nginx.root / name).read_bytes()
        assert body_of(connection, f"/{name}") == (nginx.root / name).read_bytes()
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_certificate_is_trusted_through_the_given_authority(nginx: Nginx, host: str) -> None:
    context = ssl.create_default_context(cafile=str(nginx.ca_pem))
    connection = http.client.HTTPSConnection(host, nginx.https_port, context=context)
    try:
        assert len(body_of(connection, "/64")) == 64
    finally:
        connection.close()


def test_certificate_is_refused_without_the_authority(nginx: Nginx) -> None:
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection("localhost", nginx.https_port, context=context)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.connect()
    connection.close()


def test_sparse_file_is_served_whole(nginx: Nginx) -> None:
    path = nginx.sparse_file("sparse", 1 << 20)
    connection = http.client.HTTPConnection("127.0.0.1", nginx.http_port)
    try:
        assert body_of(connection, "/sparse") == bytes(1 << 20)
    finally:
        connection.close()
        path.unlink()
