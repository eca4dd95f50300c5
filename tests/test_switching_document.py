"""docs/switching.md: every block of Python in it runs, against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import reactor
from tests.peers.child import running
from tests.peers.echo import echo
from tests.peers.scripted import Server, serving_in_thread

DOCUMENT = Path(__file__).parents[1] / "docs" / "switching.md"
ROOT = "https://api.example.org"


def blocks() -> list[tuple[str, str]]:
    """Return (section and number, source) of each block."""
    found: list[tuple[str, str]] = []
    if DOCUMENT.exists():
        for section in re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]:
            title = section.split()[1]
            sources = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
            found += [(f"{title} {n}", source) for n, source in enumerate(sources, 1)]
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving_in_thread(echo) as server:
        yield server


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the documentation is not here")
@pytest.mark.parametrize("source", [pytest.param(text, id=name) for name, text in blocks()])
def test_block_runs(source: str, server: Server) -> None:
    libraries = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
    for library in libraries:
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    assert ROOT in source
    before = server.connections
    source = source.replace(ROOT, server.url(""))
    if "twisted" in libraries:  # whose reactor is one for a process, and runs once
        run_in_a_child(source)
    else:
        exec(compile(source, str(DOCUMENT), "exec"), {})
    assert server.connections > before


def test_treq_runs_on_our_loop(server: Server) -> None:
    pytest.importorskip("treq")
    before, here = (source for name, source in blocks() if name in ("treq 1", "treq 2"))
    install = here.partition("from protocols")[0]
    assert "asyncioreactor.install(loop)" in install
    program = (install + before).replace(ROOT, server.url(""))
    check = "\n    assert reactor._asyncioEventloop is loop\n    response"
    run_in_a_child(program.replace("\n    response", check, 1))
    assert server.connections == 1


def run_in_a_child(source: str) -> None:
    async def main() -> None:
        async with running("-c", source) as child:
            ended = await child.end()
        assert (ended.status, ended.err) == (0, "")

    reactor.run(main())


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the documentation is not here")
def test_each_library_has_a_block_that_runs() -> None:
    names = [name for name, _ in blocks()]
    for library in ("requests", "httpx", "aiohttp", "treq"):
        assert f"{library} 1" in names
