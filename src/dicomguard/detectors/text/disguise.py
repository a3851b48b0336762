"""Characters that make text look like something else, or that nobody sees.

Marks of direction and joiners are how Hebrew, Arabic, Persian and Indian names are written, and
letters of two alphabets in one word are an everyday slip of the keyboard: those are named only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from dicomguard.detectors.text.signs import exploit
from dicomguard.dicom import charset
from dicomguard.model import Category, Confidence, FindingKind, Severity
from dicomguard.regex import regex

INVISIBLE = exploit(
    "TXT-UNICODE",
    "Characters that deceive in a text value",
    Severity.HIGH,
    "People and programs read different texts: invisible tag characters smuggle instructions, and"
    " overrides of direction turn names round.",
    "CWE-1007",
)
OVERRIDE = replace(INVISIBLE, severity=Severity.MEDIUM)
"""The direction of writing turned round by force."""
UNUSUAL = replace(
    INVISIBLE,
    severity=Severity.LOW,
    category=Category.CONFORMANCE,
    confidence=Confidence.WEAK,
)
"""What honest text holds as well, by habit or by mistake."""
ESCAPES = FindingKind(
    id="TXT-ISO2022",
    title="Escape sequences against the rules",
    category=Category.CONFORMANCE,
    severity=Severity.MEDIUM,
    confidence=Confidence.STRONG,
    why="Readers disagree on where such a value ends: escapes of a character set that is not"
    " declared, or not switched back, hide delimiters.",
    reference="PS3.5 section 6.1.2.5",
)

_TAGS = regex("[\U000e0020-\U000e007f]{2}")
_FLAG = regex("\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{2,6}\U000e007f")
"""The flag of a region (England, Texas), which is what tag characters are for."""
_OVERRIDES = regex("[\u202d\u202e]")
_SELDOM = regex(
    "[\u061c\u200b-\u200f\u202a-\u202c\u2060\u2066-\u2069\ufeff\uff0e\uff0f\uff3c\u2215\u2044\u29f5]"
    "|[\ufe00-\ufe0f]{2}"
)
_MIXED = regex("[A-Za-z][\u0400-\u04ff]|[\u0400-\u04ff][A-Za-z]")
"""Letters of Latin and Cyrillic in one word; Greek ones stand in symbols and units."""
_OVERLONG = regex(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]")
_OPEN = regex(rb"\x1b\$(?!\))[()]?[A-Z][^\x1b]*\Z|\x1b\$(?!\))[()]?[A-Z][^\x1b]*[\r\n]")
"""A two-byte set of G0 still in force at the end of a line: PS3.5 asks to switch back before."""


def look(raw: bytes, terms: Sequence[str]) -> Iterator[FindingKind]:
    """What deceives in a value that is not plain ASCII.

    Args:
        raw: Its bytes.
        terms: The values of (0008,0005) that apply to it.
    """
    if b"\x1b" in raw:
        declared = any("2022" in term for term in terms)
        if not declared or not charset.is_escape_known(raw) or _OPEN.search(raw):
            yield ESCAPES
    text = charset.decode(raw, terms)
    if _TAGS.search(_FLAG.sub("", text)):
        yield INVISIBLE
    if _OVERRIDES.search(text):
        yield OVERRIDE
    is_utf8 = bool(terms) and charset.codec_of(terms[0]) == "utf-8"
    overlong = is_utf8 and _OVERLONG.search(raw)
    if overlong or _SELDOM.search(text) or _MIXED.search(text):
        yield UNUSUAL


KINDS = (INVISIBLE, OVERRIDE, UNUSUAL, ESCAPES)
