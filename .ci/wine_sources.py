"""Writes the C of every extension module for Windows, and copies the Python beside it.

For ``.ci/wine``: python .ci/wine_sources.py TREE.  Owns TREE.  May not touch the sources'
tree.  Prints one line for each module: its C file and the extension module to make of it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from Cython.Build import cythonize

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("reactor", "protocols", "tests", "examples", "docs")
KEPT = {".py", ".pyi", ".pxd", ".typed", ".dict", ".md", ""}


def main(tree: Path) -> None:
    """Fill *tree*."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import setup

    really, sys.platform = sys.platform, "win32"
    try:
        extensions = setup.extensions()
    finally:
        sys.platform = really
    made = cythonize(  # type: ignore[no-untyped-call]
        extensions,
        build_dir=str(tree / "c"),
        compiler_directives=setup.DIRECTIVES,
        quiet=True,
    )
    for folder in COPIED:
        for path in Path(folder).rglob("*"):
            if path.is_file() and path.suffix in KEPT and "__pycache__" not in path.parts:
                target = tree / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy2(name, tree / name)
    for extension in made:
        module = tree / Path(*extension.name.split("."))
        print(extension.sources[0], f"{module}.pyd")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
