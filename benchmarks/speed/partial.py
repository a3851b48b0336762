"""``dicomguard`` that does but a part of its work: ``python partial.py PART check …``.

Whatever does more takes longer, however well it is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from dicomguard import scan
from dicomguard.cli import main
from dicomguard.dicom.layout import Data
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import walk
from dicomguard.gather import Gathered, Where
from dicomguard.model import Report, Verdict
from dicomguard.payloads.wrappings import XOR
from dicomguard.settings import ScanSettings
from dicomguard.unwrap import allowance_for


def _read(_data: Data, _settings: ScanSettings) -> None:
    """The file is read, and reported as clean."""


def _walk(data: Data, settings: ScanSettings) -> None:
    """Its elements are told apart."""
    walk(data, settings.budgets)


def _pass(data: Data, settings: ScanSettings) -> None:
    """All of its bytes are searched: for atoms of rules, text among pixels, and XOR."""
    layout = walk(data, settings.budgets)
    gathered = Gathered(Source(data=data, layout=layout, file=layout))
    for where, rules in settings.pack.sets:
        if where is Where.FILE:
            rules.scan(data, 60)
    _ = gathered[Where.PRINTABLE]
    list(XOR.search(data, allowance_for(len(data), settings.budgets)))


PARTS: dict[str, Callable[[Data, ScanSettings], None]] = {
    "read": _read,
    "walk": _walk,
    "pass": _pass,
}

if __name__ == "__main__":
    part = PARTS[sys.argv.pop(1)]

    def _scan(data: Data, name: str, settings: ScanSettings, _witness: object) -> Report:
        part(data, settings)
        return Report(path=name, size=len(data), verdict=Verdict.CLEAN)

    scan.scan_bytes = _scan  # type: ignore[assignment]
    main()
