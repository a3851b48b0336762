"""Run the benchmark: ``python benchmarks/detection --help``."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
# Run as a folder, it must find its own package and the fixtures that it is made of.
sys.path[:0] = [str(_ROOT / "tests"), str(_ROOT / "benchmarks")]

from detection.run import main  # noqa: E402 - the path above comes first

if __name__ == "__main__":
    main()
