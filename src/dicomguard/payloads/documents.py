"""Documents that can carry programs of their own: PDF and OLE compound files."""

from __future__ import annotations

import re
import struct

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data, Payload

# --- PDF: ISO 32000-2 section 7.5 and annex I -----------------------------------------------------

_PDF_HEADER_WITHIN = 1024  # lenient readers take a header that starts in these first bytes
_PDF_TAIL = 2048
_PDF_END = re.compile(rb"%%EOF(?:\r?\n|\r)?")
_PDF_OBJECT = re.compile(rb"\d{1,10}\s{1,4}\d{1,5}\s{1,4}obj\b")
_PDF_OBJECT_LEAD = 24  # the most bytes of a match before ``obj``
_PDF_NEAR, _PDF_FAR = 1 << 14, 1 << 20
_PDF_TRIES = 64


def pdf(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A PDF document; ``hit`` is at its header.

    Either its trailer stands at the end of the value (of the data, for a header so near the start
    that readers take the whole file for a PDF), or an object follows: within 16 KiB, or 1 MiB for
    such a header.
    """
    whole_file = hit < _PDF_HEADER_WITHIN
    limit = len(data) if whole_file else min(high, len(data))
    tail = max(hit, limit - _PDF_TAIL)
    last = data[tail:limit]
    # The end of line behind the last end marker is the document's too; an update may follow one.
    markers = list(_PDF_END.finditer(last))
    trailed = bool(markers) or b"startxref" in last
    if not trailed and not _has_object(data, hit, limit, _PDF_FAR if whole_file else _PDF_NEAR):
        return None
    version = data[hit + 5 : hit + 8]
    named = f" {version.decode('ascii')}" if re.fullmatch(rb"\d\.\d", version) else ""
    return Payload(
        start=hit,
        end=tail + markers[-1].end() if markers else limit,
        description=f"PDF{named} document",
        whole_file=whole_file,
    )


def _has_object(data: Data, start: int, limit: int, reach: int) -> bool:
    """Whether an object begins within reach, by the first 64 occurrences of ``obj``."""
    near = data[start : min(start + reach, limit)]
    place = -1
    for _ in range(_PDF_TRIES):
        place = near.find(b"obj", place + 1)
        if place < 0:
            return False
        if _PDF_OBJECT.search(near, max(0, place - _PDF_OBJECT_LEAD), place + 4):
            return True
    return False


# --- OLE compound file: [MS-CFB] section 2 --------------------------------------------------------

# Major version, byte order, sector shift, mini sector shift; sector of the directory.
_OLE_HEADER = struct.Struct("<26x4H14xI12x")
_OLE_BYTE_ORDER = 0xFFFE
_OLE_SHIFTS = {3: 9, 4: 12}  # major version: sector shift
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

    Confirmed where the directory sector that the header names begins with the root entry. What
    it holds is told from the first 4 KiB of that directory. The format has no length of its own:
    the extent is to the end of the value.
    """
    fields = read_fields(_OLE_HEADER, data, hit)
    if fields is None:
        return None
    version, byte_order, shift, mini_shift, sector = fields
    if (
        byte_order != _OLE_BYTE_ORDER
        or _OLE_SHIFTS.get(version) != shift
        or mini_shift != _OLE_MINI_SHIFT
    ):
        return None
    place = hit + ((sector + 1) << shift)
    directory = data[place : place + _OLE_DIRECTORY]
    confirmed = directory.startswith(_OLE_ROOT)
    return Payload(
        start=hit,
        end=max(min(high, len(data)), hit + _OLE_HEADER.size),
        description=_ole_kind(directory) if confirmed else "OLE compound file",
        confirmed=confirmed,
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
