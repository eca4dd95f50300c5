"""Compares every extension module's stub with the module, by mypy's stubtest.

The modules are found, not listed: each ``.pyx`` of the source tree must be installed as
an extension module, and each extension module must pass.

usage: check_stubs.py DIRECTORY   (an empty one to run in, away from the sources)
"""

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("reactor", "protocols")


def extension_modules() -> list[str]:
    """Return the names of all installed extension modules of our packages."""
    found = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f"{package} is not installed")
        directory = Path(spec.origin).parent
        if directory.is_relative_to(ROOT) and not directory.is_relative_to(sys.prefix):
            sys.exit(f"{package} would be imported from the sources, not from an installation")
        for path in directory.rglob("*"):
            if any(path.name.endswith(suffix) for suffix in EXTENSION_SUFFIXES):
                parts = path.relative_to(directory.parent).parts
                found.append(".".join([*parts[:-1], path.name.partition(".")[0]]))
    return sorted(found)


def source_modules() -> set[str]:
    """Return the names of the modules with a ``.pyx`` in the source tree."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.pyx")
    }


def main() -> int:
    """Return stubtest's exit status."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    modules = extension_modules()
    if missing := source_modules() - set(modules):
        print("not built on this platform, so not checked:", *sorted(missing))
    stubtest = Path(sys.executable).with_name("stubtest")
    command = [
        *(str(stubtest), *modules),
        *("--mypy-config-file", str(ROOT / "pyproject.toml")),
        *("--allowlist", str(ROOT / ".ci" / "stubtest-allowlist.txt")),
        # That two C layouts cannot be mixed is no news to a caller.
        "--ignore-disjoint-bases",
    ]
    # stubtest puts the current directory before the installed packages.
    return subprocess.run(command, cwd=directory, env=os.environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
