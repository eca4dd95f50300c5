"""The base classes of protocols, without any transport."""

import pytest

from reactor.protocol import BufferedProtocol, Protocol


@pytest.mark.parametrize("kind", [Protocol, BufferedProtocol])
def test_every_callback_has_a_default_that_does_nothing(
    kind: type[Protocol] | type[BufferedProtocol],
) -> None:
    protocol = kind()
    protocol.connection_made(object())
    assert not protocol.eof_received()
    protocol.pause_writing()
    protocol.resume_writing()
    protocol.connection_lost(None)


def test_data_is_ignored_by_default() -> None:
    Protocol().data_received(b"x")
    BufferedProtocol().buffer_updated(1)


def test_transport_is_none_at_first() -> None:
    assert Protocol().transport is None


def test_buffered_protocol_without_get_buffer_says_so() -> None:
    class Mine(BufferedProtocol):
        pass

    with pytest.raises(NotImplementedError, match="Mine has no get_buffer"):
        Mine().get_buffer(-1)


def test_subclass_may_take_arguments() -> None:
    class Mine(Protocol):
        def __init__(self, name: str, *, size: int = 0) -> None:
            self.name = name
            self.size = size

    assert (Mine("x", size=3).name, Mine("y").size) == ("x", 0)
