"""One target of the fuzzer, in a process of its own: target.py NAME SEEDS [LIBFUZZER-ARGUMENT...].

The seeds are written into the directory SEEDS, which becomes libFuzzer's last corpus.

Owns: the order of imports, on which the coverage of what is tested depends.  Touches: no
environment; ``run.py`` starts this with what the sanitizer needs.
Invariant: what is tested is what is installed, never the sources beside the tests.
"""

import sys
from pathlib import Path

# Behind what is installed: only ``tests`` is to be found there.
sys.path.append(str(Path(__file__).resolve().parents[2]))

import atheris

# The C of our extension modules counts by itself; Python code does when it is imported here.
with atheris.instrument_imports(include=["protocols", "idna"]):
    import protocols.http.url  # noqa: F401

from tests.fuzz.checks import CHECKS
from tests.fuzz.seeds import seeds

if __name__ == "__main__":
    name, directory = sys.argv[1:3]
    for number, seed in enumerate(seeds(name)):
        Path(directory, str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[3:], directory], CHECKS[name])
    atheris.Fuzz()
