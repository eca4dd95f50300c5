"""Fuzzes every target for some time: run.py [SECONDS] [--work DIRECTORY].

Owns: the processes, the sanitizer's environment, the corpus between runs, the report.
Touches: nothing that is tested; its modules can be loaded with the sanitizer's runtime only.
Invariant: the exit status is 0 only if every target ran its time and found nothing.

Two processes at a time: responses for the whole time, and the others one after another
beside them.  The directory keeps what gave new coverage, so that the next run begins where
this one ends, and what was found.
"""

import argparse
import os
import re
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
FINDINGS = HERE / "findings"

# Two lanes; the targets of one share its time.
LANES = [["response"], ["headers", "url"]]
MAX_INPUT_BYTES = 2_048


def sanitizer_environment() -> dict[str, str]:
    """Return the environment in which extension modules with sanitizers can be loaded."""
    runtime = Path(atheris.path()) / "asan_with_fuzzer.so"
    if not runtime.exists():
        sys.exit(f"{sys.argv[0]}: this atheris has no {runtime.name}")
    package = find_spec("protocols")
    places = package.submodule_search_locations if package else None
    modules = [path for place in places or () for path in Path(place, "http").glob("parser.*.so")]
    if not modules or any(b"__sanitizer_cov" not in path.read_bytes() for path in modules):
        sys.exit(f"{sys.argv[0]}: {modules} is not built with CYREACTOR_FUZZ=1")
    return {
        **os.environ,
        "LD_PRELOAD": str(runtime),
        # An allocation for each object, so that a stray access is seen.
        "PYTHONMALLOC": "malloc",
        # CPython never frees all that it allocates.
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=64",
    }


class Run:
    """One target's run, and what its output says of it."""

    def __init__(self, target: str, seconds: int, work: Path) -> None:
        self.target = target
        self.seconds = seconds
        self.corpus = work / "corpus" / target
        self.seeds = work / "seeds" / target
        self.artifacts = work / "artifacts" / target
        for directory in (self.corpus, self.seeds, self.artifacts):
            directory.mkdir(parents=True, exist_ok=True)
        self.log = work / f"{target}.log"
        self.status = -1

    def start_and_wait(self, environment: dict[str, str]) -> None:
        """Run the target to the end of its time, or to its first finding."""
        command = [
            sys.executable,
            str(HERE / "target.py"),
            self.target,
            str(self.seeds),
            str(self.corpus),
            *([str(found)] if (found := FINDINGS / self.target).exists() else []),
            f"-max_total_time={self.seconds}",
            f"-max_len={MAX_INPUT_BYTES}",
            f"-artifact_prefix={self.artifacts}/",
            f"-dict={HERE / 'http.dict'}",
            "-timeout=30",
            "-rss_limit_mb=4096",
            "-print_final_stats=1",
            "-reload=0",
        ]
        with self.log.open("wb") as log:
            self.status = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The seeds take their time too, and an input may use all of its own.
                timeout=self.seconds + 300,
                check=False,
            ).returncode

    def report(self) -> str:
        """Return the figures, and on failure the end of the log and where the input is."""
        text = self.log.read_text(errors="replace")
        executed = re.findall(r"stat::number_of_executed_units: (\d+)", text) or re.findall(
            r"^#(\d+)", text, re.MULTILINE
        )
        begun = re.findall(r"INITED cov: (\d+)", text) or ["0"]
        covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text) or [("0", "0", "0")]
        edges, features, kept = covered[-1]
        said = (
            f"{self.target:9} {self.seconds} s, {executed[-1] if executed else 0} executions, "
            f"{edges} edges ({begun[0]} at the start), {features} features, {kept} inputs kept"
        )
        if self.status != 0:
            begin = re.search(r"=== Uncaught|==ERROR|== ERROR|Traceback", text)
            said += f"\n{text[begin.start() if begin else -4_000 :][:8_000]}\n"
            said += f"{self.target}: FAILED with status {self.status}; the input is in "
            said += f"{self.artifacts}; when the defect is mended, it belongs into "
            said += f"{FINDINGS / self.target}"
        return said


def main() -> int:
    """Run the lanes side by side and report."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers of protocols.http.")
    parser.add_argument("seconds", nargs="?", type=int, default=600)
    parser.add_argument("--work", type=Path, default=Path("build/fuzzing"))
    arguments = parser.parse_args()
    environment = sanitizer_environment()
    lanes = [
        [Run(target, max(1, arguments.seconds // len(lane)), arguments.work) for target in lane]
        for lane in LANES
    ]

    def run_lane(lane: list[Run]) -> None:
        for run in lane:
            run.start_and_wait(environment)
            print(run.report(), flush=True)  # noqa: T201

    threads = [threading.Thread(target=run_lane, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [run.status for lane in lanes for run in lane]
    failed = sum(status != 0 for status in statuses)
    print(f"{len(statuses) - failed} passed, {failed} failed")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
