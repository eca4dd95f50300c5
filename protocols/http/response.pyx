"""The response: what the client returns, decoded only as far as it is asked.

Owns: the bytes of one response.  May not touch: the connection, but through its body stream.
Invariant: ``content`` is the whole body or raises; a short body is never handed out.
"""

cimport cython

from protocols.http.headers cimport Headers, headers_over
from protocols.http.parser cimport NOTE_CONTENT_ENCODING, NOTE_SET_COOKIE

import codecs
import json
from copy import copy
from datetime import timedelta

from protocols.http.body_stream import HeldPieces, InTurn
from protocols.http.codings import decoder_for
from protocols.http.errors import HTTPError, MessageError, StatusError, response_error
from protocols.http.links import parse_links
from protocols.http.redirects import is_redirect, redirected
from protocols.http.reading import (
    Chunks, DecodedPieces, Lines, Ready, TextPieces, decoded_body,
)
from protocols.http.set_cookie import parse_set_cookie


cdef frozenset NOT_CHARSETS = frozenset(
    ["idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"])


class BodyNotReadError(HTTPError, RuntimeError):
    """``content`` was asked of a streamed response whose body was not read with ``aread``."""


class StreamConsumed(BodyNotReadError):
    """A body was to be read from its beginning of which pieces were taken before, by whom ever."""


