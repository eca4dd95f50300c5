"""Enforces the layers: imports point down or sideways, never up.

Cython does not look at who imports whom, so this file does.  It reads the sources of
``reactor`` and ``protocols`` as text and imports none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("reactor", "protocols")
SOURCE_SUFFIXES = {".py", ".pyx", ".pxd", ".pyi"}
LONGEST_FILE_LINES = 800

# From the lowest rank to the highest.  A name stands for the module and, but for the
# facade ``reactor``, for everything below it.
RANKS = (
    {
        "reactor.addresses",
        "reactor.buffers",
        "reactor.errors",
        "reactor.limits",
        "reactor.locks",
        "reactor.pool",
        "reactor.timers",
        "reactor.waiting",
    },
    {"reactor.pollers"},
    {"reactor.core"},
    {"reactor.futures"},
    {"reactor.tasks"},
    {"reactor.protocol"},
    {"reactor.cares", "reactor.resolver"},
    {"reactor.transports"},
    {"reactor.eventloop", "reactor.factory", "reactor.running"},
    {"reactor.manager"},
    {"reactor"},
    {"reactor.testing"},
    {"protocols"},
)
FACADE = "reactor"

# What a driver may use of reactor: names of the facade, its errors, its locks, its way to wait, and
# the Cython declarations that the wheel ships for this purpose.
PUBLIC_MODULES = {"reactor", "reactor.errors", "reactor.locks", "reactor.waiting"}
PUBLIC_CIMPORTS = {
    "reactor.core",
    "reactor.futures",
    "reactor.manager.leases",
    "reactor.protocol",
    "reactor.timers",
    "reactor.transports.transport",
}

# Codecs turn bytes into events and back and know of no socket.
SANS_IO = {
    "protocols.http.auth",
    "protocols.http.bodies",
    "protocols.http.challenges",
    "protocols.http.codings",
    "protocols.http.cookies",
    "protocols.http.digest",
    "protocols.http.headers",
    "protocols.http.multipart",
    "protocols.http.parser",
    "protocols.http.query",
    "protocols.http.set_cookie",
    "protocols.http.url",
}
LEAVES = {"reactor.errors", "reactor.locks"}
IO_MODULES = {"asyncio", "reactor", "select", "selectors", "socket", "ssl"}


@dataclass(frozen=True)
class Import:
    """One imported module, as one line of one file names it."""

    path: Path
    line: int
    importer: str
    target: str
    is_cimport: bool


STRING_OR_COMMENT = re.compile(
    r'''("""|\'\'\')(?:\\.|.)*?\1  |  "(?:\\.|[^"\\\n])*"  |  '(?:\\.|[^'\\\n])*'  |  \#[^\n]*''',
    re.DOTALL | re.VERBOSE,
)
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[\w.]+)[ \t]+)?(?P<verb>c?import)\b[ \t]*"
    r"(?P<names>\([^)]*\)|[^\n;]+)",
    re.MULTILINE,
)
INCLUDE = re.compile(r"^[ \t]*include[ \t]+['\"]", re.MULTILINE)


def blanked(source: str) -> str:
    """Return *source* with strings and comments emptied and every line where it was."""

    def empty(match: re.Match[str]) -> str:
        return ("" if match[0].startswith("#") else "''") + "\n" * match[0].count("\n")

    return STRING_OR_COMMENT.sub(empty, source).replace("\\\n", " ")


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files(root: Path) -> list[Path]:
    return sorted(
        path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.suffix in SOURCE_SUFFIXES
    )


def absolute(base: str, importer: str, *, is_package: bool) -> str:
    """Return what a possibly relative *base* (``..pollers``) means in *importer*."""
    name = base.lstrip(".")
    dots = len(base) - len(name)
    if not dots:
        return name
    parents = importer.split(".")
    parents = parents[: len(parents) - dots + is_package]
    return ".".join([*parents, name] if name else parents)


def imports_in(path: Path, root: Path, modules: set[str]) -> Iterator[Import]:
    """Yield every import of the file; *modules* are the names that exist under root."""
    importer = module_name(path, root)
    source = blanked(path.read_text())
    for match in IMPORT.finditer(source):
        line = source.count("\n", 0, match.start("verb")) + 1
        names = [item.split()[0] for item in match["names"].strip("()").split(",") if item.strip()]
        if match["base"] is None:
            targets = names
        else:
            base = absolute(match["base"], importer, is_package=path.stem == "__init__")
            submodules = [f"{base}.{name}" for name in names]
            # "from package import module" needs the module, anything else the base.
            targets = [name if name in modules else base for name in submodules]
        for target in dict.fromkeys(targets):
            yield Import(path, line, importer, target, match["verb"] == "cimport")


