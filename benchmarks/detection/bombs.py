"""What each bomb costs: time and memory of a process of its own that scans it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .case import Case

_SCAN = """
import sys
from dicomguard import scan_file
print(scan_file(sys.argv[1]).verdict)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""
"""Prints the verdict and the most resident memory, in KiB; ``ru_maxrss`` would count that of the
process it was forked from."""


class Cost(NamedTuple):
    """One bomb: its name, the bytes of its file, the answer, seconds, and MiB of peak memory.

    Seconds and memory are those of a whole process, the interpreter and the rules included.
    """

    name: str
    size: int
    verdict: str
    seconds: float
    mebibytes: float


def costs(cases: Iterable[Case]) -> Iterator[Cost]:
    """Scan every bomb among ``cases``."""
    for case in cases:
        if case.family == "bomb":
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "bomb.dcm")
                path.write_bytes(case.data)
                yield _cost(case.name, path)


def _cost(name: str, path: Path) -> Cost:
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - this interpreter and the program above
        [sys.executable, "-c", _SCAN, str(path)], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    verdict, kibibytes = done.stdout.split()
    return Cost(name, path.stat().st_size, verdict, seconds, int(kibibytes) / 1024)
