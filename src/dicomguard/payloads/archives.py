"""Archives: ZIP and what is built on it (JAR, APK, zipapp, office files), RAR, 7z, CAB."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from msgspec import Struct

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.memory import remembered
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
_ENTRIES_FOLLOWED = 1024
_NAME_MAX = 1024  # longer names are judged by these first bytes
_ENCRYPTED = 0x0001
_COMMENT_MAX = 0xFFFF


class _Member(NamedTuple):
    """One entry of a central directory; sorts by the offset of its local header."""

    offset: int
    flags: int
    name: bytes


class _Place(NamedTuple):
    """Where an end record may mean the central directory to be.

    Attributes:
        directory: Offset of its first entry.
        shift: What to add to the offsets of the members.
        entries: How many the record counts, which readers ignore.
    """

    directory: int
    shift: int
    entries: int


class _Directory(Struct, frozen=True):
    """A central directory, by its first entries."""

    members: tuple[_Member, ...]
    names: frozenset[bytes]

    @property
    def encrypted(self) -> bool:
        """Whether any of the members is."""
        return any(member.flags & _ENCRYPTED for member in self.members)

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
            if self._has(prefix):
                return f"{application} document{' with macros' if macros else ''}"
        if {b"mimetype", b"content.xml"} <= self.names:
            return f"OpenDocument file{' with macros' if self._has(b'Basic/') else ''}"
        if any(name.endswith(b"/data.pkl") for name in self.names):
            return "PyTorch model with a pickle"
        return "ZIP archive"

    def _has(self, prefix: bytes) -> bool:
        return any(name.startswith(prefix) for name in self.names)


def zip_archive(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A ZIP archive that is not a program; ``hit`` is at its end record (``jar`` has the others).

    The central directory is looked for directly before the end record, as most readers do, and at
    the offset that the record names; where a ZIP64 record is found, also as that says. What
    readers ignore is ignored here: how many members the record counts, whether the comment ends
    within the data, and which name a local header bears. The archive is confirmed where one of
    the first 1,024 members has a local header; a directory alone is not.
    """
    programs, others = _directories(data, hit)
    if programs or not others:
        return None
    return _zip_payload(data, hit, others, lambda directory: directory.document)