def rank(module: str) -> int | None:
    """Return the index in RANKS of *module*, or None if it has none."""
    for index, names in enumerate(RANKS):
        for name in names:
            if module == name or (name != FACADE and module.startswith(name + ".")):
                return index
    return None


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def complaint(found: Import) -> str | None:
    """Return what is wrong with one import, or None."""
    own, other = rank(found.importer), rank(found.target)
    in_protocols = found.importer.partition(".")[0] == "protocols"
    does_io = found.target.partition(".")[0] in IO_MODULES and found.target not in LEAVES
    if found.importer in SANS_IO and does_io:
        return f"a codec imports {found.target}"
    if not is_ours(found.target) or own is None:
        return None
    if other is None:
        return f"imports {found.target}, which has no rank"
    if other > own:
        return f"imports {found.target}, which is above it"
    if in_protocols and found.target.partition(".")[0] == "reactor":
        public = PUBLIC_MODULES | (PUBLIC_CIMPORTS if found.is_cimport else set())
        if found.target not in public:
            return f"imports {found.target}, which is not public"
    return None


def wrong_imports(root: Path) -> list[str]:
    """Return a line for each import, or module, that breaks the layers."""
    files = source_files(root)
    modules = {module_name(path, root) for path in files}
    wrong = [f"{name}: give it a rank in RANKS" for name in sorted(modules) if rank(name) is None]
    for path in files:
        wrong += [
            f"{path.relative_to(root)}:{found.line}: {what}"
            for found in imports_in(path, root, modules)
            if (what := complaint(found))
        ]
    return wrong


def cimport_cycle(root: Path) -> list[str]:
    """Return the modules of one cycle of cimports, first and last the same, or nothing."""
    files = source_files(root)
    modules = {module_name(path, root) for path in files}
    graph: dict[str, set[str]] = {}
    for path in files:
        for found in imports_in(path, root, modules):
            if found.is_cimport and is_ours(found.target) and found.target != found.importer:
                graph.setdefault(found.importer, set()).add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


def misshapen_files(root: Path) -> list[str]:
    """Return a line for each file that breaks a rule on files rather than on imports."""
    wrong = []
    for package in PACKAGES:
        wrong += [f"{path.relative_to(root)}: a .pxi" for path in (root / package).rglob("*.pxi")]
    for path in source_files(root):
        name = path.relative_to(root)
        source = path.read_text()
        lines = source.splitlines()
        if path.suffix == ".pyx":
            wrong += [
                f"{name}: has no {suffix}"
                for suffix in (".pxd", ".pyi")
                if not path.with_suffix(suffix).exists()
            ]
        if INCLUDE.search(blanked(source)):
            wrong.append(f"{name}: includes another file")
        if len(lines) > LONGEST_FILE_LINES:
            wrong.append(f"{name}: {len(lines)} lines, make it two files")
        prose = [line for line in lines if line and not re.match(r"# (cython|distutils):", line)]
        # A stub says what its module says.
        if path.suffix != ".pyi" and not (prose and re.match(r'r?"""|#', prose[0])):
            wrong.append(f"{name}: does not open by saying what it is")
    return wrong


needs_sources = pytest.mark.skipif(
    not (ROOT / "reactor").exists(), reason="the sources are not here, only what is installed"
)


@needs_sources
def test_imports_point_down_or_sideways() -> None:
    wrong = wrong_imports(ROOT)
    assert not wrong, "\n".join(wrong)


@needs_sources
def test_cimports_have_no_cycle() -> None:
    assert cimport_cycle(ROOT) == []


@needs_sources
def test_files_have_the_shape_that_style_asks_for() -> None:
    wrong = misshapen_files(ROOT)
    assert not wrong, "\n".join(wrong)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


DOWNWARD = {
    "reactor/__init__.py": "from .core import Reactor\nfrom reactor.manager.pool import Pool",
    "reactor/pool.pyx": "from libc.stdlib cimport malloc\nimport sys",
    "reactor/errors.py": "import socket",
    "reactor/core.pyx": "from reactor cimport pool\nfrom .pollers.contract cimport (\n Op,\n P)",
    "reactor/core.pxd": "cimport reactor.pool",
    "reactor/pollers/contract.pyx": "from ..pool cimport Block",
    "reactor/pollers/epoll.pyx": "from reactor.pollers.contract cimport Poller",
    "reactor/manager/pool.py": "from reactor.core import Reactor",
    "reactor/transports/transport.pxd": "",
    "reactor/testing.py": "from reactor import Pool",
    "protocols/http/client.py": "from reactor import Pool\nfrom reactor.errors import E",
    "protocols/http/fast.pyx": "from reactor.transports.transport cimport Transport",
    "protocols/http/parser.pyx": "from protocols.http.errors import E",
}


