"""PDF documents: where one lies, and what it does by itself."""

from __future__ import annotations

import re
from bisect import bisect_left

from msgspec.structs import replace

from dicomguard.payloads.actions import activity
from dicomguard.payloads.memory import remembered
from dicomguard.payloads.payload import Data, Payload
from dicomguard.regex import regex

# --- PDF: ISO 32000-2 section 7.5 and annex I -----------------------------------------------------

_PDF_HEADER_WITHIN = 1024  # lenient readers take a header that starts in these first bytes
_PREAMBLE_AND_PREFIX = 132
_PDF_TAIL = 2048
_PDF_OBJECT = regex(rb"\d[\0\t\n\f\r ]{1,16}\d{1,10}[\0\t\n\f\r ]{1,16}obj\b")
_PDF_OBJECT_MAX = 64
_PDF_NEAR, _PDF_FAR = 1 << 14, 1 << 20
_BLOCK = 1 << 14


def pdf(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A PDF document; ``hit`` is at its header.

    Either its trailer stands at the end of the value (anywhere behind, for a header so near the
    start that readers take the whole file for a PDF), or an object follows: within 16 KiB, or
    1 MiB for such a header.

    The whole file is not the PDF where a value behind the preamble is: header, trailer and nothing
    else. Vendors keep reports like that, and a short file has them in its first 1024 bytes.
    """
    high = min(high, len(data))
    early = hit < _PDF_HEADER_WITHIN
    end = _trailer_end(data, max(low, high - _PDF_TAIL), high)
    contained = hit == low >= _PREAMBLE_AND_PREFIX and end > hit and high < len(data)
    if early and not contained:
        end, high = _trailer_end(data, 0, len(data)), len(data)
    if end <= hit:
        if not _has_object(data, hit, min(hit + (_PDF_FAR if early else _PDF_NEAR), high)):
            return None
        end = high
    version = data[hit + 5 : hit + 8]
    named = f" {version.decode('ascii')}" if re.fullmatch(rb"\d\.\d", version) else ""
    return Payload(
        start=hit,
        end=end,
        description=f"PDF{named} document",
        whole_file=early and not contained,
    )


@remembered
def _trailer_end(data: Data, start: int, limit: int) -> int:
    """Where the last trailer ends, with the end of line behind its mark; -1 if there is none."""
    mark = _last(data, b"%%EOF", start, limit)
    if mark >= 0:
        end = mark + len(b"%%EOF")
        behind = data[end : min(end + 2, limit)]
        return end + (2 if behind == b"\r\n" else behind[:1] in (b"\r", b"\n"))
    return limit if _last(data, b"startxref", start, limit) >= 0 else -1


def _last(data: Data, needle: bytes, start: int, limit: int) -> int:
    """The last place of the needle; block by block, as mmap.rfind compares byte by byte."""
    for block in range(limit, start, -_BLOCK):
        base = max(start, block - _BLOCK)
        place = data[base : min(block + len(needle) - 1, limit)].rfind(needle)
        if place >= 0:
            return base + place
    return -1


def _has_object(data: Data, start: int, limit: int) -> bool:
    """Whether an object begins within the limits."""
    for block in range(start // _BLOCK, limit // _BLOCK + 1):
        places = _objects(data, block)
        after = bisect_left(places, start)
        if after < len(places):
            return places[after] < limit
    return False


@remembered
def _objects(data: Data, block: int) -> list[int]:
    """Where objects begin in a block of 16 KiB, by the last digit of their number."""
    base = block * _BLOCK
    text = data[base : base + _BLOCK + _PDF_OBJECT_MAX]
    return [base + match.start() for match in _PDF_OBJECT.finditer(text)]


def active_pdf(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A PDF that does something by itself; ``hit`` is at its header or, without one, its end.

    A value is one document from its first header on. Lenient readers do without a header: then it
    is one from the start of the value.
    """
    document = _document(data, hit, low, high)
    if document is None:
        return None
    actions = activity(data, document.start, document.end).actions
    if not actions:
        return None
    return replace(document, description=f"{document.description}: {', '.join(actions)}")


def opaque_pdf(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A PDF of which parts could not be read; ``hit`` as for `active_pdf`."""
    document = _document(data, hit, low, high)
    if document is None:
        return None
    opaque = activity(data, document.start, document.end).opaque
    return replace(document, description=f"{document.description}: {opaque}") if opaque else None


def _document(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """The PDF of a value, answered at one of its triggers only."""
    high = min(high, len(data))
    header = _first_header(data, low, high)
    if header >= 0:
        return pdf(data, hit, low, high) if hit == header else None
    if hit != _first_end(data, low, high) or not _has_object(data, low, hit):
        return None
    return Payload(start=low, end=high, description="PDF document without header")


@remembered
def _first_header(data: Data, low: int, high: int) -> int:
    return data.find(b"%PDF-", low, high)


@remembered
def _first_end(data: Data, low: int, high: int) -> int:
    return data.find(b"startxref", low, high)
