"""The Link field."""

from __future__ import annotations

import pytest

from protocols.http.links import parse_links


@pytest.mark.parametrize(
    ("value", "links"),
    [
        ("", {}),
        ("</a>", {"/a": {"url": "/a"}}),
        ('<http://a/?p=2>; rel="next"', {"next": {"url": "http://a/?p=2", "rel": "next"}}),
        (
            '</2>; rel=next; title="a, b; \\"c\\"" , </9>;REL=last',
            {
                "next": {"url": "/2", "rel": "next", "title": 'a, b; "c"'},
                "last": {"url": "/9", "rel": "last"},
            },
        ),
        ("</a>; rel=x, </b>; rel=x", {"x": {"url": "/a", "rel": "x"}}),
        ("</a>; rel=x; rel=y", {"x": {"url": "/a", "rel": "x"}}),
        ("</a>;; ; crossorigin ;rel=x", {"x": {"url": "/a", "crossorigin": "", "rel": "x"}}),
        ("</a,b;c>", {"/a,b;c": {"url": "/a,b;c"}}),
        ("</a>; rel=x junk", {"x": {"url": "/a", "rel": "x"}}),
        ("junk", {}),
        ("</a", {}),
        ('</a>; rel="x', {"/a": {"url": "/a", "rel": ""}}),
    ],
)  # fmt: skip
def test_rfc8288_3_link(value: str, links: dict[str, dict[str, str]]) -> None:
    assert parse_links([value]) == links


def test_several_fields_are_one_list() -> None:
    assert list(parse_links(["</a>; rel=x", "</b>; rel=y"])) == ["x", "y"]


def test_hostile_field_is_read_once() -> None:
    """Of a backtracking or quadratic expression the test's own time limit would tell."""
    for piece in ("<", "<a>", ";", "<a>;", " ", '\\"', '<a>;b="', ",", "=", "a"):
        parse_links(["<a>" + piece * (32_000 // len(piece))])