def test_downward_and_sideways_imports_are_accepted(tmp_path: Path) -> None:
    tree(tmp_path, DOWNWARD)
    assert wrong_imports(tmp_path) == []
    assert cimport_cycle(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("reactor/pool.pyx", "from reactor.core cimport R", "pool.pyx:1: imports reactor.core"),
        ("reactor/pool.pxd", "\ncimport reactor.core", "pool.pxd:2: imports reactor.core"),
        ("reactor/pool.pyi", "import reactor.core as c", "pool.pyi:1: imports reactor.core"),
        ("reactor/core.pyx", "from . import manager", "imports reactor, which is above"),
        ("reactor/core.pyx", "from .manager import pool", "imports reactor.manager.pool, "),
        ("reactor/core.pyx", "from .manager import x", "imports reactor.manager, which is above"),
        ("reactor/core.pyx", "def f():\n    import reactor", "core.pyx:2: imports reactor, "),
        ("reactor/core.pyx", "import sys, \\\n    reactor.manager", "imports reactor.manager, "),
        ("reactor/core.py", '"""a\nb"""\nfrom protocols import x', "core.py:3: imports protocols"),
        ("reactor/pollers/epoll.pyx", "from ..core cimport R", "imports reactor.core, "),
        ("reactor/manager/a.py", "from reactor import testing", "imports reactor.testing, "),
        ("reactor/core.py", "import reactor.gone", "imports reactor.gone, which has no rank"),
        ("reactor/novel.py", "", "reactor.novel: give it a rank"),
        ("protocols/x.py", "from reactor.core import R", "reactor.core, which is not public"),
        ("protocols/x.pyx", "from reactor.pool cimport B", "reactor.pool, which is not public"),
        ("protocols/x.py", "from reactor import pool", "reactor.pool, which is not public"),
        ("protocols/http/parser.pyx", "import socket", "a codec imports socket"),
        ("protocols/http/url.py", "from reactor import Protocol", "a codec imports reactor"),
    ],
)
def test_upward_import_is_found(tmp_path: Path, name: str, source: str, expected: str) -> None:
    wrong = wrong_imports(tree(tmp_path, {**DOWNWARD, name: source}))
    assert any(expected in line for line in wrong), wrong


def test_import_in_a_docstring_or_comment_is_no_import(tmp_path: Path) -> None:
    source = '"""\nimport reactor.core\n"""\n# import reactor.core\nx = "\\\nimport reactor.core"\n'
    assert wrong_imports(tree(tmp_path, {**DOWNWARD, "reactor/pool.pyx": source})) == []


def test_cimport_cycle_is_found(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "reactor/pollers/a.pxd": "from reactor.pollers.b cimport B",
            "reactor/pollers/b.pyx": "from .c cimport C",
            "reactor/pollers/c.pxd": "from reactor.pollers cimport a",
        },
    )
    assert set(cimport_cycle(tmp_path)) == {f"reactor.pollers.{name}" for name in "abc"}


def test_import_cycle_without_cimport_is_no_cimport_cycle(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "reactor/pollers/a.py": "import reactor.pollers.b",
            "reactor/pollers/b.pyx": "cimport reactor.pollers.a",
        },
    )
    assert cimport_cycle(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("reactor/lone.pyx", '"""Alone."""', "has no .pxd"),
        ("reactor/lone.pyx", '"""Alone."""', "has no .pyi"),
        ("reactor/a.pxi", "", "a .pxi"),
        ("reactor/a.pxd", '# Text.\ninclude "b.pxd"', "includes another file"),
        ("reactor/a.py", '"""Text."""\n' + "pass\n" * 800, "801 lines"),
        ("reactor/a.py", "", "does not open by saying"),
        ("reactor/a.pyx", "# cython: x=1\nimport sys", "does not open by saying"),
    ],
)
def test_misshapen_file_is_found(tmp_path: Path, name: str, source: str, expected: str) -> None:
    wrong = misshapen_files(tree(tmp_path, {name: source}))
    assert any(expected in line for line in wrong), wrong
