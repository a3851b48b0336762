"""What a sign in text values is: a pattern, whose values are looked at, and what it means."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from dicomguard.dicom.layout import Concern, Sort, by_sort
from dicomguard.dicom.vr import LONG_TEXT_VRS, TEXT_VRS
from dicomguard.model import Category, Confidence, FindingKind, Region, Severity
from dicomguard.regex import regex

_CODED = frozenset(("AE", "AS", "CS", "DA", "DT", "SH", "TM", "UI"))
_LONG = LONG_TEXT_VRS | {"UC"}
_NAMING = frozenset(
    (
        0x00020016, 0x00020017, 0x00020018, 0x0008040B, 0x00080050, 0x00080060, 0x00080080,
        0x00081010, 0x00081030, 0x0008103E, 0x00100010, 0x00100020, 0x00181030, 0x00200010,
        0x00401001, 0x00880130, 0x00041130, 0x00041141,
    )
)  # fmt: skip
"""Elements by which exports name their files and folders."""
_ADDRESSES = frozenset((0x00081190, 0x0040E010, 0x00287FE0, 0x00080409, 0x0008010E, 0x00080120))
"""Elements that hold an address, whatever VR a sloppy writer gave them."""


class Scope(Enum):
    """Which elements a sign is looked for in; text VRs only, public ones unless it says other."""

    ANY = "any text, private included"
    PUBLIC = "any public text"
    SHORT = "text that nobody writes prose in"
    LONG = "text that people write prose in"
    CODED = "names, codes, times and identifiers"
    NAMING = "elements that name files and folders"
    NUMBERS = "decimal and integer strings"
    IDENTIFIERS = "UIDs"
    ADDRESSES = "URIs, private included"

    @property
    def holds(self) -> Concern[bool]:
        """Says of a sort of elements of a text VR whether their values are looked at."""
        return _ANSWERED[self]


def _is_public(sort: Sort) -> bool:
    return sort.region is not Region.PRIVATE


_HOLDS: dict[Scope, Concern[bool]] = {
    Scope.ANY: lambda _: True,
    Scope.PUBLIC: _is_public,
    Scope.SHORT: lambda each: each.vr not in _LONG and each.vr != "UR" and _is_public(each),
    Scope.LONG: lambda each: each.vr in _LONG and _is_public(each),
    Scope.CODED: lambda each: each.vr in _CODED and _is_public(each),
    Scope.NAMING: lambda each: each.tag in _NAMING and _is_public(each),
    Scope.NUMBERS: lambda each: each.vr in ("DS", "IS") and _is_public(each),
    Scope.IDENTIFIERS: lambda each: each.vr == "UI" and _is_public(each),
    Scope.ADDRESSES: lambda each: each.vr == "UR" or each.tag in _ADDRESSES,
}
assert set(_HOLDS) == set(Scope)
_ANSWERED = {scope: by_sort(holds) for scope, holds in _HOLDS.items()}
assert TEXT_VRS >= _CODED | _LONG


class Sign(NamedTuple):
    """One pattern.

    Attributes:
        kind: What it means.
        scope: Where it is looked for.
        clues: Lower-case bytes of which a value that matches holds one: looked for first, as that
            is a hundred times quicker than the pattern.
        pattern: Matched on values that NULs part, also after character sets, compatibility forms,
            and the escapes of HTML, URLs and JavaScript are undone.
    """

    kind: FindingKind
    scope: Scope
    clues: tuple[bytes, ...]
    pattern: re.Pattern[bytes]


START = rb"(?<![^\0])\s{0,8}"
"""Where a value begins."""
END = rb"\s{0,8}(?![^\0])"
"""Where a value ends."""


def sign(
    kind: FindingKind, scope: Scope, clues: bytes, *alternatives: bytes, cased: bool = False
) -> Sign:
    """A sign; ``clues`` are parted by blanks."""
    flags = re.NOFLAG if cased else re.IGNORECASE
    parted = tuple(filter(None, clues.split(b" ")))
    return Sign(kind, scope, parted, regex(b"|".join(alternatives), flags))


def exploit(id_: str, title: str, severity: Severity, why: str, *sources: str) -> FindingKind:
    """A finding that names what a value is meant to do to its readers.

    ``sources`` are the reference and, where one fits, the ATT&CK technique.
    """
    return FindingKind(
        id=id_,
        title=title,
        category=Category.EXPLOIT,
        severity=severity,
        confidence=Confidence.STRONG,
        why=why,
        reference=sources[0],
        attack=sources[1] if len(sources) > 1 else "",
    )
