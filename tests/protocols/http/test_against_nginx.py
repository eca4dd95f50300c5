"""The client and the fetcher against a real server, in numbers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import reactor
from protocols.http import AsyncClient
from tests.peers.nginx import FILE_SIZES, Nginx

REQUESTS = 10_000
CONNECTIONS = 64
GIBIBYTE = 1 << 30
PEAK_BYTES = 64 << 20


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_ten_thousand_gets_over_64_connections_are_byte_exact(nginx: Nginx, scheme: str) -> None:
    names = ["64"] * 8 + ["1k"] * 7 + ["100k"]
    bodies = {name: (nginx.root / name).read_bytes() for name in FILE_SIZES}

    async def test() -> None:
        numbers = iter(range(REQUESTS))
        context = reactor.client_context(ca_file=nginx.ca_pem, alpn=("http/1.1",))
        async with AsyncClient(tls=context, max_per_host=CONNECTIONS) as client:

            async def work() -> None:
                for number in numbers:
                    name = names[number % len(names)]
                    response = await client.get(nginx.url(name, scheme=scheme))
                    assert response.status_code == 200
                    assert response.content == bodies[name]

            async with asyncio.TaskGroup() as workers:
                for _ in range(CONNECTIONS):
                    workers.create_task(work())
            stats = client.manager.stats()
        assert next(numbers, None) is None
        assert stats["opened"] == CONNECTIONS
        assert stats["opened"] + stats["reused"] == REQUESTS

    reactor.run(test())


# The peak of a process counts from before its exec(2), when it still was its parent.  So a
# small process stands between this one, which is large, and the one that is measured.
MEASURE = """\
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
child.returncode = 0
"""


def measured(*arguments: str, cwd: Path) -> tuple[int, str, int]:
    """Run the fetcher; return its exit status, its standard error and its peak memory in bytes."""
    fetch = [sys.executable, "-m", "protocols.http", *arguments]
    between = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, *fetch],
        capture_output=True,
        check=True,
        text=True,
        cwd=cwd,
    )
    status, peak_bytes = map(int, between.stdout.split())
    return status, between.stderr, peak_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="sanitizers take memory of their own")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_file_of_one_gibibyte_takes_little_memory(
    nginx: Nginx, scheme: str, tmp_path: Path
) -> None:
    nginx.sparse_file("gibibyte", GIBIBYTE)
    status, errors, peak_bytes = measured(
        *("--ca-file", str(nginx.ca_pem), "--output-dir", str(tmp_path / "out")),
        nginx.url("gibibyte", scheme=scheme),
        cwd=tmp_path,
    )
    saved = tmp_path / "out" / "gibibyte"
    try:
        assert status == 0, errors
        assert saved.stat().st_size == GIBIBYTE
        assert peak_bytes < PEAK_BYTES
    finally:
        saved.unlink(missing_ok=True)  # pytest keeps the last few directories
        (nginx.root / "gibibyte").unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="sanitizers take memory of their own")
@pytest.mark.timeout(240)  # 26 s alone, more than 60 beside other work
def test_memory_does_not_grow_with_the_number_of_urls(nginx: Nginx, tmp_path: Path) -> None:
    peaks = []
    for count in (15_000, 45_000):
        lines = "".join(f"{nginx.url('64')}?{number}\n" for number in range(count))
        (tmp_path / "list").write_text(lines)
        status, errors, peak_bytes = measured(
            "--quiet", "--input", str(tmp_path / "list"), cwd=tmp_path
        )
        assert status == 0, errors
        peaks.append(peak_bytes)
    # 30,000 URLs more: as Python strings they alone would take 2 MB.
    assert peaks[1] - peaks[0] < 1 << 20


def test_small_content_goes_with_its_head_so_that_an_early_answer_costs_no_connection(
    nginx: Nginx, tmp_path: Path
) -> None:
    path = tmp_path / "small"
    path.write_bytes(os.urandom(3_000))
    count = 200

    async def test() -> None:
        async with AsyncClient() as client:
            for _ in range(count):
                with path.open("rb") as file:
                    for content in (
                        {"content": file},
                        {"files": {"one": file, "two": ("n", b"content")}, "data": {"a": "b"}},
                        {"files": {"one": b"content"}},
                        {"json": {"a": "b"}},
                    ):
                        response = await client.post(nginx.url("early/"), **content)
                        assert response.content == b"early"
            stats = client.manager.stats()
        assert (stats["opened"], stats["reused"]) == (1, 4 * count - 1)

    reactor.run(test())