@cython.freelist(64)
@cython.auto_pickle(False)
cdef class Response:
    """A response, made by the client.

    Attributes:
        status_code: 200 to 999 (RFC 9110 section 15).
        url: the ``URL`` that answered.
        method: the request's method.
        request: the ``Request``.
    """

    def __cinit__(self):
        self.head = b""

    cdef Headers fields(self):
        if self.decoded is None:
            self.decoded = headers_over(self.head, self.fields_start)
        return self.decoded

    @property
    def headers(self):
        """The fields of the head, as ``Headers``."""
        return self.fields()

    @property
    def history(self):
        """The responses that led here, redirects and answered challenges, the first one first."""
        return self.earlier if self.earlier is not None else []

    @history.setter
    def history(self, responses):
        self.earlier = responses

    @property
    def informational_responses(self):
        """(status code, ``Headers``) of each 1xx response that came before this one."""
        return list(self.informational) if self.informational is not None else []

    @property
    def elapsed(self):
        """The time from sending the request to the end of the response, as ``timedelta``.

        For a streamed response: to the end of its head.
        """
        return timedelta(microseconds=self.elapsed_ns / 1000)

    @property
    def trailers(self):
        """The fields after a chunked body as ``Headers``; ``None`` without, or yet to come."""
        return self.trailing if self.stream is None else self.stream.trailers

    @property
    def http_version(self):
        """``"HTTP/1.1"`` or ``"HTTP/1.0"``."""
        return f"HTTP/1.{self.minor_version}"

    @property
    def reason_phrase(self):
        """The reason phrase as it came, maybe empty (RFC 9112 section 4)."""
        line = self.head[:self.fields_start].rstrip(b"\r\n")
        return line[13:].decode("latin-1")

    @property
    def content(self):
        """The whole body as bytes.

        Raises ``BodyNotReadError`` while it is streamed, and the ``ResponseError`` of a body
        that cannot be decoded (of a response that led to another: others are not given out).
        """
        if self.body is None:
            if self.flaw is not None:
                raise response_error(self.flaw, host=self.url.host, port=self.url.port)
            raise BodyNotReadError("the body was not read: await response.aread() first")
        return self.body

    @property
    def encoding(self):
        """The charset of the Content-Type where Python knows it, else ``"utf-8"``.

        It may be set, before the text is asked for; ``LookupError`` for what Python does not
        know.
        """
        if self.chosen_encoding is not None:
            return self.chosen_encoding
        for part in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                try:
                    found = codecs.lookup(value.strip().strip("\"'"))
                except LookupError:
                    break
                # not what decodes to anything but text, such as "hex", or Python's own
                # notations, which know no replacement
                if found._is_text_encoding and found.name not in NOT_CHARSETS:
                    return found.name
                break
        return "utf-8"

    @encoding.setter
    def encoding(self, str name not None):
        self.chosen_encoding = codecs.lookup(name).name

    @property
    def text(self):
        """The body as str; what does not decode becomes U+FFFD."""
        return self.content.decode(self.encoding, "replace")

    def json(self, **kwargs):
        """Return the body parsed as JSON; *kwargs* go to ``json.loads``."""
        return json.loads(self.content, **kwargs)

    @property
    def is_encoded(self):
        """Whether there is a Content-Encoding."""
        return self.notes & NOTE_CONTENT_ENCODING != 0

    @property
    def sets_cookies(self):
        """Whether there is a Set-Cookie."""
        return self.notes & NOTE_SET_COOKIE != 0

    def decode(self, limits, max_body_bytes):
        """Take the content codings off the body; one that is streamed, as it is read.

        The client does that.  Codings that are not known are left (see ``codings``).  Raises
        the ``ResponseError`` of what is wrong with the body.
        """
        codings = self.headers.get_list("content-encoding", split_commas=True)
        cdef bytes body = self.body
        if body is None:
            max_body_bytes = None
        self.body = None                # what cannot be decoded is not handed out as it came
        try:
            decoder = decoder_for(codings, limits=limits, max_body_bytes=max_body_bytes)
            if decoder is not None and body is not None:
                body = decoded_body(decoder, body)
        except MessageError as error:
            # without its traceback, which has frames that have this response
            self.flaw = copy(error)
            raise response_error(error, host=self.url.host, port=self.url.port) from error
        self.body = body
        if body is None:
            self.decoder = decoder

    @property
    def cookies(self):
        """Names and values of what this response sets; the client's jar has more of them."""
        found = [parse_set_cookie(field) for field in self.headers.get_list("set-cookie")]
        return {cookie.name: cookie.value for cookie in found if cookie is not None}

    @property
    def ok(self):
        """Whether ``raise_for_status`` would not raise."""
        return self.status_code < 400

    @property
    def is_success(self):
        """Whether the status is 2xx."""
        return 200 <= self.status_code <= 299

    @property
    def is_client_error(self):
        """Whether the status is 4xx."""
        return 400 <= self.status_code <= 499

    @property
    def is_server_error(self):
        """Whether the status is 5xx."""
        return 500 <= self.status_code <= 599

    @property
    def is_error(self):
        """Whether ``raise_for_status`` would raise."""
        return self.status_code >= 400

    @property
    def is_redirect(self):
        """Whether it says where to go instead (RFC 9110 section 15.4)."""
        return is_redirect(self.status_code, self.headers)

    @property
    def next_request(self):
        """The ``Request`` that would follow a redirect, without what belongs to one origin.

        ``None`` where there is no redirect.  Raises ``RedirectError`` for one that leads
        nowhere.
        """
        if self.request is None or not self.is_redirect:
            return None
        return redirected(self.request, self.status_code, self.headers)

    @property
    def links(self):
        """The Link fields, by relation: ``links["next"]["url"]`` (RFC 8288)."""
        return parse_links(self.headers.get_list("link"))

    def raise_for_status(self):
        """Raise ``StatusError`` for a 4xx or 5xx status, else return the response."""
        if self.status_code >= 400:
            raise StatusError(
                f"{self.method} {self.url}: {self.status_code} {self.reason_phrase}".rstrip(),
                self,
            )
        return self

    def aiter_bytes(self, chunk_size=None):
        """Return an async iterator over the body's pieces as they come, decoded.

        Each is a non-empty ``bytes``; of *chunk_size* bytes but for the last one, if that is
        given.  The peer is slowed down while nobody asks for the next one.  A body that was read
        is there as often as it is asked for; of another pieces are handed out once, and after
        that there is ``StreamConsumed``.  Raises the ``EndpointError`` of a body that does not
        come whole.
        """
        return self.cut(self.pieces(), chunk_size)

    def aiter_raw(self, chunk_size=None):
        """Like ``aiter_bytes``, with the content codings that the server put on.

        Nobody keeps these: ``StreamConsumed`` where the body was read.
        """
        return self.cut(self.raw(), chunk_size)

    def aiter_text(self, chunk_size=None):
        """Return an async iterator over the body as str, in pieces as they come."""
        texts = TextPieces(self.pieces(), self.encoding)
        return texts if chunk_size is None else Chunks(texts, chunk_size, "")

    def aiter_lines(self):
        """Return an async iterator over the body's lines, without CR, LF or CRLF."""
        return Lines(self.aiter_text())

    async def aread(self):
        """Read a streamed body; afterwards ``content`` has it.  Returns it.

        Raises ``StreamConsumed`` where pieces of it were taken before: the rest is not it.
        """
        if self.body is None:
            pieces = self.pieces()      # a refusal takes nothing from who reads already
            try:
                self.body = b"".join([chunk async for chunk in pieces])
            except BaseException:       # and so nobody can read it any more
                if self.hold is not None:
                    self.hold.end()
                raise
        return self.body

    async def aclose(self):
        """Give the connection of a streamed response back, or up if the body did not come.

        The end of its block does that, and so does the end of its body; ``send`` with *stream*
        leaves it to the caller.  A second call does nothing.
        """
        if self.hold is not None:
            self.hold.end()

    cdef object raw(self):
        if self.stream is None:
            raise StreamConsumed("the response was not streamed; its body is in content")
        if self.stream.is_taken:
            raise StreamConsumed("pieces of the body were taken before; this is the rest")
        return self.stream if self.hold is None else HeldPieces(self.stream, self.hold)

    cdef object pieces(self):
        if self.body is not None:
            return Ready(self.body)
        if self.stream is None:
            raise BodyNotReadError("the response has no body to read")
        cdef object raw = self.raw()
        if self.decoder is None:
            return raw
        if self.decoded_pieces is None:
            self.decoded_pieces = DecodedPieces(raw, self.decoder, self.url)
        return self.decoded_pieces

    cdef object cut(self, object pieces, object chunk_size):
        return pieces if chunk_size is None else Chunks(pieces, chunk_size, b"")

    # For the blocking client.

    def read_by(self, reader):
        """Let the thread that asks for a piece of the body wait for it; see ``BodyStream``."""
        if self.stream is not None:
            self.stream.reader = reader

    cdef object in_turn(self, object pieces):
        if self.body is None and self.stream.reader is None:
            raise RuntimeError("only what Client.stream returned is read so; elsewhere, and in "
                               "hooks, await aread()")
        return InTurn(pieces)

    def iter_bytes(self, chunk_size=None):
        """Return an iterator over the body's pieces as they come, decoded; see ``aiter_bytes``.

        For a response of ``Client.stream``, or one whose body is there.
        """
        return self.in_turn(self.aiter_bytes(chunk_size))

    def iter_raw(self, chunk_size=None):
        """Like ``iter_bytes``, with the content codings that the server put on."""
        return self.in_turn(self.aiter_raw(chunk_size))

    def iter_text(self, chunk_size=None):
        """Return an iterator over the body as str, in pieces as they come."""
        return self.in_turn(self.aiter_text(chunk_size))

    def iter_lines(self):
        """Return an iterator over the body's lines, without CR, LF or CRLF."""
        return self.in_turn(self.aiter_lines())

    def read(self):
        """Read a streamed body; see ``aread``.  Returns it."""
        if self.body is None:
            pieces = self.iter_bytes()
            try:
                self.body = b"".join(pieces)
            except BaseException:
                if self.hold is not None:
                    self.hold.end_soon()
                raise
        return self.body

    def close(self):
        """Give the connection of a streamed response back; see ``aclose``.  From any thread."""
        if self.hold is not None and self.hold.end_soon() and self.catch_up is not None:
            self.catch_up()

    def __repr__(self):
        return f"<Response [{self.status_code} {self.reason_phrase}]>"
