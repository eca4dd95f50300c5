"""Fixtures for the tests of HTTP: certificates, and a check that nothing was said aloud."""

import gc
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.register_assert_rewrite("tests.protocols.http.client_checks", "tests.protocols.http.gate")

from reactor import client_context  # noqa: E402 - after the line above
from tests.peers.scripted import Authority, serving_in_thread  # noqa: E402
from tests.protocols.http.gate import Gate  # noqa: E402


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    """Return a client's context that trusts *authority*."""
    return client_context(ca_pem=authority.pem, alpn=("http/1.1",))


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    with serving_in_thread(gate.script) as gate.server:
        yield gate


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


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
