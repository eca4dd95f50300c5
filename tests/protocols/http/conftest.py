"""Fixtures for the tests of HTTP: certificates, and a check that nothing was said aloud."""

import gc
import ssl
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.protocols.http.client_checks")

from reactor import client_context  # noqa: E402 - after the line above
from tests.peers.scripted import Authority  # noqa: E402


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    """Return a client's context that trusts *authority*."""
    return client_context(ca_pem=authority.pem, alpn=("http/1.1",))


@pytest.fixture
def nothing_is_told(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Check that nothing is printed and nothing logged."""
    yield
    gc.collect()  # what was never retrieved would be told now
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [record.getMessage() for record in caplog.records] == []
