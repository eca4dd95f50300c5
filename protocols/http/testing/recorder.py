"""Real exchanges kept in a file, without their secrets, and given again without a network.

Owns: the file, and the client that makes the real exchanges.  May not touch: the client under
test.
Invariant: no value that is named as secret (in a field, a query, a form, JSON) is in the file; a
file appears whole, or is not touched; replaying does no I/O on the network.

The file is JSON, made to be read and reviewed: an exchange has ``request`` and ``response``,
each with its fields in order and its content as text, or in base64 where it is none.  Content
is kept decoded.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

from protocols.http.client import AsyncClient
from protocols.http.cookies import NoCookies
from protocols.http.errors import HTTPError
from protocols.http.headers import Headers
from protocols.http.request import Request
from protocols.http.testing.mock import MockTransport, ReceivedRequest, Reply
from protocols.http.url import URL

__all__ = ["MODES", "NotRecordedError", "Recorder"]

MODES = ("once", "record", "replay")
FORMAT = 1
FILTERED = "[filtered]"

# Fields of which only the name is kept; of Set-Cookie, the cookie's attributes too.
SECRET_HEADERS = frozenset(
    ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"]
)
# Fields of the server's or the caller's own invention say by their names what they are.
_SECRET_HEADER = re.compile(r"(^|[-_])(token|secret|password|passwd|api-?key)([-_]|$)")
# In a query, a form and JSON.
SECRET_NAMES = frozenset(
    [
        "access_token", "api_key", "apikey", "client_secret", "id_token", "key", "passwd",
        "password", "refresh_token", "secret", "signature", "token",
    ]
)  # fmt: skip

# Of the real answer; what is kept is decoded and whole.
_DROPPED = (b"content-length", b"transfer-encoding", b"content-encoding", b"connection")

# What may stand in a field that holds URLs: Location, Referer, Link.
_USER = re.compile(r"(?<=://)[^/?#@\s]*@")
_PAIR = re.compile(r"(?<=[?&])([^=&#\s]+)=([^&#>\s\"]*)")
_PART_NAME = re.compile(rb'name="([^"]*)"')
_BOUNDARY = re.compile(r'multipart/.*boundary="?([^";]+)')

Exchange = dict[str, Any]


class NotRecordedError(HTTPError, LookupError):
    """A request was made that is not in the file, or more often than it is there."""


class Recorder(MockTransport):
    """Records a client's exchanges, or replays them: ``Client(transport=Recorder(path))``.

    Args:
        path: the file.
        mode: ``"once"`` records where there is no file and replays where there is one,
            ``"record"`` writes the file anew, ``"replay"`` never asks the network.
        headers: further fields whose values are secret.
        names: further names in queries, forms and JSON whose values are secret.
        edit: called with each exchange (a dict, as it will be in the file) to change it in
            place, before it is kept.
        client: options of the ``AsyncClient`` that makes the real exchanges, such as *tls*.

    A request is found again by its method, URL and content, secrets filtered; the same one
    several times gets the recorded answers in their order.  The file is written when the
    client is closed.  Informational responses, trailers and reason phrases of the real answer
    are not kept.

    Raises ``OSError`` and ``ValueError`` for a file that cannot be read or is none of these.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: str = "once",
        headers: Iterable[str] = (),
        names: Iterable[str] = (),
        edit: Callable[[Exchange], object] | None = None,
        client: Mapping[str, Any] | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}, not {mode!r}")
        self._path = Path(path)
        self._headers = SECRET_HEADERS | {name.lower() for name in headers}
        self._names = SECRET_NAMES | {name.lower() for name in names}
        self._edit = edit
        self._options = dict(client or {})
        self._client: AsyncClient | None = None
        self._exchanges: list[Exchange] = []
        self._ready: dict[tuple[str, str, str], deque[Exchange]] = {}
        self.records = mode == "record" or (mode == "once" and not self._path.exists())
        super().__init__(self._record if self.records else self._replay)
        if not self.records:
            self._load()

    async def aclose(self) -> None:
        """Write what was recorded."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()
        if self.records and self._exchanges:
            self._save()

    # -- recording -----------------------------------------------------------------------

    async def _record(self, request: ReceivedRequest) -> Reply:
        if self._client is None:
            self._client = AsyncClient(**{"timeout": None, "cookies": NoCookies(), **self._options})
        ours = Request(
            request.method,
            request.url,
            headers=Headers([p for p in request.headers.raw if p[0].lower() != b"host"]),
            content=request.content or None,
        )
        response = await self._client.send(ours, follow_redirects=False)
        fields = Headers([p for p in response.headers.raw if p[0].lower() not in _DROPPED])
        content = b"" if request.method == "HEAD" else response.content
        exchange = {
            "request": self._request(request),
            "response": {
                "status": response.status_code,
                "fields": self._fields(fields),
                **_content(self._without_secrets(content, fields.get("Content-Type", ""))),
            },
        }
        if self._edit is not None:
            self._edit(exchange)
        self._exchanges.append(exchange)
        return Reply(response.status_code, content, headers=fields)

    def _save(self) -> None:
        text = json.dumps(
            {"format": FORMAT, "exchanges": self._exchanges}, indent=1, ensure_ascii=False
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f".{self._path.name}.part-{os.getpid()}")
        try:
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)

    # -- replaying -----------------------------------------------------------------------

    def _load(self) -> None:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            if kept["format"] != FORMAT:
                raise ValueError(f"format {kept['format']!r}")
            for exchange in kept["exchanges"]:
                _reply(exchange["response"])
                request = exchange["request"]
                self._ready.setdefault(_key(request), deque()).append(exchange)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self._path}: not a recording: {error!r}") from error

    def _replay(self, request: ReceivedRequest) -> Reply:
        exchange: Exchange = {"request": self._request(request), "response": {}}
        if self._edit is not None:
            self._edit(exchange)
        ready = self._ready.get(_key(exchange["request"]))
        if not ready:
            what = "" if ready is None else " so often"
            url = exchange["request"]["url"]
            raise NotRecordedError(f"{request.method} {url} is not in {self._path}{what}")
        return _reply(ready.popleft()["response"])

    # -- secrets -------------------------------------------------------------------------

    def _request(self, request: ReceivedRequest) -> Exchange:
        """Return what is kept of a request."""
        kind = request.headers.get("Content-Type", "")
        content = self._without_secrets(request.content, kind)
        fields = self._fields(request.headers)
        if (found := _BOUNDARY.search(kind)) is not None:  # another one each time
            content = content.replace(found[1].encode("latin-1"), b"boundary")
            content = self._parts(content)
            fields = [[name, value.replace(found[1], "boundary")] for name, value in fields]
        return {
            "method": request.method,
            "url": self._url(request.url),
            "fields": fields,
            **_content(content),
        }

    def _url(self, url: URL) -> str:
        if url.query is not None and any(
            name.lower() in self._names for name, _ in parse_qsl(url.query, keep_blank_values=True)
        ):
            url = url.with_query(self._form(url.query))
        return str(url)

    def _fields(self, headers: Headers) -> list[list[str]]:
        return [[name, self._value(name, value)] for name, value in headers.multi_items()]

    def _value(self, name: str, value: str) -> str:
        if name.lower() == "set-cookie":
            cookie, semicolon, attributes = value.partition(";")
            return f"{cookie.partition('=')[0]}={FILTERED}{semicolon}{attributes}"
        if name.lower() in self._headers or _SECRET_HEADER.search(name.lower()):
            return FILTERED
        value = _USER.sub("", value)
        return _PAIR.sub(
            lambda pair: f"{pair[1]}={FILTERED}" if self._is_secret(pair[1]) else pair[0], value
        )

    def _is_secret(self, name: str) -> bool:
        return unquote_plus(name).lower() in self._names

    def _parts(self, content: bytes) -> bytes:
        """Filter secrets out of a multipart form, whose boundary is "boundary"."""
        parts = content.split(b"--boundary")
        for at, part in enumerate(parts):
            head, line, _ = part.partition(b"\r\n\r\n")
            name = _PART_NAME.search(head)
            if line and name is not None and self._is_secret(name[1].decode("utf-8", "replace")):
                parts[at] = head + line + FILTERED.encode() + b"\r\n"
        return b"--boundary".join(parts)

    def _form(self, text: str) -> str:
        pairs = parse_qsl(text, keep_blank_values=True)
        return urlencode([(n, FILTERED if n.lower() in self._names else v) for n, v in pairs])

    def _without_secrets(self, content: bytes, kind: str) -> bytes:
        kind = kind.partition(";")[0].strip().lower()
        try:
            if kind == "application/x-www-form-urlencoded":
                return self._form(content.decode()).encode()
            if kind == "application/json" or kind.endswith("+json"):
                value = json.loads(content)
                if self._hide(value):
                    return json.dumps(value).encode()
        except ValueError:
            pass  # it is not what it says
        return content

    def _hide(self, value: Any) -> bool:
        """Filter secrets out of parsed JSON, in place; return whether there were any."""
        found = False
        if isinstance(value, dict):
            for name, each in value.items():
                if str(name).lower() in self._names:
                    value[name] = _filtered(each)
                    found = True
                else:
                    found |= self._hide(each)
        elif isinstance(value, list):
            for each in value:
                found |= self._hide(each)
        return found


def _filtered(value: Any) -> Any:
    """Return parsed JSON of the same shape that says nothing."""
    if isinstance(value, dict):
        return {name: _filtered(each) for name, each in value.items()}
    return [_filtered(each) for each in value] if isinstance(value, list) else FILTERED


def _content(content: bytes) -> dict[str, str]:
    """Return content as it is in the file."""
    try:
        text = content.decode()
        if text.isprintable() or not set(text) & set(map(chr, [*range(9), 11, 12, *range(14, 32)])):
            return {"text": text} if text else {}
    except UnicodeDecodeError:
        pass
    return {"base64": base64.b64encode(content).decode("ascii")}


def _reply(response: Exchange) -> Reply:
    """Return an answer of the file's."""
    if "base64" in response:
        content = base64.b64decode(response["base64"], validate=True)
    else:
        content = response.get("text", "").encode()
    fields = Headers([(str(name), str(value)) for name, value in response["fields"]])
    return Reply(int(response["status"]), content, headers=fields)


def _key(request: Exchange) -> tuple[str, str, str]:
    """Return what a request is found again by."""
    return request["method"], request["url"], request.get("text") or request.get("base64", "")