def jar(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A ZIP archive that Java, Android or Python runs; ``hit`` is at its end record.

    These read different places as the central directory: one that makes a program is enough.
    """
    programs, _ = _directories(data, hit)
    if not programs:
        return None
    return _zip_payload(data, hit, programs, lambda directory: directory.program)


_Directories = list[tuple[_Place, _Directory]]


def _directories(data: Data, hit: int) -> tuple[_Directories, _Directories]:
    """The directories that the end record may mean: those of programs, and the others."""
    programs: _Directories = []
    others: _Directories = []
    for place in _places(data, hit):
        if data[place.directory : place.directory + 4] == b"PK\1\2":
            directory = _directory(data, place.directory)
            if directory.members:
                (programs if directory.program else others).append((place, directory))
    return programs, others


def _places(data: Data, hit: int) -> Iterator[_Place]:
    record = read_fields(_END_RECORD, data, hit)
    if record is None:
        return
    ends = [(hit, record[:3])]
    record64 = hit - _ZIP64_LOCATOR - 56
    if data[max(0, hit - _ZIP64_LOCATOR) : hit].startswith(b"PK\6\7"):
        fields = read_fields(_ZIP64_RECORD, data, record64)
        if fields is not None and data[record64 : record64 + 4] == b"PK\6\6":
            ends.insert(0, (record64, fields))
    for end, (entries, size, offset) in ends:
        for directory, shift in dict.fromkeys(((end - size, end - size - offset), (offset, 0))):
            if 0 <= directory < end and shift >= 0:
                yield _Place(directory, shift, entries)


@remembered
def _directory(data: Data, place: int) -> _Directory:
    """The directory at a place, up to the first entry that is none."""
    members = []
    for _ in range(_ENTRIES_FOLLOWED):
        fields = read_fields(_ENTRY, data, place)
        if fields is None or data[place : place + 4] != b"PK\1\2":
            break
        flags, name_size, extra_size, comment_size, offset = fields
        name = place + _ENTRY.size
        members.append(_Member(offset, flags, data[name : name + min(name_size, _NAME_MAX)]))
        place = name + name_size + extra_size + comment_size
    return _Directory(tuple(sorted(members)), frozenset(member.name for member in members))


def _zip_payload(
    data: Data, hit: int, candidates: _Directories, kind: Callable[[_Directory], str]
) -> Payload:
    """The archive of the first directory that leads to a local header, or else of the first."""
    comment = int.from_bytes(data[hit + 20 : hit + 22], "little")
    end = min(hit + _END_RECORD.size + comment, len(data))
    starts = [_first_local_header(data, place, directory) for place, directory in candidates]
    chosen = next((number for number, start in enumerate(starts) if start is not None), 0)
    place, directory = candidates[chosen]
    start = starts[chosen]
    count = max(place.entries, len(directory.members))
    members = "1 member" if count == 1 else f"{count} members"
    # Readers search for the end record from the end of the file, NUL padding aside.
    at_end = len(data) - end <= _COMMENT_MAX and not data[end:].strip(b"\0")
    return Payload(
        start=place.directory if start is None else start,
        end=end,
        description=f"{kind(directory)}, {members}{', encrypted' if directory.encrypted else ''}",
        confirmed=start is not None,
        whole_file=at_end,
    )


def _first_local_header(data: Data, place: _Place, directory: _Directory) -> int | None:
    """The lowest local header of a member; a member whose offset needs 64 bits is passed over."""
    for member in directory.members:
        local = place.shift + member.offset
        if (
            member.offset != _ZIP64_MARK
            and local < place.directory
            and data[local : local + 4] == b"PK\3\4"
        ):
            return local
    return None


# --- RAR: the "RAR 5.0 archive format" and the technote of version 4 ------------------------------

_RAR4_MAGIC = b"Rar!\x1a\x07\x00"
_RAR5_MAGIC = b"Rar!\x1a\x07\x01\x00"
_RAR4_BLOCK = struct.Struct("<HB2H")  # CRC, type, flags, size
_RAR4_MAIN, _RAR4_END = 0x73, 0x7B
_RAR4_HAS_DATA = 0x8000
_RAR4_ENCRYPTED = 0x0080
_RAR5_MAIN, _RAR5_ENCRYPTION, _RAR5_END = 1, 4, 5
_RAR5_HAS_EXTRA, _RAR5_HAS_DATA = 0x0001, 0x0002
_RAR_HEADER_PROVEN = 1 << 10  # a main header has some 20 bytes; the format allows 2 MiB
_RAR5_HEADER_MAX = 1 << 21
_RAR_BLOCKS = 256
_RAR_STUB_MAX = 1 << 20


def rar(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A RAR archive of version 4 or 5; ``hit`` is at its magic.

    The checksum of the main header is the proof; one of more than 1 KiB is not computed, and such
    an archive not confirmed. The blocks are followed to the end block; where they cannot be (not
    confirmed, encrypted, or more than 256), the extent is to the end of the value. Readers
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
    proven = first.header <= _RAR_HEADER_PROVEN
    for _ in range(_RAR_BLOCKS if proven else 0):
        if block is None or block.last or block.opaque:
            break
        block = step(data, block.end, proven=False)
    complete = block is not None and block.last
    return Payload(
        start=hit,
        end=min(block.end if block is not None and complete else max(high, first.end), len(data)),
        description=f"RAR {version} archive{', encrypted' if first.opaque else ''}",
        confirmed=proven,
        whole_file=hit < _RAR_STUB_MAX,
    )


class _RarBlock(Struct, frozen=True):
    """One block: its end with its data, and whether nothing (readable) follows it.

    Attributes:
        header: Bytes that its checksum covers.
    """

    header: int
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
    header = size - 2
    if proven and (
        kind != _RAR4_MAIN
        or (header <= _RAR_HEADER_PROVEN and zlib.crc32(data[place + 2 : end]) & 0xFFFF != crc)
    ):
        return None
    if flags & _RAR4_HAS_DATA:
        added = read_fields(_U32, data, place + _RAR4_BLOCK.size)
        end += added[0] if added else 0
    encrypted = kind == _RAR4_MAIN and bool(flags & _RAR4_ENCRYPTED)
    return _RarBlock(header=header, end=end, last=kind == _RAR4_END, opaque=encrypted)


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
    header = end - place - 4
    if proven and (
        kind.value not in (_RAR5_MAIN, _RAR5_ENCRYPTION)
        or (header <= _RAR_HEADER_PROVEN and zlib.crc32(data[place + 4 : end]) != crc[0])
    ):
        return None
    if flags.value & _RAR5_HAS_DATA:
        extra = _vint(data, flags.end) if flags.value & _RAR5_HAS_EXTRA else flags
        added = _vint(data, extra.end) if extra else None
        end += added.value if added else 0
    return _RarBlock(
        header=header,
        end=end,
        last=kind.value == _RAR5_END,
        opaque=kind.value == _RAR5_ENCRYPTION,
    )


class _Vint(Struct, frozen=True):
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
