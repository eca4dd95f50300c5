"""Twisted's ``asyncioreactor`` on our loop: what ``twisted_echo.py`` does comes to its end."""

from pathlib import Path

import pytest

import reactor
from tests.peers.child import running

pytest.importorskip("twisted")

PROGRAM = Path(__file__).parent / "twisted_echo.py"


@pytest.mark.parametrize("what", ["tcp", "udp", "unix", "threads", "process", "signal"])
def test_twisted_program_comes_to_its_end(what: str, tmp_path: Path) -> None:
    async def main() -> None:
        arguments = ["-W", "error", str(PROGRAM), what, str(tmp_path)]
        async with running(*arguments) as child:
            ended = await child.end()
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.endswith("done\n")

    reactor.run(main())
