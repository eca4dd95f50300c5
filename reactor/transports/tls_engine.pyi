import ssl
import sys
from typing import Self

class Window:
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

class TLSEngine:
    def __new__(
        cls,
        sslcontext: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
    ) -> Self: ...

class DirectEngine(TLSEngine): ...
