"""Documents that can carry programs of their own: PDF and OLE compound files."""

from __future__ import annotations

import re
import struct
from bisect import bisect_left

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.memory import remembered
from dicomguard.payloads.payload import Data, Payload

# --- PDF: ISO 32000-2 section 7.5 and annex I -----------------------------------------------------

_PDF_HEADER_WITHIN = 1024  # lenient readers take a header that starts in these first bytes
_PREAMBLE_AND_PREFIX = 132
_PDF_TAIL = 2048
_PDF_OBJECT = re.compile(rb"\d[\0\t\n\f\r ]{1,16}\d{1,10}[\0\t\n\f\r ]{1,16}obj\b")
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


# --- OLE compound file: [MS-CFB] section 2 --------------------------------------------------------

# Major version, byte order, sector shift, mini sector shift; sector of the directory.
_OLE_HEADER = struct.Struct("<26x4H14xI12x")
_OLE_BYTE_ORDER = 0xFFFE
_OLE_SMALL_SECTORS, _OLE_LARGE_SECTORS = 9, 12
_OLE_SHIFTS = {3: _OLE_SMALL_SECTORS, 4: _OLE_LARGE_SECTORS}  # by major version
_OLE_MINI_SHIFT = 6
_OLE_ROOT = "Root Entry".encode("utf-16-le")
_OLE_DIRECTORY = 4096
_OLE_KINDS = {
    "WordDocument": "Word document",
    "Workbook": "Excel workbook",
    "PowerPoint Document": "PowerPoint document",
    "__nameid_version1.0": "Outlook message",
}
_OLE_MACROS = ("_VBA_PROJECT", "Macros")
_OLE_INSTALLER = bytes.fromhex("84100c0000000000c000000000000046")  # {000C1084-...}
_OLE_ROOT_CLSID = 80


def ole(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """An OLE compound file (Office 97, MSI, Outlook); ``hit`` is at its magic.

    Confirmed where the header is sound and the directory sector that it names begins with the root
    entry. The magic is so long that a header with odd fields, which lenient readers take, is
    still a finding. What the file holds is told from the first 4 KiB of that directory. The format
    has no length of its own: the extent is to the end of the value.
    """
    fields = read_fields(_OLE_HEADER, data, hit)
    if fields is None:
        return None
    version, byte_order, shift, mini_shift, sector = fields
    sound = (
        byte_order == _OLE_BYTE_ORDER
        and _OLE_SHIFTS.get(version) == shift
        and mini_shift == _OLE_MINI_SHIFT
    )
    # Sectors are of 4096 bytes if the header says so, else of 512 whatever it says.
    place = hit + ((sector + 1) << (shift if shift == _OLE_LARGE_SECTORS else _OLE_SMALL_SECTORS))
    directory = data[place : place + _OLE_DIRECTORY]
    has_root = directory.startswith(_OLE_ROOT)
    return Payload(
        start=hit,
        end=max(min(high, len(data)), hit + _OLE_HEADER.size),
        description=_ole_kind(directory) if has_root else "OLE compound file",
        confirmed=sound and has_root,
        whole_file=hit == 0,
    )


def _ole_kind(directory: bytes) -> str:
    if directory[_OLE_ROOT_CLSID : _OLE_ROOT_CLSID + 16] == _OLE_INSTALLER:
        return "Windows Installer package"
    kind = next(
        (kind for stream, kind in _OLE_KINDS.items() if stream.encode("utf-16-le") in directory),
        "OLE compound file",
    )
    macros = any(storage.encode("utf-16-le") in directory for storage in _OLE_MACROS)
    return f"{kind} with macros" if macros else kind
