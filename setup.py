"""Builds one extension module per ``.pyx`` file.

Owns the compiler flags and the Cython directives; everything else about the
distribution is in ``pyproject.toml``.  Whatever a build makes goes under
``build/<mode>/``, never into the source tree, so that builds with different flags do not
reuse each other's objects.  Two exceptions: an editable install puts the extension
modules beside their sources, and a traced build does the same with the C.

Environment:
    CYREACTOR_SANITIZE=1   address and undefined-behaviour sanitizers, little optimisation
    CYREACTOR_FUZZ=1       the same by clang, and coverage for libFuzzer; CC must be clang
    CYREACTOR_TRACE=1      line tracing, for coverage; build in a copy of the tree
    CYREACTOR_WERROR=1     a warning of Cython or of the compiler ends the build
    CYREACTOR_ANNOTATE=1   an HTML page per module under build/, for reading the C
    CYREACTOR_KQUEUE=1     on Linux: the kqueue poller too, over tests/kqueue_on_epoll
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

PACKAGES = ("reactor", "protocols")

BSD = ("darwin", "freebsd", "netbsd", "openbsd", "dragonfly")

# Modules that exist on some kinds of platform only, as prefixes of ``sys.platform``.
PLATFORMS_OF_MODULE: dict[str, tuple[str, ...]] = {
    "reactor.pollers.epoll": ("linux",),
    "reactor.pollers.eventfd": ("linux",),
    "reactor.pollers.iocp": ("win32",),
    "reactor.pollers.kqueue": BSD,
    "reactor.pollers.readiness": ("linux", *BSD),
    "reactor.pollers.ring": ("linux",),
    "reactor.pollers.uring": ("linux",),
}


def wanted(name: str) -> bool:
    """Return whether the environment variable *name* switches something on."""
    return os.environ.get(name, "") not in ("", "0")


SANITIZE = wanted("CYREACTOR_SANITIZE")
FUZZ = wanted("CYREACTOR_FUZZ")
TRACE = wanted("CYREACTOR_TRACE")
WERROR = wanted("CYREACTOR_WERROR")
KQUEUE = wanted("CYREACTOR_KQUEUE") and sys.platform == "linux"

MODE = "sanitize" if SANITIZE else "fuzz" if FUZZ else "trace" if TRACE else "release"
MODE += "-strict" * WERROR + "-kqueue" * KQUEUE
BUILD_BASE = Path("build", MODE)
CYTHON_DIR = BUILD_BASE / "cython"

DIRECTIVES = {
    "language_level": 3,
    # Methods as plain method descriptors: CPython's interpreter specialises calls to
    # them, which it does not for Cython's own function type.
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "warn.unused": True,
    "linetrace": TRACE,
}


def compiler_flags() -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Return (compile flags, link flags, macros) for this platform and environment."""
    macros: list[tuple[str, str]] = []
    if TRACE:
        macros += [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
    if sys.platform == "win32" and "GCC" not in sys.version:
        return ["/O2"] + ["/WX"] * WERROR, [], macros
    compile_flags = ["-fno-strict-aliasing", "-Wall", "-Wextra"]
    link_flags: list[str] = []
    if SANITIZE:
        sanitizers = "-fsanitize=address,undefined"
        compile_flags += ["-O1", "-g", "-fno-omit-frame-pointer", sanitizers]
        compile_flags += ["-fno-sanitize-recover=undefined", "-UNDEBUG"]
        link_flags += [sanitizers]
    elif FUZZ:
        # The runtimes are in the library that atheris ships: nothing is linked here.  Traps
        # need no runtime.
        compile_flags += ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG"]
        compile_flags += ["-fsanitize=address,undefined,fuzzer-no-link"]
        compile_flags += ["-fsanitize-trap=undefined"]
    elif TRACE:
        compile_flags += ["-O0", "-g"]
    else:
        compile_flags += ["-O3", "-g1", "-fvisibility=hidden"]
    if WERROR:
        compile_flags += ["-Werror"]
    return compile_flags, link_flags, macros


def directives_changed() -> bool:
    """Return whether C is left over from another edition of the directives above.

    Cython compares a C file with its ``.pyx``, with every ``.pxd`` that it cimports and
    with its own version, but not with the directives.
    """
    written = Path(__file__).stat().st_mtime
    return any(path.stat().st_mtime < written for path in CYTHON_DIR.rglob("*.c"))


def is_for_here(module: str) -> bool:
    """Return whether *module* can be built on this platform."""
    if KQUEUE and module == "reactor.pollers.kqueue":
        return True
    return sys.platform.startswith(PLATFORMS_OF_MODULE.get(module, ("",)))


def extensions() -> list[Extension]:
    """Return one Extension for each ``.pyx`` file that this platform can build."""
    compile_flags, link_flags, macros = compiler_flags()
    found = []
    for package in PACKAGES:
        for path in sorted(Path(package).rglob("*.pyx")):
            module = ".".join(path.with_suffix("").parts)
            if not is_for_here(module):
                continue
            found.append(
                Extension(
                    module,
                    [path.as_posix()],
                    extra_compile_args=compile_flags,
                    extra_link_args=link_flags,
                    define_macros=macros,
                    include_dirs=["tests/kqueue_on_epoll"] * KQUEUE,
                    libraries=["ws2_32"] * (sys.platform == "win32"),
                    # Other flags make other objects.
                    depends=["setup.py"],
                )
            )
    return found


class BuildPy(build_py):
    """``build_py`` that forgets what an earlier build left behind.

    ``build/`` survives between builds, and without this a module that was renamed or
    removed since would be packed into the next wheel.
    """

    def run(self) -> None:
        if not self.editable_mode:
            modules = {extension.name for extension in self.distribution.ext_modules}
            for path in Path(self.build_lib).rglob("*"):
                stem = path.relative_to(self.build_lib).as_posix().partition(".")[0]
                is_extension = path.suffix in {".so", ".pyd"}
                if path.is_file() and not (is_extension and stem.replace("/", ".") in modules):
                    path.unlink()
        super().run()


class BuildExt(build_ext):
    """``build_ext`` that runs Cython first, where C is missing or older than its sources.

    Not at the top level of this file: making metadata or an sdist needs no C.
    """

    def run(self) -> None:
        Options.warning_errors = WERROR
        # ``warning_errors`` is a global of this process: only a forked worker inherits it.
        forks = sys.platform != "win32" and multiprocessing.get_start_method() == "fork"
        generated = cythonize(
            self.extensions,
            # Cython's coverage plugin finds C only beside the extension module.
            build_dir=None if TRACE else str(CYTHON_DIR),
            compiler_directives=DIRECTIVES,
            annotate=wanted("CYREACTOR_ANNOTATE"),
            force=directives_changed() or None,
            nthreads=os.cpu_count() if forks else 0,
        )
        sources = {extension.name: extension.sources for extension in generated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
        super().run()


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    setup(
        ext_modules=extensions(),
        cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
        options={
            "build": {"build_base": str(BUILD_BASE)},
            "build_ext": {"parallel": os.cpu_count()},
        },
    )
