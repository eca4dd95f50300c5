"""The programs of benchmarks/ are in no package that is installed: they are found beside tests/."""

import sys
from pathlib import Path

# at the end: what is installed goes before the sources
sys.path.append(str(Path(__file__).resolve().parents[2]))
