"""Text of a value by its Specific Character Set (0008,0005), PS3.3 section C.12.1.1.2.

Python's codecs do the work; the terms are read as sloppily as they are written in the field
(``ISO-IR 100``, ``ISO 2022 IR 100`` alone). Nothing raises: what is no text is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from dicomguard.regex import regex

_CODECS = MappingProxyType(
    {
        "6": "latin-1", "13": "shift_jis", "58": "gb2312", "87": "latin-1", "100": "latin-1",
        "101": "iso8859_2", "109": "iso8859_3", "110": "iso8859_4", "126": "iso8859_7",
        "127": "iso8859_6", "138": "iso8859_8", "144": "iso8859_5", "148": "iso8859_9",
        "149": "euc_kr", "159": "latin-1", "166": "iso8859_11", "192": "utf-8", "203": "iso8859_15",
        "GB18030": "gb18030", "GBK": "gbk",
    }
)  # fmt: skip
"""Codec by the number of a defined term; of multi-byte sets without ISO 2022 that of their G1."""

_ESCAPED = MappingProxyType(
    {
        b"(B": "ascii", b"(J": "ascii", b")I": "shift_jis", b"-A": "latin-1", b"-B": "iso8859_2",
        b"-C": "iso8859_3", b"-D": "iso8859_4", b"-F": "iso8859_7", b"-G": "iso8859_6",
        b"-H": "iso8859_8", b"-L": "iso8859_5", b"-M": "iso8859_9", b"-T": "iso8859_11",
        b"-b": "iso8859_15", b"$)C": "euc_kr", b"$)A": "gb2312", b"$B": "iso2022_jp",
        b"$(D": "iso2022_jp_2",
    }
)  # fmt: skip
"""Codec by the escape that switches to it (PS3.3 tables C.12-3 and C.12-4)."""
_ESCAPE = regex(rb"\x1b(\$[()]?[A-Z]|[()\-][A-Za-z])")
_TERM = regex(r"(GB18030|GBK)|(\d{1,3})\s*$")


def codec_of(term: str) -> str:
    """The codec of one defined term; Latin-1, in which every byte is a character, if unknown."""
    match = _TERM.search(term.strip(" \0"))
    return _CODECS.get(match[1] or match[2], "latin-1") if match else "latin-1"


def is_escape_known(raw: bytes) -> bool:
    """Whether every ESC in a value begins one of the escapes that PS3.3 defines."""
    escapes = _ESCAPE.findall(raw)
    return len(escapes) == raw.count(b"\x1b") and all(escape in _ESCAPED for escape in escapes)


def decode(raw: bytes, terms: Sequence[str] = ()) -> str:
    """A value as text.

    Args:
        raw: Its bytes.
        terms: The values of (0008,0005) that apply to it.
    """
    codec = codec_of(terms[0]) if terms else "utf-8" if _is_utf8(raw) else "latin-1"
    if b"\x1b" not in raw:
        return raw.decode(codec, "replace")
    parts = _ESCAPE.split(raw)
    text = [parts[0].decode(codec, "replace")]
    for escape, run in zip(parts[1::2], parts[2::2], strict=True):
        known = _ESCAPED.get(escape, "latin-1")
        if known.startswith("iso2022"):
            text.append((b"\x1b" + escape + run).decode(known, "replace"))
        else:
            text.append(run.decode(known, "replace"))
    return "".join(text)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
