"""Archives: ZIP and what is built on it (JAR, APK, zipapp, office files), RAR, 7z, CAB."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data, Payload

_U32 = struct.Struct("<I")

# --- ZIP: PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.16 -----------------------------------------

# Entries in all; size and offset of the central directory; length of the comment.
_END_RECORD = struct.Struct("<10xH2IH")
_ZIP64_RECORD = struct.Struct("<4x28x3Q")  # entries in all, size and offset of the directory
_ZIP64_LOCATOR = 20
_ZIP64_MARK = 0xFFFFFFFF
# Flags; lengths of name, extra field and comment; offset of the local header.
_ENTRY = struct.Struct("<8xH18x3H8xI")
_LOCAL = struct.Struct("<26xH2x")  # length of the name
_ENTRIES_FOLLOWED = 256
_LOCAL_HEADERS_TRIED = 16
_NAME_MAX = 1024  # longer names are compared by these first bytes
_ENCRYPTED = 0x0001
_COMMENT_MAX = 0xFFFF


@dataclass(frozen=True, slots=True)
class _Zip:
    """An archive whose directory and at least one local header agree.

    Attributes:
        start: The lowest local header that agrees.
        end: After the comment of the end record.
        entries: How many members the end record counts.
        names: Those of the members that were followed.
        encrypted: Whether any of those is.
    """

    start: int
    end: int
    entries: int
    names: frozenset[bytes]
    encrypted: bool

    def has(self, *prefixes: bytes) -> bool:
        """Whether a member's name starts with one of these."""
        return any(name.startswith(prefixes) for name in self.names)

    @property
    def program(self) -> str:
        """What runs this archive as a program, in words; empty where nothing does."""
        if {b"classes.dex", b"AndroidManifest.xml"} <= self.names:
            return "Android application (APK)"
        if b"META-INF/MANIFEST.MF" in self.names:
            return "Java archive (JAR)"
        if b"__main__.py" in self.names:
            return "Python application (zipapp)"
        return ""

    @property
    def document(self) -> str:
        """What kind of archive this is where it is no program."""
        macros = any(name.endswith(b"vbaProject.bin") for name in self.names)
        for prefix, application in ((b"word/", "Word"), (b"xl/", "Excel"), (b"ppt/", "PowerPoint")):
            if self.has(prefix):
                return f"{application} document{' with macros' if macros else ''}"
        if {b"mimetype", b"content.xml"} <= self.names:
            return f"OpenDocument file{' with macros' if self.has(b'Basic/') else ''}"
        if any(name.endswith(b"/data.pkl") for name in self.names):
            return "PyTorch model with a pickle"
        return "ZIP archive"


