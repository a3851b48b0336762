"""dicomguard: a malicious-payload scanner for DICOM files.

>>> from dicomguard import scan_bytes
>>> str(scan_bytes(b"").verdict)
'clean'

Everything in ``__all__`` is public and follows Semantic Versioning; names are loaded when they are
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicomguard.errors import DicomguardError
    from dicomguard.library import FileScan, scan_dataset, scan_files
    from dicomguard.model import (
        Category,
        Confidence,
        FileIdentity,
        Finding,
        FindingKind,
        Instance,
        Place,
        Region,
        Report,
        Severity,
        Suppressed,
        Verdict,
    )
    from dicomguard.packs import Trust
    from dicomguard.scan import scan_bytes, scan_file
    from dicomguard.settings import ScanSettings
    from dicomguard.suppress import Entry, Suppressions, load_baseline, load_suppressions
    from dicomguard.version import VERSION as __version__  # noqa: N811 - the name Python expects

__all__ = [
    "Category",
    "Confidence",
    "DicomguardError",
    "Entry",
    "FileIdentity",
    "FileScan",
    "Finding",
    "FindingKind",
    "Instance",
    "Place",
    "Region",
    "Report",
    "ScanSettings",
    "Severity",
    "Suppressed",
    "Suppressions",
    "Trust",
    "Verdict",
    "__version__",
    "load_baseline",
    "load_suppressions",
    "scan_bytes",
    "scan_dataset",
    "scan_file",
    "scan_files",
]

_HOMES = {
    "errors": ("DicomguardError",),
    "library": ("FileScan", "scan_dataset", "scan_files"),
    "model": (
        "Category",
        "Confidence",
        "FileIdentity",
        "Finding",
        "FindingKind",
        "Instance",
        "Place",
        "Region",
        "Report",
        "Severity",
        "Suppressed",
        "Verdict",
    ),
    "packs": ("Trust",),
    "scan": ("scan_bytes", "scan_file"),
    "settings": ("ScanSettings",),
    "suppress": ("Entry", "Suppressions", "load_baseline", "load_suppressions"),
    "version": ("VERSION",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    wanted = "VERSION" if name == "__version__" else name
    if wanted not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[wanted]}"), wanted)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
