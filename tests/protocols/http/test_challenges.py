"""Challenges are read as RFC 9110 section 11.6.1 has them, whole or not at all."""

import random

import pytest

from protocols.http.challenges import Challenge, parse_challenges, quoted_string
from protocols.http.limits import MAX_AUTH_PARAM_BYTES, MAX_CHALLENGE_PARAMS, MAX_CHALLENGES

BASIC = Challenge("basic", {"realm": "simple"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('Basic realm="simple"', [BASIC]),
        ('BASIC REALM="simple"', [BASIC]),
        ("Basic realm=simple", [BASIC]),
        ('Basic  realm \t= "simple"', [BASIC]),
        (' , ,Basic realm="simple" ,, ', [BASIC]),
        ('Basic realm="simple", a', [BASIC, Challenge("a")]),
        ("Basic", [Challenge("basic")]),
        ("Basic , Negotiate", [Challenge("basic"), Challenge("negotiate")]),
        ("Negotiate YII+/w==", [Challenge("negotiate", {}, "YII+/w==")]),
        ("NTLM a=", [Challenge("ntlm", {}, "a=")]),
        ("X a=b", [Challenge("x", {"a": "b"})]),
        ('X a=""', [Challenge("x", {"a": ""})]),
        (r'X a="b\"c\\d\e, f=g"', [Challenge("x", {"a": r'b"c\de, f=g'})]),
        ('X a="\xe9\t\x80"', [Challenge("x", {"a": "\xe9\t\x80"})]),
        # The example of section 11.6.1.
        (
            'Basic realm="simple", Newauth realm="apps", type=1, title="Log in to \\"apps\\""',
            [
                BASIC,
                Challenge("newauth", {"realm": "apps", "type": "1", "title": 'Log in to "apps"'}),
            ],
        ),
        (
            'Negotiate, Bearer, Digest realm="r" ,, qop="auth, auth-int", NTLM TlRM=,Basic a=b',
            [
                Challenge("negotiate"),
                Challenge("bearer"),
                Challenge("digest", {"realm": "r", "qop": "auth, auth-int"}),
                Challenge("ntlm", {}, "TlRM="),
                Challenge("basic", {"a": "b"}),
            ],
        ),
    ],
)
def test_a_field_holds_one_challenge_or_several(value: str, expected: list[Challenge]) -> None:
    assert parse_challenges([value]) == expected


def test_several_fields_are_one_list() -> None:
    assert parse_challenges(["X a=b", 'Basic realm="simple"']) == [
        Challenge("x", {"a": "b"}),
        BASIC,
    ]


def test_no_field_and_an_empty_field_have_no_challenge() -> None:
    assert parse_challenges([]) == parse_challenges(["", " ,\t, "]) == []


@pytest.mark.parametrize(
    "value",
    [
        "=",
        "a=b",
        'realm="r"',
        '"Basic"',
        'Basic realm="r',
        'Basic realm="r\\"',
        'Basic realm="r" x',
        'Basic realm="r";x=y',
        'Basic realm="r" "s"',
        "Basic realm=r\x00",
        'Basic realm="\x7f"',
        'Basic realm="\u20ac"',
        "Basic\trealm=r",
        "Basic realm=r realm2=s",
        'Digest realm="r", realm="s"',
        'Digest realm="r", REALM="s"',
        "Negotiate abc, realm=r",
        "Negotiate, realm=r",
        "Negotiate a b",
        "Basic @",
        "B(asic",
    ],
)
def test_a_malformed_field_has_no_challenge_at_all(value: str) -> None:
    assert parse_challenges([value, 'Basic realm="simple"']) == [BASIC]


def test_there_is_a_limit_to_challenges_parameters_and_their_length() -> None:
    many = ", ".join(f"s{number}" for number in range(MAX_CHALLENGES))
    assert len(parse_challenges([many])) == MAX_CHALLENGES
    assert parse_challenges([many + ", more"]) == []
    assert len(parse_challenges([many, "more"])) == MAX_CHALLENGES
    params = ", ".join(f"p{number}=x" for number in range(MAX_CHALLENGE_PARAMS))
    assert len(parse_challenges([f"X {params}"])[0].params) == MAX_CHALLENGE_PARAMS
    assert parse_challenges([f"X {params}, more=x"]) == []
    longest = "v" * (MAX_AUTH_PARAM_BYTES - 1)
    assert parse_challenges([f'X a="{longest}"']) == [Challenge("x", {"a": longest})]
    assert parse_challenges([f'X a="{longest}v"']) == []
    assert parse_challenges([f"X {longest}v"]) == [Challenge("x", {}, longest + "v")]
    assert parse_challenges([f"X {longest}vv"]) == []


@pytest.mark.parametrize("text", ["", "a", 'a"b', "\\", '\\"', "a, b=c", "\xe9"])
def test_a_quoted_string_is_read_as_what_was_quoted(text: str) -> None:
    assert parse_challenges([f"X a={quoted_string(text)}"]) == [Challenge("x", {"a": text})]


def test_whatever_comes_is_read_or_left_out() -> None:
    numbers = random.Random(9110)
    alphabet = ["Basic", "Digest", "a", "realm", "=", "==", ",", " ", "  ", "\t", '"', "\\", "/"]
    read = 0
    for _ in range(30_000):
        value = "".join(numbers.choices(alphabet, k=numbers.randrange(1, 12)))
        for challenge in parse_challenges([value]):
            read += 1
            again = challenge.scheme
            if challenge.token68:
                again += f" {challenge.token68}"
            params = [f"{name}={quoted_string(text)}" for name, text in challenge.params.items()]
            assert parse_challenges([f"{again} {', '.join(params)}".strip()]) == [challenge]
    assert read > 1_000


@pytest.mark.parametrize(
    "piece", ['a="', "a=b ", " ", ",", 'a="x",', "\\", '"\\', "a ", "a\t=\t", "=", "a=,"]
)
def test_a_long_field_takes_no_more_than_its_length(piece: str) -> None:
    # What is quadratic would take minutes; pytest's limit ends it.
    value = ("X " + piece * 2_000_000)[:4_000_000]
    assert len(parse_challenges([value])) <= MAX_CHALLENGES
