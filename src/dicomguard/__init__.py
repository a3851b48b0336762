"""dicomguard: a malicious-payload scanner for DICOM files.

>>> from dicomguard import scan_bytes
>>> str(scan_bytes(b"").verdict)
'clean'
"""

from dicomguard.model import (
    Category,
    Confidence,
    Finding,
    FindingKind,
    Place,
    Region,
    Report,
    Severity,
    Verdict,
)
from dicomguard.scan import ScanSettings, scan_bytes, scan_file
from dicomguard.version import VERSION as __version__  # noqa: N811 - the name Python expects

__all__ = [
    "Category",
    "Confidence",
    "Finding",
    "FindingKind",
    "Place",
    "Region",
    "Report",
    "ScanSettings",
    "Severity",
    "Verdict",
    "__version__",
    "scan_bytes",
    "scan_file",
]
