"""Value representations (PS3.5 section 6.2) and how explicit VR encodes their length (7.1.2)."""

from __future__ import annotations

LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
"""Two reserved bytes and a 32-bit length follow these; a 16-bit length follows the others."""

SHORT_VRS = frozenset(
    (
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT",
        b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
    )
)  # fmt: skip

VRS = {raw: raw.decode("ascii") for raw in LONG_VRS | SHORT_VRS}
"""Every VR of PS3.5, by its two bytes."""

TEXT_VRS = frozenset(
    (
        "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI",
        "UR", "UT",
    )
)  # fmt: skip
"""VRs whose values are character strings."""

LONG_TEXT_VRS = frozenset(("LT", "ST", "UT"))
"""Text that may hold line breaks and is never split at backslashes."""
