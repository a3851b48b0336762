"""Values longer than their VR allows, and control characters where none may be (PS3.5 6.2)."""

from __future__ import annotations

from msgspec.structs import replace

from dicomguard.detectors.text.signs import Scope, Sign, exploit
from dicomguard.dicom.layout import NOWHERE, Element, Sort, by_sort
from dicomguard.model import Category, Confidence, FindingKind, Region, Severity
from dicomguard.regex import regex

LONG = exploit(
    "TXT-LEN",
    "Value longer than its VR allows",
    Severity.HIGH,
    "Readers that trust the VR copy the value into a buffer too small for it.",
    "PS3.5 section 6.2, CVE-2024-28877",
    "T1203",
)
TOO_LONG = replace(
    LONG, category=Category.CONFORMANCE, severity=Severity.LOW, confidence=Confidence.CONFIRMED
)
"""No more than sloppy writers make of it."""
CONTROL = FindingKind(
    id="TXT-LOG",
    title="Control characters in a value of one line",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="Logs that print the value as it is get lines that nobody wrote. Sloppy software copies"
    " line breaks from where they were allowed.",
    reference="PS3.5 section 6.2, CWE-117",
)

_LIMITS = {
    "AE": 16, "AS": 4, "CS": 16, "DA": 18, "DS": 16, "DT": 54, "IS": 12, "LO": 64, "PN": 194,
    "SH": 16, "TM": 28, "UI": 64,
}  # fmt: skip
"""Characters of one value; of a person name all three groups, of dates and times ranges."""
_BYTES_A_CHARACTER = 4
_FIXED = frozenset(("AE", "AS", "CS", "DA", "SH", "TM", "UI"))
"""VRs for which readers keep buffers of fixed size, and that nobody writes prose in."""
_ABSURD = 1024


@by_sort
def longest(sort: Sort) -> int:
    """With more bytes a value may be more than its VR allows; private ones are as they are."""
    return NOWHERE if sort.region is Region.PRIVATE else _LIMITS.get(sort.vr, NOWHERE)


def look(element: Element, raw: bytes) -> FindingKind | None:
    """What the length of a value that may be too long means; None where it is allowed."""
    limit = _LIMITS[element.vr]
    values = raw.split(b"\\")
    if max(map(len, values)) <= limit:
        return None
    longest = max(len(each.strip(b" \0")) for each in values)
    if longest > _ABSURD and element.vr in _FIXED:
        return LONG
    characters = limit if raw.isascii() else limit * _BYTES_A_CHARACTER
    return TOO_LONG if longest > characters else None


SIGNS = (
    Sign(
        CONTROL,
        Scope.SHORT,
        (b"\r", b"\n", b"\x08", b"\x0b", b"\x0c", b"\x7f"),
        regex(rb"[\r\n\x08\x0b\x0c\x7f](?=[^\0]{0,64}[^\0\s])|\x7f"),
    ),
)
KINDS = (LONG, TOO_LONG, CONTROL)
