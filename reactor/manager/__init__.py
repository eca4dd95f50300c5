"""Pooling for any protocol: the shell that acts and the policy that decides."""

from reactor.manager.manager import BEHAVIORS, ConnectionManager, Endpoint, PoolFullError

__all__ = ["BEHAVIORS", "ConnectionManager", "Endpoint", "PoolFullError"]
