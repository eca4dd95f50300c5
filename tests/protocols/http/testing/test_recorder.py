"""Recorder: what is kept, what is not, and how it is given again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.http import Client
from protocols.http.testing import NotRecordedError, Recorder
from tests.peers.echo import echo
from tests.peers.scripted import Server, answer, serving_in_thread
from tests.peers.scripts import says

pytestmark = pytest.mark.usefixtures("nothing_is_told")

SECRETS = ("hunter2", "s3same", "letmein", "t0ken")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving_in_thread(echo) as server:
        yield server


def asked(client: Client, server: Server) -> list[Any]:
    """Make a few requests and return what came."""
    with client.stream("GET", server.url("/gzip")) as response:
        streamed = response.read()
    return [
        client.get(server.url("/cookie")).headers.get_list("set-cookie"),
        client.get(server.url("/status/404")).status_code,
        client.post(server.url("/a"), json={"x": 1}).json()["content"],
        client.post(server.url("/a"), json={"x": 2}).json()["content"],
        client.get(server.url("/redirect"), follow_redirects=True).json()["target"],
        client.post(server.url("/up"), files={"f": b"in it"}).status_code,
        client.head(server.url("/h")).headers["content-type"],
        json.loads(streamed)["target"],
        client.get(server.url("/large")).content[:300],
    ]


def test_exchanges_are_given_again_without_the_network(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "recording.json"
    with Client(transport=Recorder(path)) as client:
        first = asked(client, server)
    requests = server.connections
    with Client(transport=Recorder(path)) as client:
        again = asked(client, server)
    assert again[1:] == first[1:]
    assert again[0] == ["a=[filtered]", "b=[filtered]; Path=/"]
    assert server.connections == requests
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_was_not_recorded_raises(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    with Client(transport=Recorder(path, mode="record")) as client:
        client.get(server.url("/a"))
    with Client(transport=Recorder(path, mode="replay")) as client:
        client.get(server.url("/a"))
        with pytest.raises(NotRecordedError, match="so often"):
            client.get(server.url("/a"))
        with pytest.raises(NotRecordedError, match="POST"):
            client.post(server.url("/a"))
        with pytest.raises(NotRecordedError):
            client.get(server.url("/b"))
    with pytest.raises(FileNotFoundError):
        Recorder(tmp_path / "none.json", mode="replay")
    with pytest.raises(ValueError, match="mode"):
        Recorder(path, mode="new")


def test_no_secret_is_in_the_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "recording.json"

    def ask(client: Client) -> None:
        client.get(server.url("/a?q=1&token=hunter2"), headers={"Authorization": "Bearer hunter2"})
        client.get(server.url("/a"), headers={"Cookie": "c=hunter2", "X-Own": "s3same"})
        client.post(server.url("/a"), data={"user": "ann", "password": "letmein"})
        client.post(server.url("/a"), json={"deep": [{"client_secret": "t0ken"}], "own": "t0ken"})

    options: dict[str, Any] = {"headers": ["X-Own"], "names": ["own"]}

    def edit(exchange: dict[str, Any]) -> None:
        exchange["response"].pop("text", None)  # the server says what it was asked

    with Client(transport=Recorder(path, edit=edit, **options)) as client:
        ask(client)
    kept = path.read_text()
    for secret in SECRETS:
        assert secret not in kept
    for plain in ("ann", "q=1", "user", "deep", "[filtered]"):
        assert plain in kept
    with Client(transport=Recorder(path, edit=edit, **options)) as client:
        ask(client)


def test_secret_in_an_answer_is_not_in_the_file(tmp_path: Path) -> None:
    said = answer(b'{"access_token": "hunter2", "n": 1}', "Content-Type: application/json")
    with serving_in_thread(says(said)) as server:
        path = tmp_path / "recording.json"
        with Client(transport=Recorder(path)) as client:
            assert client.get(server.url()).json()["access_token"] == "hunter2"
        with Client(transport=Recorder(path)) as client:
            assert client.get(server.url()).json() == {"access_token": "[filtered]", "n": 1}
    assert "hunter2" not in path.read_text()


def test_secret_in_a_url_a_part_or_below_its_name_is_not_in_the_file(tmp_path: Path) -> None:
    said = answer(
        b'{"token": ["hunter2", {"a": "hunter2"}], "n": 1}',
        "Content-Type: application/json",
        "Location: https://ann:hunter2@a.example/b?q=1&access_token=hunter2#here",
        'Link: </c?api%5Fkey=hunter2>; rel="next", </d>; rel="first"',
        "X-Session-Token: hunter2",
        "X-Keyboard: plain",
    )

    def ask(client: Client, url: str) -> Any:
        response = client.post(
            url,
            files={"password": (None, "hunter2"), "f": ("it", "in it")},
            headers={"Referer": "http://b.example/?token=hunter2"},
        )
        return response.json(), response.links

    path = tmp_path / "recording.json"
    with serving_in_thread(says(said)) as server:
        with Client(transport=Recorder(path)) as client:
            ask(client, server.url("/"))
        with Client(transport=Recorder(path, mode="replay")) as client:
            told, links = ask(client, server.url("/"))
    assert told == {"token": ["[filtered]", {"a": "[filtered]"}], "n": 1}
    assert links["first"]["url"] == "/d"
    kept = path.read_text()
    assert "hunter2" not in kept
    for plain in ("https://a.example/b?q=1&access_token=[filtered]#here", "in it", "plain"):
        assert plain in kept


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "exchanges": []}', '{"format": 1, "exchanges": [{}]}'],
)
def test_file_that_is_no_recording_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a recording"):
        Recorder(path)


def test_nothing_is_written_where_nothing_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    with Client(transport=Recorder(path)) as client, pytest.raises(ConnectionError):
        client.get("http://127.0.0.1:1/")
    assert not path.exists()
