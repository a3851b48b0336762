"""``dicomguard`` whose worker is killed by every hundredth file: ``python dying.py check …``."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from dicomguard import scan
from dicomguard.cli import main
from dicomguard.model import Report
from dicomguard.settings import ScanSettings

EVERY = 100


_scan_file = scan.scan_file


def _scan(path: str, settings: ScanSettings) -> Report:
    if int(Path(path).stem) % EVERY == EVERY - 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return _scan_file(path, settings)


if __name__ == "__main__":
    scan.scan_file = _scan  # type: ignore[assignment]
    main()
