"""Builds the sdist and the wheel in isolation, and tests both as a user gets them.

The wheel is made from the sdist.  Each is installed into an environment of its own, and
the tests, those of the sdist, run outside of the source tree: some of each layer, that a
broken build breaks.  The whole suite runs on installed wheels in tox's environments for the
Pythons, and here where CYREACTOR_THOROUGH is set.

usage: check_distributions.py DIRECTORY   (everything goes there)
"""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {".c", ".so", ".pyd", ".pyc", ".html"}
SOME_TESTS = [
    "tests/test_packaging.py",
    "tests/test_examples.py",
    "tests/protocols/http/test_client.py",
    "tests/reactor/manager/test_leasing.py",
    "tests/reactor/transports/test_tls.py",
]
# In the repository for those who work on it, of no use in a release.
NOT_RELEASED = {"MANIFEST.in"}


def run(*command: str | Path, cwd: Path) -> None:
    """Run *command*, and end this program if it fails."""
    print("$", *command, flush=True)
    status = subprocess.run(command, cwd=cwd, check=False).returncode
    if status:
        sys.exit(status)


def tracked_files() -> set[str]:
    """Return what the repository holds, or nothing where there is no repository."""
    if not (ROOT / ".git").exists():
        return set()
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return {name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()}


def complaints(sdist: Path, wheel: Path) -> list[str]:
    """Return what is wrong with the contents of the two archives."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    in_sdist = {name for name in names if name}
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    wrong = [f"sdist: no {name}" for name in sorted(tracked_files() - NOT_RELEASED - in_sdist)]
    wrong += [f"sdist: {name}" for name in in_sdist if Path(name).suffix in GENERATED]
    wrong += [f"wheel: {name}" for name in in_wheel if Path(name).suffix in {".c", ".pyx"}]
    for name in in_sdist:
        if name.partition("/")[0] not in {"reactor", "protocols"}:
            continue
        is_shipped = Path(name).suffix in {".py", ".pxd", ".pyi", ".typed"}
        if is_shipped and name not in in_wheel:
            wrong.append(f"wheel: no {name}")
    return wrong


def environment(path: Path, *requirements: str) -> Path:
    """Make a virtual environment with *requirements* and return where its programs are."""
    venv.create(path, clear=True, with_pip=True)
    programs = path / ("Scripts" if sys.platform == "win32" else "bin")
    run(programs / "python", "-m", "pip", "install", "-q", *requirements, cwd=path)
    return programs


def main() -> None:
    """Build, look inside, install and test; exit non-zero at the first failure."""
    work = Path(sys.argv[1]).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    run(sys.executable, "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
    [sdist] = (work / "dist").glob("*.tar.gz")
    [wheel] = (work / "dist").glob("*.whl")
    if wrong := complaints(sdist, wheel):
        sys.exit("\n".join(wrong))
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    unpacked = work / sdist.name.removesuffix(".tar.gz")
    # Without sources beside them, the tests can import only what is installed.
    for package in ("reactor", "protocols"):
        shutil.rmtree(unpacked / package)
    tests = [] if os.environ.get("CYREACTOR_THOROUGH") else SOME_TESTS
    for archive_path, kind in [(sdist, "sdist"), (wheel, "wheel")]:
        programs = environment(work / kind, f"{archive_path}[test]")
        run(programs / "pytest", *tests, cwd=unpacked)


if __name__ == "__main__":
    main()
