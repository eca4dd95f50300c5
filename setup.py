"""Builds one extension module per ``.pyx`` file.

Owns the compiler flags and the Cython directives; everything else about the
distribution is in ``pyproject.toml``.  Generated C goes under ``build/`` and is never
part of the source tree.

Environment:
    CYREACTOR_SANITIZE=1   address and undefined-behaviour sanitizers, no optimisation
    CYREACTOR_TRACE=1      line tracing, for coverage
    CYREACTOR_WERROR=1     a warning of Cython or of the compiler ends the build
    CYREACTOR_ANNOTATE=1   an HTML page per module under build/, for reading the C
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

ROOT = Path(__file__).parent
PACKAGES = ("reactor", "protocols")


def wanted(name: str) -> bool:
    """Return whether the environment variable *name* switches something on."""
    return os.environ.get(name, "") not in ("", "0")


SANITIZE = wanted("CYREACTOR_SANITIZE")
TRACE = wanted("CYREACTOR_TRACE")
WERROR = wanted("CYREACTOR_WERROR")

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
    "linetrace": TRACE,
}


def compiler_flags() -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Return (compile flags, link flags, macros) for this platform and environment."""
    if sys.platform == "win32" and "GCC" not in sys.version:
        return ["/O2"], [], []
    compile_flags = ["-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-unused-parameter"]
    compile_flags += ["-Wno-missing-field-initializers", "-Wno-cast-function-type"]
    link_flags: list[str] = []
    macros: list[tuple[str, str]] = []
    if SANITIZE:
        sanitizers = "-fsanitize=address,undefined"
        compile_flags += ["-O1", "-g", "-fno-omit-frame-pointer", sanitizers]
        compile_flags += ["-fno-sanitize-recover=undefined", "-fno-sanitize=function"]
        link_flags += [sanitizers]
    else:
        compile_flags += ["-O3", "-g1", "-fvisibility=hidden"]
    if TRACE:
        macros += [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
    if WERROR:
        compile_flags += ["-Werror"]
    return compile_flags, link_flags, macros


def extensions() -> list[Extension]:
    """Return one Extension for each ``.pyx`` file that this platform can build."""
    compile_flags, link_flags, macros = compiler_flags()
    found = []
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*.pyx")):
            path = source.relative_to(ROOT)
            found.append(
                Extension(
                    ".".join(path.with_suffix("").parts),
                    [path.as_posix()],
                    extra_compile_args=compile_flags,
                    extra_link_args=link_flags,
                    define_macros=macros,
                )
            )
    return found


Options.warning_errors = WERROR
Options.extra_warnings = {"warn.unreachable": True, "warn.maybe_uninitialized": False}

setup(
    ext_modules=cythonize(
        extensions(),
        build_dir="build/trace" if TRACE else "build/cython",
        compiler_directives=DIRECTIVES,
        annotate=wanted("CYREACTOR_ANNOTATE"),
        nthreads=0 if sys.platform == "win32" else 2,
    ),
)
