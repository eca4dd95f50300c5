"""Responses that must be accepted or refused, and the one way in which tests feed them.

Each case is named by the sentence that it proves, with its RFC section first.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from protocols.http.errors import MessageError
from protocols.http.limits import DEFAULT_LIMITS, ResponseLimits
from protocols.http.parser import Body, Head, Informational, MessageComplete, ResponseParser

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Case:
    """A stream of bytes, what was asked, and what is to come of it."""

    name: str
    data: bytes
    request: str = "GET"  # or HEAD, CONNECT, UPGRADE
    eof: bool = False
    # Accepted: the final status, the body, and whether the connection lives on.
    status: int = 200
    body: bytes = b""
    keep_alive: bool = True
    # Refused: words of the reason.
    error: str = ""
    limits: ResponseLimits = field(default=DEFAULT_LIMITS, repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass
class Outcome:
    """What came of a stream, however it was cut."""

    heads: list[tuple[str, int, int, str, Fields]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    trailers: Fields | None = None
    error: tuple[str, str] | None = None
    surplus: bytes = b""
    keep_alive: bool = False


def new_parser(request: str, limits: ResponseLimits = DEFAULT_LIMITS) -> ResponseParser:
    """Return a parser that expects the response to *request*."""
    parser = ResponseParser(limits)
    parser.expect_response(
        head_request=request == "HEAD",
        connect=request == "CONNECT",
        upgrade=request == "UPGRADE",
    )
    return parser


def drive(pieces: Iterable[bytes], case: Case) -> Outcome:
    """Feed *pieces* of the case's stream to a new parser and say what came of it."""
    parser = new_parser(case.request, case.limits)
    outcome = Outcome()
    try:
        for piece in pieces:
            collect(parser.receive_data(piece), outcome)
        if case.eof:
            collect(parser.receive_eof(), outcome)
    except MessageError as error:
        outcome.error = (type(error).__name__, str(error))
    else:
        outcome.surplus = parser.surplus
    outcome.keep_alive = parser.keep_alive
    return outcome


