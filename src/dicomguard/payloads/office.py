"""OLE compound files, the container of office documents, installers and VBA projects."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from msgspec.structs import replace

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data, Payload
from dicomguard.regex import regex

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


# --- Macros: [MS-OVBA] sections 2.3.4 and 2.4.1 ---------------------------------------------------

_MACROS_MAX = 1 << 25
"""Bytes of a compound file in which macros are looked for."""
_MODULES = 256
_SOURCE_MAX = 1 << 20
# The start of every module's source, compressed: the signature byte, a chunk header, a flag byte
# and "Attribute VB_" with its first back reference.
_MODULE = regex(rb"\x01.[\xb0-\xbf]\0Attribut\0e VB_", re.DOTALL)
_STARTS_ITSELF = regex(
    rb"\b(?:Auto_?(?:Open|Exec|Close|Exit|New)|Document_(?:Open|Close|New|BeforeClose)"
    rb"|DocumentOpen|Workbook_(?:Open|Activate|BeforeClose|Close)|Worksheet_\w+|Presentation_Open"
    rb"|\w+_(?:Layout|Painted|Painting|GotFocus|MouseMove|Click|Change))\b",
    re.IGNORECASE,
)
_RUNS = regex(
    rb"\b(?:Shell|CreateObject|GetObject|ShellExecute\w?|URLDownloadToFile\w?|WScript|PowerShell"
    rb"|Environ|VirtualAlloc|CallByName|MacScript|SendKeys|Kill|FileCopy|ADODB|XMLHTTP"
    rb"|ExecuteExcel4Macro)\b|\bDeclare\s+(?:PtrSafe\s+)?(?:Function|Sub)\b|\bOpen\b[^\r\n]+\bFor\b",
    re.IGNORECASE,
)


def macros(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A VBA project; ``hit`` is at the magic of the compound file that holds it.

    The streams are those that olefile finds; where it fails, the file is read as one stream. What
    the macros do is told from their source. A project whose source is gone (only the compiled
    macros are left) is one as well.
    """
    file = ole(data, hit, low, high)
    if file is None:
        return None
    content = data[hit : min(file.end, hit + _MACROS_MAX)]
    names, streams = _streams(content)
    if not _is_project(names, content):
        return None
    source = b"\n".join(islice(_sources(streams), _MODULES))
    said = [
        meaning
        for meaning, word in (("start themselves", _STARTS_ITSELF), ("run commands", _RUNS))
        if word.search(source)
    ]
    words = " that " + " and ".join(said) if said else "" if source else " without source"
    return replace(file, description=f"{file.description}: VBA macros{words}")


def _streams(content: bytes) -> tuple[frozenset[str], Sequence[bytes]]:
    """The names and contents in a compound file; where it is broken, none and all of its bytes."""
    import olefile  # noqa: PLC0415 - only compound files need it

    names: set[str] = set()
    streams: list[bytes] = []
    try:
        with olefile.OleFileIO(io.BytesIO(content)) as file:
            for path in file.listdir(streams=True, storages=True):
                names.update(path)
                if file.get_type(path) == olefile.STGTY_STREAM:
                    streams.append(file.openstream(path).read())
    except Exception:  # noqa: BLE001 - olefile raises anything for a file that is broken on purpose
        streams.append(content)
    return frozenset(names), streams


def _is_project(names: frozenset[str], content: bytes) -> bool:
    if names & {"_VBA_PROJECT", "_VBA_PROJECT_CUR", "VBA"}:
        return True
    return "_VBA_PROJECT".encode("utf-16-le") in content or _MODULE.search(content) is not None


def _sources(streams: Iterable[bytes]) -> Iterator[bytes]:
    """The source of every module."""
    for stream in streams:
        for match in _MODULE.finditer(stream):
            yield _decompressed(stream, match.start() + 1)


def _decompressed(data: bytes, place: int) -> bytes:
    """The chunks of a compressed container from a place on, as far as they are sound."""
    made = bytearray()
    while place + 2 <= len(data) and len(made) < _SOURCE_MAX:
        header = int.from_bytes(data[place : place + 2], "little")
        if header >> 12 & 0x7 != 0b011:
            break
        end = min(place + (header & 0xFFF) + 3, len(data))
        place += 2
        if header & 0x8000:
            _expand(data[place:end], made)
        else:
            made += data[place:end]
        place = end
    return bytes(made)


def _expand(chunk: bytes, made: bytearray) -> None:
    """Add what a chunk of literal and copy tokens stands for, of 4 KiB at most."""
    start, place = len(made), 0
    while place < len(chunk):
        flags = chunk[place]
        place += 1
        for bit in range(8):
            if place >= len(chunk):
                return
            if not flags >> bit & 1:
                made.append(chunk[place])
                place += 1
                continue
            token = int.from_bytes(chunk[place : place + 2], "little")
            place += 2
            width = max((len(made) - start - 1).bit_length(), 4)
            offset = (token >> (16 - width)) + 1
            if offset > len(made) - start:
                return
            for _ in range((token & (0xFFFF >> width)) + 3):
                made.append(made[-offset])
