"""Pooling for any protocol: the shell that acts and the policy that decides."""

from reactor.manager.blocking import BlockingConnectionManager
from reactor.manager.endpoint import Endpoint, Opener, UnixOpener
from reactor.manager.manager import (
    BEHAVIORS,
    OPTIMIZATIONS,
    ConnectionManager,
    PoolClosedError,
    PoolFullError,
)
from reactor.manager.sight import PoolEvent, PoolStats

__all__ = [
    "BEHAVIORS",
    "OPTIMIZATIONS",
    "BlockingConnectionManager",
    "ConnectionManager",
    "Endpoint",
    "Opener",
    "PoolClosedError",
    "PoolEvent",
    "PoolFullError",
    "PoolStats",
    "UnixOpener",
]