def collect(parser: ResponseParser, outcome: Outcome) -> None:
    """Add the events that the parser has to the outcome, bodies joined."""
    for event in parser:
        match event:
            case Informational() | Head():
                kind = type(event).__name__
                outcome.heads.append((kind, *event[:3], event.headers.raw))
            case Body(data):
                assert data, "a body event is never empty"
                outcome.body += data
            case MessageComplete(trailers):
                assert not outcome.complete
                outcome.complete = True
                outcome.trailers = None if trailers is None else trailers.raw


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Yield the ways of cutting *data* that tests try: in two everywhere, and byte by byte."""
    for position in range(1, len(data)):
        yield [data[:position], data[position:]]
    yield [data[i : i + 1] for i in range(len(data))]


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

ACCEPTED = [
    Case("rfc9112_6_3_content_length_ends_the_body", OK + b"Content-Length: 5\r\n\r\nhello", body=b"hello"),
    Case("rfc9112_6_3_content_length_zero_has_no_body", OK + b"Content-Length: 0\r\n\r\n"),
    Case("rfc9110_8_6_leading_zeros_of_a_length_mean_nothing", OK + b"Content-Length: 0005\r\n\r\nhello", body=b"hello"),
    Case("rfc9112_6_3_equal_lengths_in_two_fields_are_one", OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", body=b"hello"),
    Case("rfc9112_6_3_equal_lengths_in_a_list_are_one", OK + b"Content-Length: 5, 5\r\n\r\nhello", body=b"hello"),
    Case("rfc9110_5_1_names_are_case_insensitive", OK + b"cONTENT-lENGTH:5\r\ncONNECTION: CLOSE\r\n\r\nhello", body=b"hello", keep_alive=False),
    Case("rfc9110_5_6_3_white_space_around_a_value_is_not_part_of_it", OK + b"Content-Length: \t 5 \t \r\n\r\nhello", body=b"hello"),
    Case("rfc9110_5_5_an_empty_value_is_a_value", OK + b"X:\r\nY: \r\nContent-Length: 0\r\n\r\n"),
    Case("rfc9110_5_5_obs_text_is_kept", OK + b"X: caf\xc3\xa9 \xff\r\nContent-Length: 0\r\n\r\n"),
    Case("rfc9110_5_6_2_every_tchar_may_stand_in_a_name", OK + b"!#$%&'*+-.^_`|~09azAZ: x\r\nContent-Length: 0\r\n\r\n"),
    Case("rfc9112_4_an_empty_reason_is_legal", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
    Case("rfc9112_4_the_space_before_an_empty_reason_may_be_missing", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    Case("rfc9112_4_a_reason_may_hold_obs_text_and_tabs", b"HTTP/1.1 404 N\xe9ant\tici\r\nContent-Length: 0\r\n\r\n", status=404),
    Case("rfc9110_2_5_a_higher_minor_version_is_read_as_1_1", b"HTTP/1.5 200 OK\r\nContent-Length: 2\r\n\r\nhi", body=b"hi"),
    Case("rfc9110_15_an_unknown_status_class_is_handed_on", b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", status=999),
    Case("rfc9112_6_3_head_has_no_body", OK + b"Content-Length: 5\r\n\r\n", request="HEAD"),
    Case("rfc9112_6_1_head_with_chunked_has_no_body", CHUNKED, request="HEAD"),
    Case("rfc9112_6_3_head_without_framing_does_not_wait_for_the_close", OK + b"\r\n", request="HEAD"),
    Case("rfc9112_6_3_204_has_no_body", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", status=204),
    Case("rfc9112_6_3_304_has_no_body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", status=304),
    Case("rfc9110_15_3_6_205_is_framed_by_its_fields", b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", status=205),
    Case("rfc9112_6_3_without_framing_the_close_ends_the_body", OK + b"\r\nuntil the end", eof=True, body=b"until the end", keep_alive=False),
    Case("rfc9112_6_3_the_close_may_end_an_empty_body", OK + b"\r\n", eof=True, keep_alive=False),
    Case("rfc9110_15_2_informational_heads_come_before_the_final_one", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", body=b"hi"),
    Case("rfc9112_6_3_a_length_in_an_informational_head_frames_nothing", b"HTTP/1.1 103 E\r\nContent-Length: 7\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", body=b"hi"),
    Case("rfc9112_9_6_close_in_an_informational_head_counts", b"HTTP/1.1 103 E\r\nConnection: close\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", keep_alive=False),
    Case("rfc9112_9_3_http_1_0_does_not_persist", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", body=b"hi", keep_alive=False),
    Case("rfc9112_9_3_http_1_0_persists_with_keep_alive", b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", body=b"hi"),
    Case("rfc9112_9_3_http_1_0_persists_with_keep_alive_in_a_list", b"HTTP/1.0 200 OK\r\nConnection: ,x , keep-alive\t, y\r\nContent-Length: 0\r\n\r\n"),
    Case("rfc9110_7_6_1_keep_alive_is_a_whole_element_before_it_counts", b"HTTP/1.0 200 OK\r\nConnection: x keep-alive, keep-alive y\r\nContent-Length: 0\r\n\r\n", keep_alive=False),
    Case("rfc9112_9_3_close_wins_over_keep_alive", OK + b"Connection: keep-alive , close\r\nContent-Length: 0\r\n\r\n", keep_alive=False),
    Case("rfc9110_7_6_1_close_is_found_in_a_list", OK + b"Connection: x, ,\tclose,y\r\nContent-Length: 0\r\n\r\n", keep_alive=False),
    Case("rfc9110_7_6_1_close_is_a_whole_token", OK + b"Connection: closed, enclose\r\nContent-Length: 0\r\n\r\n"),
    Case("rfc9110_7_6_1_close_is_found_in_a_second_field", OK + b"Connection: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", keep_alive=False),
    Case("rfc9112_9_3_without_framing_the_connection_ends", OK + b"Connection: keep-alive\r\n\r\n", eof=True, keep_alive=False),
    Case("rfc9112_7_1_chunks_are_joined", CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", body=b"hello world"),
    Case("rfc9112_7_1_no_chunk_at_all_is_an_empty_body", CHUNKED + b"0\r\n\r\n"),
    Case("rfc9112_7_1_chunk_sizes_are_hexadecimal_of_any_case", CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", body=b"0123456789" * 2),
    Case("rfc9112_7_1_leading_zeros_of_a_chunk_size_mean_nothing", CHUNKED + b"0000000000000005\r\nhello\r\n000\r\n\r\n", body=b"hello"),
    Case("rfc9112_7_1_chunk_data_may_look_like_framing", CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", body=b"\r\n0\r\n\r\n"),
    Case("rfc9112_7_1_1_chunk_extension_is_ignored", CHUNKED + b'5;a=b;c="d;\\" e"\r\nhello\r\n0;last\r\n\r\n', body=b"hello"),
    Case("rfc9112_7_1_1_white_space_before_a_chunk_extension_is_ignored", CHUNKED + b"5 \t;a\r\nhello\r\n0\r\n\r\n", body=b"hello"),
    Case("rfc9112_7_1_2_trailers_come_after_the_last_chunk", CHUNKED + b"5\r\nhello\r\n0\r\nDigest: x\r\nServer-Timing:\ta\r\n\r\n", body=b"hello"),
    Case("rfc9110_6_5_1_a_trailer_frames_nothing", CHUNKED + b"0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n"),
    Case("rfc9110_6_5_1_a_trailer_is_handed_on_as_it_came", CHUNKED + b"0\r\nTransfer-Encoding: CHUNKED\r\n\r\n"),
    Case("rfc9112_7_transfer_codings_are_case_insensitive", OK + b"Transfer-Encoding:  CHUNKED \r\n\r\n2\r\nhi\r\n0\r\n\r\n", body=b"hi"),
    Case("rfc9110_9_3_6_a_connect_with_2xx_is_a_tunnel", b"HTTP/1.1 200 OK\r\n\r\n", request="CONNECT", keep_alive=False),
    Case("rfc9112_6_3_a_tunnel_ignores_framing_fields", OK + b"Content-Length: x\r\nTransfer-Encoding: y\r\n\r\n", request="CONNECT", keep_alive=False),
    Case("rfc9110_9_3_6_a_refused_connect_has_a_body", b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", request="CONNECT", status=407, body=b"no"),
    Case("rfc9110_7_8_a_101_that_was_asked_for_switches", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", request="UPGRADE", status=101, keep_alive=False),
    Case("rfc9110_7_8_an_upgrade_may_be_declined", OK + b"Content-Length: 2\r\n\r\nno", request="UPGRADE", body=b"no"),
    Case("a_typical_answer_of_nginx", b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 06 Jul 2026 10:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 12\r\nLast-Modified: Mon, 06 Jul 2026 09:00:00 GMT\r\nConnection: keep-alive\r\nETag: \"6489a2b1-c\"\r\nAccept-Ranges: bytes\r\n\r\nhello world\n", body=b"hello world\n"),
]  # fmt: skip


def _head(lines: bytes) -> bytes:
    return OK + lines + b"\r\nContent-Length: 0\r\n\r\n"


REFUSED = [
    # The status line.
    Case("rfc9112_2_2_an_empty_line_before_the_status_line_is_refused", b"\r\n" + _head(b"A: b"), error="HTTP/"),
    Case("rfc9112_4_garbage_is_refused_at_its_first_byte", b"SSH-2.0-OpenSSH\r\n", error="HTTP/"),
    Case("rfc9112_2_3_a_lower_case_version_is_refused", b"http/1.1 200 OK\r\n\r\n", error="HTTP/"),
    Case("rfc9112_2_3_http_2_0_is_refused", b"HTTP/2.0 200 OK\r\n\r\n", error="version"),
    Case("rfc9112_2_3_http_0_9_is_refused", b"HTTP/0.9 200 OK\r\n\r\n", error="version"),
    Case("rfc9112_2_3_two_digits_of_minor_version_are_refused", b"HTTP/1.10 200 OK\r\n\r\n", error="version"),
    Case("rfc9112_2_3_a_missing_minor_version_is_refused", b"HTTP/1 200 OK\r\n\r\n", error="version"),
    Case("rfc9112_2_3_a_minor_version_that_is_no_digit_is_refused", b"HTTP/1.x 200 OK\r\n\r\n", error="version"),
    Case("rfc9112_4_two_spaces_before_the_status_are_refused", b"HTTP/1.1  200 OK\r\n\r\n", error="status code"),
    Case("rfc9112_4_a_tab_before_the_status_is_refused", b"HTTP/1.1\t200 OK\r\n\r\n", error="version"),
    Case("rfc9112_4_a_status_of_two_digits_is_refused", b"HTTP/1.1 20 OK\r\n\r\n", error="status code"),
    Case("rfc9112_4_a_status_of_four_digits_is_refused", b"HTTP/1.1 2000 OK\r\n\r\n", error="status code"),
    Case("rfc9112_4_a_status_with_a_sign_is_refused", b"HTTP/1.1 +20 OK\r\n\r\n", error="status code"),
    Case("rfc9110_15_a_status_below_100_is_refused", b"HTTP/1.1 099 OK\r\n\r\n", error="status code"),
    Case("rfc9112_4_a_status_run_into_its_reason_is_refused", b"HTTP/1.1 200OK\r\n\r\n", error="status code"),
    Case("rfc9112_4_nul_in_the_reason_is_refused", b"HTTP/1.1 200 O\0K\r\n\r\n", error="reason"),
    Case("rfc9112_4_del_in_the_reason_is_refused", b"HTTP/1.1 200 O\x7fK\r\n\r\n", error="reason"),
    Case("rfc9112_2_2_a_bare_lf_after_the_reason_is_refused", b"HTTP/1.1 200 OK\nA: b\r\n\r\n", error="LF alone"),
    Case("rfc9112_2_2_a_bare_lf_after_the_status_is_refused", b"HTTP/1.1 200\nA: b\r\n\r\n", error="LF alone"),
    Case("rfc9112_2_2_a_bare_cr_in_the_reason_is_refused", b"HTTP/1.1 200 O\rK\r\n\r\n", error="CR"),
    # Fields.
    Case("rfc9112_2_2_a_bare_lf_after_a_value_is_refused", OK + b"A: b\nC: d\r\n\r\n", error="LF alone"),
    Case("rfc9112_2_2_a_bare_lf_as_the_empty_line_is_refused", OK + b"A: b\r\n\n", error="LF alone"),
    Case("rfc9112_2_2_a_bare_cr_in_a_value_is_refused", _head(b"A: b\rc"), error="CR"),
    Case("rfc9112_2_2_two_crs_before_the_lf_are_refused", OK + b"A: b\r\r\n\r\n", error="CR"),
    Case("rfc9112_2_2_a_bare_cr_as_the_empty_line_is_refused", OK + b"A: b\r\n\rX", error="CR"),
    Case("rfc9112_5_2_obs_fold_with_a_space_is_refused", _head(b"A: b\r\n c"), error="begins with white space"),
    Case("rfc9112_5_2_obs_fold_with_a_tab_is_refused", _head(b"A: b\r\n\tc"), error="begins with white space"),
    Case("rfc9112_2_2_white_space_before_the_first_field_is_refused", _head(b" A: b"), error="begins with white space"),
    Case("rfc9112_5_1_a_space_before_the_colon_is_refused", _head(b"A : b"), error="white space in or after"),
    Case("rfc9112_5_1_a_tab_before_the_colon_is_refused", _head(b"A\t: b"), error="white space in or after"),
    Case("rfc9110_5_1_a_space_in_a_name_is_refused", _head(b"A B: c"), error="white space in or after"),
    Case("rfc9110_5_1_an_empty_name_is_refused", _head(b": b"), error="no name"),
    Case("rfc9112_5_a_line_without_a_colon_is_refused", _head(b"Abc"), error="no colon"),
    Case("rfc9110_5_1_nul_in_a_name_is_refused", _head(b"A\0B: c"), error="token"),
    Case("rfc9110_5_1_obs_text_in_a_name_is_refused", _head(b"\xc3\xa9: c"), error="token"),
    Case("rfc9110_5_1_a_delimiter_in_a_name_is_refused", _head(b"A(B): c"), error="token"),
    Case("rfc9110_5_5_nul_in_a_value_is_refused", _head(b"A: b\0c"), error="header value"),
    Case("rfc9110_5_5_a_control_character_in_a_value_is_refused", _head(b"A: b\x1fc"), error="header value"),
    Case("rfc9110_5_5_del_in_a_value_is_refused", _head(b"A: b\x7fc"), error="header value"),
    # Content-Length.
    Case("rfc9110_8_6_a_length_with_a_plus_is_refused", OK + b"Content-Length: +5\r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_a_negative_length_is_refused", OK + b"Content-Length: -5\r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_a_hexadecimal_length_is_refused", OK + b"Content-Length: 0x5\r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_an_empty_length_is_refused", OK + b"Content-Length: \r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_a_length_with_a_space_inside_is_refused", OK + b"Content-Length: 1 2\r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_an_underscore_in_a_length_is_refused", OK + b"Content-Length: 1_0\r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_a_fraction_is_refused", OK + b"Content-Length: 5.0\r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_a_list_with_an_empty_element_is_refused", OK + b"Content-Length: 5,,5\r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_a_list_with_an_empty_end_is_refused", OK + b"Content-Length: 5,\r\n\r\nhello", error="not a number"),
    Case("rfc9110_8_6_a_length_of_2_to_the_63_is_refused", OK + b"Content-Length: 9223372036854775808\r\n\r\n", error="2**63"),
    Case("rfc9110_8_6_a_length_of_30_digits_is_refused", OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", error="2**63"),
    Case("rfc9112_6_3_two_lengths_that_differ_are_refused", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", error="differ"),
    Case("rfc9112_6_3_lengths_that_differ_in_a_list_are_refused", OK + b"Content-Length: 5, 6\r\n\r\nhello", error="differ"),
    Case("rfc9112_6_3_a_bad_length_is_refused_although_204_has_no_body", b"HTTP/1.1 204 N\r\nContent-Length: x\r\n\r\n", error="not a number"),
    # Transfer-Encoding.
    Case("rfc9112_6_3_a_length_before_a_coding_is_refused", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", error="both"),
    Case("rfc9112_6_3_a_length_after_a_coding_is_refused", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", error="both"),
    Case("rfc9112_6_1_a_coding_in_http_1_0_is_refused", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", error="HTTP/1.0"),
    Case("rfc9112_6_1_chunked_twice_is_refused", OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n", error="chunked, once"),
    Case("rfc9112_6_1_chunked_in_two_fields_is_refused", OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", error="chunked, once"),
    Case("rfc9112_7_4_a_coding_that_was_not_asked_for_is_refused", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", error="chunked, once"),
    Case("rfc9112_6_1_chunked_that_is_not_last_is_refused", OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n", error="chunked, once"),
    Case("rfc9112_6_1_identity_is_refused", OK + b"Transfer-Encoding: identity\r\n\r\n", error="chunked, once"),
    Case("rfc9112_6_1_an_empty_coding_is_refused", OK + b"Transfer-Encoding: \r\n\r\n", error="chunked, once"),
    Case("rfc9112_6_1_chunked_with_a_parameter_is_refused", OK + b"Transfer-Encoding: chunked;a=b\r\n\r\n", error="chunked, once"),
    Case("rfc9112_6_1_a_comma_around_chunked_is_refused", OK + b"Transfer-Encoding: ,chunked\r\n\r\n", error="chunked, once"),
    Case("rfc9112_6_1_a_look_alike_of_chunked_is_refused", OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n", error="header value"),
    Case("rfc9112_6_1_xchunked_is_refused", OK + b"Transfer-Encoding: xchunked\r\n\r\n", error="chunked, once"),
    # Chunks.
    Case("rfc9112_7_1_a_chunk_size_with_0x_is_refused", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", error="hexadecimal"),
    Case("rfc9112_7_1_a_chunk_size_with_a_plus_is_refused", CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", error="hexadecimal"),
    Case("rfc9112_7_1_a_negative_chunk_size_is_refused", CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", error="hexadecimal"),
    Case("rfc9112_7_1_an_empty_chunk_size_is_refused", CHUNKED + b"\r\nhello\r\n0\r\n\r\n", error="hexadecimal"),
    Case("rfc9112_7_1_a_chunk_size_of_only_an_extension_is_refused", CHUNKED + b";a\r\nhello\r\n0\r\n\r\n", error="hexadecimal"),
    Case("rfc9112_7_1_a_space_before_a_chunk_size_is_refused", CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", error="hexadecimal"),
    Case("rfc9112_7_1_a_space_after_a_chunk_size_is_refused", CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", error="white space after"),
    Case("rfc9112_7_1_a_letter_after_a_chunk_size_is_refused", CHUNKED + b"5g\r\nhello\r\n0\r\n\r\n", error="hexadecimal"),
    Case("rfc9112_7_1_an_underscore_in_a_chunk_size_is_refused", CHUNKED + b"1_0\r\nhello\r\n0\r\n\r\n", error="hexadecimal"),
    Case("rfc9112_7_1_seventeen_digits_of_chunk_size_are_refused", CHUNKED + b"00000000000000005\r\nhello\r\n0\r\n\r\n", error="too many digits"),
    Case("rfc9112_7_1_a_chunk_size_above_2_to_the_63_is_refused", CHUNKED + b"8000000000000000\r\n", error="2**63"),
    Case("rfc9112_7_1_a_bare_lf_after_a_chunk_size_is_refused", CHUNKED + b"5\nhello\r\n0\r\n\r\n", error="end in CRLF"),
    Case("rfc9112_7_1_a_bare_cr_after_a_chunk_size_is_refused", CHUNKED + b"5\rXhello\r\n0\r\n\r\n", error="end in CRLF"),
    Case("rfc9112_7_1_1_a_bare_lf_in_a_chunk_extension_is_refused", CHUNKED + b"5;a\nhello\r\n0\r\n\r\n", error="end in CRLF"),
    Case("rfc9112_7_1_1_a_bare_cr_in_a_chunk_extension_is_refused", CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n", error="end in CRLF"),
    Case("rfc9112_7_1_1_nul_in_a_chunk_extension_is_refused", CHUNKED + b"5;a\0\r\nhello\r\n0\r\n\r\n", error="chunk extension"),
    Case("rfc9112_7_1_chunk_data_that_is_too_long_is_refused", CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n", error="followed by CRLF"),
    Case("rfc9112_7_1_chunk_data_that_is_too_short_is_refused", CHUNKED + b"5\r\nhell\r\n0\r\n\r\n", error="followed by CRLF"),
    Case("rfc9112_7_1_a_bare_lf_after_chunk_data_is_refused", CHUNKED + b"5\r\nhello\n0\r\n\r\n", error="followed by CRLF"),
    Case("rfc9112_7_1_a_bare_cr_after_chunk_data_is_refused", CHUNKED + b"5\r\nhello\rX0\r\n\r\n", error="followed by CRLF"),
    Case("rfc9112_7_1_2_a_bare_lf_in_a_trailer_is_refused", CHUNKED + b"0\r\nA: b\n\r\n", error="LF alone"),
    Case("rfc9112_7_1_2_a_space_before_the_colon_of_a_trailer_is_refused", CHUNKED + b"0\r\nA : b\r\n\r\n", error="white space in or after"),
    Case("rfc9112_7_1_2_obs_fold_in_a_trailer_is_refused", CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n", error="begins with white space"),
    Case("rfc9112_7_1_2_a_bare_lf_after_the_last_chunk_is_refused", CHUNKED + b"0\r\n\n", error="LF alone"),
    # Switching.
    Case("rfc9110_7_8_a_101_that_was_not_asked_for_is_refused", b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n", error="not asked for"),
    # The end of the stream.
    Case("rfc9112_8_a_close_before_the_response_is_an_error", b"", eof=True, error="before a response"),
    Case("rfc9112_8_a_close_in_the_status_line_is_an_error", b"HTTP/1.1 2", eof=True, error="inside the head"),
    Case("rfc9112_8_a_close_in_a_head_is_an_error", OK + b"Content-Length: 5\r\n", eof=True, error="inside the head"),
    Case("rfc9112_8_a_close_after_an_informational_head_is_an_error", b"HTTP/1.1 100 C\r\n\r\n", eof=True, error="inside the head"),
    Case("rfc9112_8_a_close_before_the_length_is_an_error", OK + b"Content-Length: 5\r\n\r\nhel", eof=True, error="after 3 of 5 bytes"),
    Case("rfc9112_8_a_close_in_a_chunk_is_an_error", CHUNKED + b"5\r\nhel", eof=True, error="after 3 bytes"),
    Case("rfc9112_8_a_close_before_the_last_chunk_is_an_error", CHUNKED + b"5\r\nhello\r\n", eof=True, error="after 5 bytes"),
    Case("rfc9112_8_a_close_in_the_trailers_is_an_error", CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n", eof=True, error="after 5 bytes"),
]  # fmt: skip

TIGHT = ResponseLimits(
    max_head_bytes=100,
    max_line_bytes=40,
    max_headers=3,
    max_informational=2,
    max_chunk_extension_bytes=10,
    chunk_overhead_allowance_bytes=30,
    max_chunk_overhead_ratio=5,
    max_trailer_bytes=40,
    max_trailers=2,
)
_FULL_HEAD = OK + b"Content-Length: 0\r\nA: " + b"x" * 35 + b"\r\nB: " + b"x" * 17 + b"\r\n\r\n"
assert len(_FULL_HEAD) == TIGHT.max_head_bytes
_HUNDRED = b"HTTP/1.1 100 C\r\n\r\n"

AT_THE_LIMIT = [
    Case("a_head_of_the_limit_is_accepted", _FULL_HEAD, limits=TIGHT),
    Case("a_line_of_the_limit_is_accepted", OK + b"A: " + b"x" * 35 + b"\r\nContent-Length: 0\r\n\r\n", limits=TIGHT),
    Case("headers_of_the_limit_are_accepted", OK + b"A:\r\nB:\r\nContent-Length: 0\r\n\r\n", limits=TIGHT),
    Case("informational_heads_of_the_limit_are_accepted", _HUNDRED * 2 + OK + b"Content-Length: 0\r\n\r\n", limits=TIGHT),
    Case("chunk_extensions_of_the_limit_are_accepted", CHUNKED + b"1;1234\r\nx\r\n1 ;123\r\nx\r\n0\r\n\r\n", body=b"xx", limits=TIGHT),
    Case("chunks_of_one_byte_each_are_accepted", CHUNKED + b"1\r\nx\r\n" * 200 + b"0\r\n\r\n", body=b"x" * 200, limits=TIGHT),
    Case("trailers_of_the_limit_are_accepted", CHUNKED + b"0\r\nA: " + b"x" * 27 + b"\r\nB: x\r\n\r\n", limits=TIGHT),
]  # fmt: skip

BEYOND_A_LIMIT = [
    Case("a_head_above_the_limit_is_refused", _FULL_HEAD.replace(b"B:", b"B: "), error="of 100 for head bytes", limits=TIGHT),
    Case("a_status_line_above_the_limit_is_refused", b"HTTP/1.1 200 " + b"x" * 26 + b"\r\n\r\n", error="of 40 for line bytes", limits=TIGHT),
    Case("a_line_above_the_limit_is_refused", OK + b"A: " + b"x" * 36 + b"\r\n\r\n", error="of 40 for line bytes", limits=TIGHT),
    Case("a_name_above_the_limit_is_refused", OK + b"x" * 41 + b":\r\n\r\n", error="of 40 for line bytes", limits=TIGHT),
    Case("headers_above_the_limit_are_refused", OK + b"A:\r\nB:\r\nC:\r\nD:\r\n\r\n", error="of 3 for headers", limits=TIGHT),
    Case("informational_heads_above_the_limit_are_refused", _HUNDRED * 3, error="of 2 for informational", limits=TIGHT),
    Case("a_chunk_extension_above_the_limit_is_refused", CHUNKED + b"1;1234567890\r\nx\r\n", error="of 10 for chunk extension bytes", limits=TIGHT),
    Case("chunk_extensions_count_over_all_chunks", CHUNKED + b"1;12345\r\nx\r\n1;1234\r\nx\r\n", error="of 10 for chunk extension bytes", limits=TIGHT),
    Case("white_space_of_a_chunk_extension_counts", CHUNKED + b"1           ;\r\nx\r\n", error="of 10 for chunk extension bytes", limits=TIGHT),
    Case("padded_tiny_chunks_are_refused", CHUNKED + b"00000001\r\nx\r\n" * 50, error="of 5 for chunk overhead ratio", limits=TIGHT),
    Case("trailer_bytes_above_the_limit_are_refused", CHUNKED + b"0\r\nA: " + b"x" * 30 + b"\r\nB: x\r\n\r\n", error="of 40 for trailer bytes", limits=TIGHT),
    Case("trailers_above_the_limit_are_refused", CHUNKED + b"0\r\nA:\r\nB:\r\nC:\r\n\r\n", error="of 2 for trailers", limits=TIGHT),
    Case("the_first_offence_decides_a_limit_before_a_bad_byte", OK + b"A: " + b"x" * 37 + b"\0\r\n\r\n", error="of 40 for line bytes", limits=TIGHT),
    Case("the_first_offence_decides_a_bad_byte_before_a_limit", OK + b"A: \0" + b"x" * 37 + b"\r\n\r\n", error="header value", limits=TIGHT),
]  # fmt: skip

EVERY_CASE = ACCEPTED + REFUSED + AT_THE_LIMIT + BEYOND_A_LIMIT
