"""Addresses between Python's form and the system's."""

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.addresses import round_trip

AF_UNIX = getattr(socket, "AF_UNIX", None)


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_every_ipv4_address_comes_back(host: Any, port: int) -> None:
    assert round_trip(socket.AF_INET, (str(host), port)) == (str(host), port)


@given(st.ip_addresses(v=6), st.integers(0, 65535), st.integers(0, 0xFFFFF), st.integers(0, 0xFFFF))
def test_every_ipv6_address_comes_back(host: Any, port: int, flow: int, scope: int) -> None:
    packed = socket.inet_pton(socket.AF_INET6, str(host))
    text = socket.inet_ntop(socket.AF_INET6, packed)  # which writes ::ffff:1.2.3.4 with dots
    assert round_trip(socket.AF_INET6, (str(host), port, flow, scope)) == (
        text, port, flow, scope,
    )  # fmt: skip


def test_ipv6_address_may_be_short() -> None:
    assert round_trip(socket.AF_INET6, ("::1", 80)) == ("::1", 80, 0, 0)
    assert round_trip(socket.AF_INET6, ("::1", 80, 5)) == ("::1", 80, 5, 0)


def test_zone_in_the_host_is_told_by_the_scope() -> None:
    assert round_trip(socket.AF_INET6, ("fe80::1%eth0", 80, 0, 3)) == ("fe80::1", 80, 0, 3)


@pytest.mark.skipif(AF_UNIX is None, reason="no UNIX sockets here")
@pytest.mark.parametrize("path", ["/tmp/a", "x" * 107, "/run/\u00fc", b"\0abstract", b"\0a\0b"])
def test_unix_paths_come_back(path: str | bytes) -> None:
    assert AF_UNIX is not None
    assert round_trip(AF_UNIX, path) == path


@pytest.mark.skipif(AF_UNIX is None, reason="no UNIX sockets here")
@pytest.mark.parametrize("path", ["", "x" * 108, "a\0b"])
def test_impossible_unix_paths_are_refused(path: str) -> None:
    assert AF_UNIX is not None
    with pytest.raises(ValueError, match="not a UNIX socket path"):
        round_trip(AF_UNIX, path)


@pytest.mark.parametrize(
    ("family", "address", "words"),
    [
        (socket.AF_INET, ("localhost", 80), "not a numeric address"),
        (socket.AF_INET, ("1.2.3", 80), "not a numeric address"),
        (socket.AF_INET, ("::1", 80), "not a numeric address"),
        (socket.AF_INET, ("1.2.3.4\0", 80), "not a numeric address"),
        (socket.AF_INET, ("", 80), "not a numeric address"),
        (socket.AF_INET, ("1.2.3.4", -1), "0 to 65535, not -1"),
        (socket.AF_INET, ("1.2.3.4", 65536), "0 to 65535, not 65536"),
        (socket.AF_INET6, ("1.2.3.4", 80), "not a numeric address"),
        (socket.AF_INET6, (":::1", 80), "not a numeric address"),
        (-5, ("1.2.3.4", 80), "family -5 is not supported"),
    ],
)
def test_what_is_no_address_is_a_value_error(family: int, address: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        round_trip(family, address)


@pytest.mark.parametrize(
    "address",
    [None, "1.2.3.4", ("1.2.3.4",), ("1.2.3.4", 1, 0), (b"1.2.3.4", 1), ("1.2.3.4", "80"),
     ["1.2.3.4", 80]],
)  # fmt: skip
def test_what_has_the_wrong_shape_is_a_type_error(address: Any) -> None:
    with pytest.raises(TypeError, match=r"not an address|a host is a str|a port is an int"):
        round_trip(socket.AF_INET, address)