def zip_archive(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A ZIP archive that is not a program; ``hit`` is at its end record (``jar`` has the others).

    The central directory is looked for directly before the end record, as most readers do, and at
    the offset that the record names; one of its first entries must lead to a local header
    with the same name. Both conventions for data put before an archive are understood
    (offsets from the start of the archive or of the file), and ZIP64 end records; members whose
    own offset needs 64 bits are passed over, and an archive without members is nothing.
    """
    archive = _zip(data, hit)
    if archive is None or archive.program:
        return None
    return _zip_payload(data, archive, archive.document)


def jar(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A ZIP archive that Java, Android or Python runs; ``hit`` is at its end record."""
    archive = _zip(data, hit)
    if archive is None or not archive.program:
        return None
    return _zip_payload(data, archive, archive.program)


def _zip_payload(data: Data, archive: _Zip, kind: str) -> Payload:
    members = "1 member" if archive.entries == 1 else f"{archive.entries} members"
    # Readers search for the end record from the end of the file, NUL padding aside.
    at_end = len(data) - archive.end <= _COMMENT_MAX and not data[archive.end :].strip(b"\0")
    return Payload(
        start=archive.start,
        end=archive.end,
        description=f"{kind}, {members}{', encrypted' if archive.encrypted else ''}",
        whole_file=at_end,
    )


def _zip(data: Data, hit: int) -> _Zip | None:
    record = read_fields(_END_RECORD, data, hit)
    if record is None:
        return None
    entries, size, offset, comment = record
    end = hit + _END_RECORD.size + comment
    if end > len(data):
        return None
    directory_end = hit
    record64 = hit - _ZIP64_LOCATOR - 56
    if data[max(0, hit - _ZIP64_LOCATOR) : hit].startswith(b"PK\6\7"):
        fields = read_fields(_ZIP64_RECORD, data, record64)
        if fields is None or data[record64 : record64 + 4] != b"PK\6\6":
            return None
        entries, size, offset = fields
        directory_end = record64
    if not entries:
        return None
    before_record = (directory_end - size, directory_end - size - offset)
    for directory, shift in dict.fromkeys((before_record, (offset, 0))):
        if 0 <= directory < directory_end and shift >= 0:
            members = sorted(_members(data, directory, directory_end, entries))
            for member in members[:_LOCAL_HEADERS_TRIED]:
                if _leads_to_local_header(data, member, shift, directory_end):
                    return _Zip(
                        start=shift + member.offset,
                        end=end,
                        entries=entries,
                        names=frozenset(member.name for member in members),
                        encrypted=any(member.flags & _ENCRYPTED for member in members),
                    )
    return None


class _Member(NamedTuple):
    """One entry of a central directory; sorts by the offset of its local header."""

    offset: int
    flags: int
    name: bytes


def _members(data: Data, place: int, end: int, entries: int) -> Iterator[_Member]:
    """The first members of a central directory, up to the first entry that is none."""
    for _ in range(min(entries, _ENTRIES_FOLLOWED)):
        fields = read_fields(_ENTRY, data, place)
        if fields is None or data[place : place + 4] != b"PK\1\2":
            return
        flags, name_size, extra_size, comment_size, offset = fields
        name = place + _ENTRY.size
        place = name + name_size + extra_size + comment_size
        if place > end:
            return
        if offset != _ZIP64_MARK:
            yield _Member(offset, flags, data[name : name + min(name_size, _NAME_MAX)])


def _leads_to_local_header(data: Data, member: _Member, shift: int, before: int) -> bool:
    local = shift + member.offset
    fields = read_fields(_LOCAL, data, local)
    name = local + _LOCAL.size
    return (
        fields is not None
        and local < before
        and data[local : local + 4] == b"PK\3\4"
        and data[name : name + min(fields[0], _NAME_MAX)] == member.name
    )


# --- RAR: the "RAR 5.0 archive format" and the technote of version 4 ------------------------------

_RAR4_MAGIC = b"Rar!\x1a\x07\x00"
_RAR5_MAGIC = b"Rar!\x1a\x07\x01\x00"
_RAR4_BLOCK = struct.Struct("<HB2H")  # CRC, type, flags, size
_RAR4_MAIN, _RAR4_END = 0x73, 0x7B
_RAR4_HAS_DATA = 0x8000
_RAR4_ENCRYPTED = 0x0080
_RAR5_MAIN, _RAR5_ENCRYPTION, _RAR5_END = 1, 4, 5
_RAR5_HAS_EXTRA, _RAR5_HAS_DATA = 0x0001, 0x0002
_RAR5_HEADER_MAX = 1 << 16  # the format allows 2 MiB, a main header has some 20 bytes
_RAR_BLOCKS = 256
_RAR_STUB_MAX = 1 << 20


def rar(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A RAR archive of version 4 or 5; ``hit`` is at its magic.

    The checksum of the main header is the proof. The blocks are followed to the end block; where
    they cannot be (encrypted, or more than 256), the extent is to the end of the value. Readers
    search the first MiB for the magic (self-extracting archives), so there it is the whole file.
    """
    if data[hit : hit + len(_RAR5_MAGIC)] == _RAR5_MAGIC:
        version, place, step = 5, hit + len(_RAR5_MAGIC), _rar5_block
    else:
        version, place, step = 4, hit + len(_RAR4_MAGIC), _rar4_block
    first = step(data, place, proven=True)
    if first is None:
        return None
    block: _RarBlock | None = first
    for _ in range(_RAR_BLOCKS):
        if block is None or block.last or block.opaque:
            break
        block = step(data, block.end, proven=False)
    complete = block is not None and block.last
    return Payload(
        start=hit,
        end=min(block.end if block is not None and complete else max(high, first.end), len(data)),
        description=f"RAR {version} archive{', encrypted' if first.opaque else ''}",
        whole_file=hit < _RAR_STUB_MAX,
    )


@dataclass(frozen=True, slots=True)
class _RarBlock:
    """One block: its end with its data, and whether nothing (readable) follows it."""

    end: int
    last: bool
    opaque: bool


def _rar4_block(data: Data, place: int, *, proven: bool) -> _RarBlock | None:
    fields = read_fields(_RAR4_BLOCK, data, place)
    if fields is None:
        return None
    crc, kind, flags, size = fields
    end = place + size
    if size < _RAR4_BLOCK.size or end > len(data):
        return None
    if proven and (kind != _RAR4_MAIN or zlib.crc32(data[place + 2 : end]) & 0xFFFF != crc):
        return None
    if flags & _RAR4_HAS_DATA:
        added = read_fields(_U32, data, place + _RAR4_BLOCK.size)
        end += added[0] if added else 0
    encrypted = kind == _RAR4_MAIN and bool(flags & _RAR4_ENCRYPTED)
    return _RarBlock(end=end, last=kind == _RAR4_END, opaque=encrypted)


def _rar5_block(data: Data, place: int, *, proven: bool) -> _RarBlock | None:
    crc = read_fields(_U32, data, place)
    size = _vint(data, place + 4)
    if crc is None or size is None:
        return None
    end = size.end + size.value
    if size.value > _RAR5_HEADER_MAX or end > len(data):
        return None
    kind = _vint(data, size.end)
    flags = _vint(data, kind.end) if kind else None
    if kind is None or flags is None:
        return None
    if proven and (
        kind.value not in (_RAR5_MAIN, _RAR5_ENCRYPTION)
        or zlib.crc32(data[place + 4 : end]) != crc[0]
    ):
        return None
    if flags.value & _RAR5_HAS_DATA:
        extra = _vint(data, flags.end) if flags.value & _RAR5_HAS_EXTRA else flags
        added = _vint(data, extra.end) if extra else None
        end += added.value if added else 0
    return _RarBlock(end=end, last=kind.value == _RAR5_END, opaque=kind.value == _RAR5_ENCRYPTION)


@dataclass(frozen=True, slots=True)
class _Vint:
    value: int
    end: int


def _vint(data: Data, place: int) -> _Vint | None:
    """A RAR 5 variable-length integer: seven bits a byte, least first, ten bytes at most."""
    value = 0
    for number, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << (7 * number)
        if not byte & 0x80:
            return _Vint(value=value, end=place + number + 1)
    return None


# --- 7z: 7zFormat.txt of the LZMA SDK -------------------------------------------------------------

# StartHeaderCRC; then what it covers: NextHeaderOffset, NextHeaderSize, NextHeaderCRC.
_7Z_HEADER = struct.Struct("<8xI2Q4x")


def sevenzip(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A 7z archive; ``hit`` is at its magic, and the checksum of the start header is the proof."""
    fields = read_fields(_7Z_HEADER, data, hit)
    if fields is None:
        return None
    crc, offset, size = fields
    body = hit + _7Z_HEADER.size
    if zlib.crc32(data[hit + 12 : body]) != crc:
        return None
    return Payload(
        start=hit,
        end=min(body + offset + size, len(data)),
        description="7z archive",
        whole_file=hit == 0,
    )


# --- CAB: [MS-CAB] section 2 ----------------------------------------------------------------------

# cbCabinet; coffFiles; versionMinor, versionMajor; cFolders, cFiles.
_CAB_HEADER = struct.Struct("<8xI4xI4x2B2H6x")
_CAB_FILE = struct.Struct("<8xH6x")  # iFolder of a CFFILE
_CAB_CONTINUED = 0xFFFD  # from here on iFolder says that the file goes on in another cabinet


def cab(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A Windows cabinet; ``hit`` is at its magic.

    Its version must be 1.3, its size must lie within the data, and its first file entry within
    that and in a folder that the cabinet has.
    """
    fields = read_fields(_CAB_HEADER, data, hit)
    if fields is None:
        return None
    size, files_at, minor, major, folders, files = fields
    first = read_fields(_CAB_FILE, data, hit + files_at)
    if (
        (major, minor) != (1, 3)
        or not folders
        or not files
        or hit + size > len(data)
        or first is None
        or not _CAB_HEADER.size < files_at <= size - _CAB_FILE.size
        or not (first[0] < folders or first[0] >= _CAB_CONTINUED)
    ):
        return None
    count = "1 file" if files == 1 else f"{files} files"
    return Payload(
        start=hit,
        end=hit + size,
        description=f"Windows cabinet, {count}",
        whole_file=hit == 0,
    )
