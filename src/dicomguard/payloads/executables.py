"""Programs: PE, ELF, Mach-O, Windows shortcuts, and what betrays a hidden PE."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from msgspec import Struct

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data, Payload

_U32 = struct.Struct("<I")

# --- PE: Microsoft "PE Format", COFF file header and optional header ------------------------------

_PE_MACHINES = {
    0x014C: "x86",
    0x8664: "x86-64",
    0xAA64: "ARM64",
    0x01C4: "ARM Thumb-2",
    0x01C0: "ARM",
    0x0200: "Itanium",
    0x5032: "RISC-V 32",
    0x5064: "RISC-V 64",
}
_PE_FORMATS = {0x010B: "PE32", 0x020B: "PE32+"}
_EXECUTABLE_IMAGE = 0x0002
_DLL = 0x2000

# Signature; Machine, NumberOfSections; time stamp and symbol table; SizeOfOptionalHeader,
# Characteristics; then the Magic of the optional header.
_NT_HEADERS = struct.Struct("<4x2H12x3H")
_OPTIONAL_HEADER = 24
_ALIGNMENTS = struct.Struct("<2I")  # SectionAlignment, FileAlignment, 32 bytes into it
_SECTION = struct.Struct("<16x2I16x")  # SizeOfRawData, PointerToRawData
_SECTIONS_FOLLOWED = 96  # the loader's limit before Windows Vista; later ones take 65,535

_E_LFANEW = 0x3C
_MZ_WINDOW = 1 << 16
_MZ_TRIES = 256
_STUB_WINDOW = 512
_STUB_LENGTH = len(b"This program cannot be run in DOS mode")


class _NtHeaders(Struct, frozen=True):
    """The NT headers of a PE: what they say, and where their section table lies."""

    description: str
    sections: int
    table: int

    @property
    def table_end(self) -> int:
        return self.table + self.sections * _SECTION.size


def pe(data: Data, hit: int, low: int, _high: int) -> Payload | None:
    """A Windows executable; ``hit`` is at its PE signature.

    The MZ header may stand anywhere before it. Tried are the start of the data (a polyglot), the
    start of the value, and, for alignments that a loader takes, up to 256 occurrences of ``MZ`` in
    the 64 KiB before; where none leads here, such NT headers are still an image without its MZ
    header (stripped, or hidden behind decoys), not confirmed. Sections beyond the 96th are not
    followed.
    """
    headers = _nt_headers(data, hit)
    if headers is None:
        return None
    aligned = _aligned(data, hit)
    start = _mz_header(data, hit, low, search=aligned)
    if start is not None:
        return Payload(
            start=start,
            end=min(_image_end(data, start, headers), len(data)),
            description=headers.description,
            whole_file=start == 0,
        )
    if aligned:
        return Payload(
            start=hit,
            end=headers.table_end,
            description=f"{headers.description}, without its MZ header",
            confirmed=False,
        )
    return None


def dos_stub(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """The sentence of the DOS stub where no PE explains it; ``hit`` is at the sentence.

    Answers None where a PE's MZ header stands in the 512 bytes before: `pe` says that.
    """
    if any(_pe_at(data, start) for start in _mz_near(data, hit, _STUB_WINDOW)):
        return None
    return Payload(
        start=hit,
        end=min(hit + _STUB_LENGTH, len(data)),
        description="DOS stub text of a Windows executable",
        confirmed=False,
    )


def _nt_headers(data: Data, offset: int) -> _NtHeaders | None:
    fields = read_fields(_NT_HEADERS, data, offset)
    if fields is None:
        return None
    machine, sections, optional_size, characteristics, magic = fields
    table = offset + _OPTIONAL_HEADER + optional_size
    if (
        machine not in _PE_MACHINES
        or magic not in _PE_FORMATS
        or not characteristics & _EXECUTABLE_IMAGE
        or sections == 0
        or table + sections * _SECTION.size > len(data)
    ):
        return None
    kind = "DLL" if characteristics & _DLL else "executable"
    count = "1 section" if sections == 1 else f"{sections} sections"
    return _NtHeaders(
        description=f"{_PE_FORMATS[magic]} {kind}, {_PE_MACHINES[machine]}, {count}",
        sections=sections,
        table=table,
    )


def _mz_header(data: Data, nt: int, low: int, *, search: bool) -> int | None:
    """Where the MZ header that points at the NT headers stands."""
    for start in (0, low):
        if nt - start >= 4 and data[start : start + 2] == b"MZ" and _lfanew(data, start) == nt:
            return start
    for start in _mz_near(data, nt, _MZ_WINDOW) if search else ():
        if nt - start >= 4 and _lfanew(data, start) == nt:
            return start
    return None


def _mz_near(data: Data, before: int, window: int) -> Iterator[int]:
    """Offsets of ``MZ``, the nearest first."""
    base = max(0, before - window)
    # Copied: mmap.rfind compares byte by byte, bytes.rfind does not.
    near = data[base:before]
    place = len(near)
    for _ in range(_MZ_TRIES):
        place = near.rfind(b"MZ", 0, place)
        if place < 0:
            return
        yield base + place


def _lfanew(data: Data, start: int) -> int | None:
    """Where the MZ header at ``start`` says that the NT headers are."""
    field = read_fields(_U32, data, start + _E_LFANEW)
    return None if field is None else start + field[0]


def _pe_at(data: Data, start: int) -> _NtHeaders | None:
    nt = _lfanew(data, start)
    if nt is None or data[nt : nt + 4] != b"PE\0\0":
        return None
    return _nt_headers(data, nt)


def _image_end(data: Data, start: int, headers: _NtHeaders) -> int:
    """The furthest byte that the header or a section names; may lie beyond the data."""
    followed = min(headers.sections, _SECTIONS_FOLLOWED)
    table = data[headers.table : headers.table + followed * _SECTION.size]
    end = headers.table_end
    for size, pointer in _SECTION.iter_unpack(table):
        if size:  # a section of zeros alone has no bytes, and its pointer means nothing
            end = max(end, start + pointer + size)
    return end


def _aligned(data: Data, nt: int) -> bool:
    """Whether the alignments are powers of two in their order, which a loader demands."""
    fields = read_fields(_ALIGNMENTS, data, nt + _OPTIONAL_HEADER + 32)
    if fields is None:
        return False
    section, file = fields
    return 0 < file <= section and section & (section - 1) == 0 and file & (file - 1) == 0


# --- ELF: System V ABI, chapter 4, and what Linux's binfmt_elf really checks ----------------------

_ELF_MACHINES = {
    2: "SPARC",
    3: "x86",
    4: "m68k",
    6: "x86",  # the 486, which Linux takes for the 386
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC 64",
    22: "S/390",
    40: "ARM",
    42: "SuperH",
    43: "SPARC V9",
    50: "Itanium",
    62: "x86-64",
    93: "ARCompact",
    183: "AArch64",
    195: "ARCv2",
    243: "RISC-V",
    258: "LoongArch",
}
_ELF_TYPES = {1: "object", 2: "executable", 3: "shared object", 4: "core dump"}
_ELF_OBJECT = 1
_ELF_TYPE_FIELDS = frozenset(
    kind.to_bytes(2, order) for kind in _ELF_TYPES for order in ("little", "big")
)
_PT_LOAD = 1
_ELF_ENTRIES_FOLLOWED = 256


class _ElfLayout(Struct, frozen=True):
    """The layouts of one class and byte order.

    Attributes:
        header: e_type, e_machine; e_phoff, e_shoff; e_phentsize, e_phnum, e_shentsize, e_shnum.
        segment: p_type, p_offset, p_filesz.
        section_size: Bytes of one section header.
    """

    name: str
    header: struct.Struct
    segment: struct.Struct
    section_size: int


_ELF_LAYOUTS = tuple(
    _ElfLayout(
        name=f"{bits} {words}",
        header=struct.Struct(order + header),
        segment=struct.Struct(order + segment),
        section_size=section_size,
    )
    for order, words in (("<", "LSB"), (">", "MSB"))
    for bits, header, segment, section_size in (
        ("64-bit", "16x2H12x2Q6x4H2x", "I4xQ16xQ16x", 64),
        ("32-bit", "16x2H8x2I6x4H2x", "2I8xI12x", 40),
    )
)


def elf(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A Unix executable; ``hit`` is at its magic.

    Class, byte order and version bytes are not asked: Linux ignores them, so an evasion may put
    anything there. Which layout fits is told by the size of a program header (of a section header
    for an object file), whose table must lie within the data. A machine that nobody knows is not
    confirmed, and must have a segment to load. The extent is that of both tables and of the first
    256 segments.
    """
    if data[hit + 16 : hit + 18] not in _ELF_TYPE_FIELDS:
        return None
    for layout in _ELF_LAYOUTS:
        fields = read_fields(layout.header, data, hit)
        if fields is None:
            continue
        kind, machine, phoff, shoff, phentsize, phnum, shentsize, shnum = fields
        if kind not in _ELF_TYPES:
            continue
        segments = hit + phoff
        segments_end = segments + phnum * layout.segment.size
        sections_end = hit + shoff + shnum * layout.section_size
        runnable = phnum and phentsize == layout.segment.size and segments_end <= len(data)
        has_sections = shnum and shentsize == layout.section_size and sections_end <= len(data)
        if not runnable and not (kind == _ELF_OBJECT and has_sections):
            continue
        known = machine in _ELF_MACHINES
        followed = min(phnum, _ELF_ENTRIES_FOLLOWED) if runnable else 0
        table = data[segments : segments + followed * layout.segment.size]
        entries = list(layout.segment.iter_unpack(table))
        if not known and not any(type_ == _PT_LOAD for type_, _, _ in entries):
            continue
        ends = [hit + layout.header.size]
        if has_sections:
            ends.append(sections_end)
        if runnable:
            ends.append(segments_end)
        ends += (hit + offset + size for _, offset, size in entries)
        return Payload(
            start=hit,
            end=min(max(ends), len(data)),
            description=f"ELF {layout.name} {_ELF_TYPES[kind]}, "
            f"{_ELF_MACHINES.get(machine, 'unknown machine')}",
            confirmed=known,
            whole_file=hit == 0,
        )
    return None


# --- Mach-O: Apple's <mach-o/loader.h> and <mach-o/fat.h> -----------------------------------------

_MACHO_CPUS = {
    7: "x86",
    0x01000007: "x86-64",
    12: "ARM",
    0x0100000C: "ARM64",
    0x0200000C: "ARM64_32",
    18: "PowerPC",
    0x01000012: "PowerPC 64",
}
_MACHO_TYPES = {
    1: "object",
    2: "executable",
    6: "dynamic library",
    7: "dynamic linker",
    8: "bundle",
    11: "kernel extension",
}
_MACHO_LAST_TYPE = 12
_LC_SEGMENT = 0x01
_LC_SEGMENT_64 = 0x19
_COMMANDS_PROVEN = 16
_COMMANDS_FOLLOWED = 256
_SLICES_MAX = 44  # from 45 on the same field is the major version of a Java class file


class _MachoLayout(Struct, frozen=True):
    """The layouts of one word size and byte order.

    Attributes:
        header: cputype, filetype, ncmds, sizeofcmds.
        command: cmd, cmdsize.
        segment: fileoff, filesize of a segment command.
        segment_command: The number of that command.
    """

    header: struct.Struct
    command: struct.Struct
    segment: struct.Struct
    segment_command: int


_MACHO_LAYOUTS = {
    (magic if order == ">" else magic[::-1]): _MachoLayout(
        header=struct.Struct(order + header),
        command=struct.Struct(order + "2I"),
        segment=struct.Struct(order + segment),
        segment_command=segment_command,
    )
    for order in "<>"
    for magic, header, segment, segment_command in (
        (b"\xfe\xed\xfa\xce", "4xI4x3I4x", "32x2I", _LC_SEGMENT),
        (b"\xfe\xed\xfa\xcf", "4xI4x3I8x", "40x2Q", _LC_SEGMENT_64),
    )
}
_FAT_HEADER = struct.Struct(">4xI")  # nfat_arch
_FAT_SLICES = {  # cputype, offset, size
    b"\xca\xfe\xba\xbe": struct.Struct(">I4x2I4x"),
    b"\xca\xfe\xba\xbf": struct.Struct(">I4x2Q8x"),
}


def macho(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A macOS executable, thin or universal; ``hit`` is at its magic.

    A thin one needs load commands that follow one another within ``sizeofcmds``: the first 16 must
    be sound, and 256 are followed to find its extent. A universal one needs a slice that is a
    Mach-O for the processor it is said to be for.
    """
    thin = _thin(data, hit)
    if thin is not None:
        end, description = thin
    else:
        universal = _universal(data, hit)
        if universal is None:
            return None
        end, description = universal
    return Payload(start=hit, end=min(end, len(data)), description=description, whole_file=hit == 0)


class _MachoHeader(Struct, frozen=True):
    """The header of a thin Mach-O and the place of its load commands."""

    layout: _MachoLayout
    cpu: int
    kind: int
    commands: int
    commands_at: int
    commands_end: int


def _macho_header(data: Data, start: int) -> _MachoHeader | None:
    layout = _MACHO_LAYOUTS.get(data[start : start + 4])
    fields = read_fields(layout.header, data, start) if layout else None
    if layout is None or fields is None:
        return None
    cpu, kind, commands, size = fields
    commands_at = start + layout.header.size
    if (
        cpu not in _MACHO_CPUS
        or not 1 <= kind <= _MACHO_LAST_TYPE
        or not commands
        or not commands * layout.command.size <= size <= len(data) - commands_at
    ):
        return None
    return _MachoHeader(layout, cpu, kind, commands, commands_at, commands_at + size)


def _thin(data: Data, start: int) -> tuple[int, str] | None:
    """End (perhaps beyond the data) and description of a thin Mach-O."""
    header = _macho_header(data, start)
    if header is None:
        return None
    place, end = header.commands_at, header.commands_end
    for number in range(min(header.commands, _COMMANDS_FOLLOWED)):
        command = read_fields(header.layout.command, data, place)
        if command is None or not 8 <= command[1] <= header.commands_end - place:
            if number < _COMMANDS_PROVEN:
                return None
            break
        if command[0] == header.layout.segment_command:
            segment = read_fields(header.layout.segment, data, place)
            if segment is not None:
                end = max(end, start + sum(segment))
        place += command[1]
    return end, f"Mach-O {_MACHO_TYPES.get(header.kind, 'image')}, {_MACHO_CPUS[header.cpu]}"


def _universal(data: Data, start: int) -> tuple[int, str] | None:
    """End and description of a universal Mach-O with a slice for the processor it names."""
    layout = _FAT_SLICES.get(data[start : start + 4])
    header = read_fields(_FAT_HEADER, data, start)
    if layout is None or header is None or not 1 <= header[0] <= _SLICES_MAX:
        return None
    slices_at = start + _FAT_HEADER.size
    end = slices_at + header[0] * layout.size
    if end > len(data):
        return None
    cpus = []
    for cpu, offset, size in layout.iter_unpack(data[slices_at:end]):
        thin = _macho_header(data, start + offset) if cpu in _MACHO_CPUS else None
        if thin is not None and thin.cpu == cpu:
            cpus.append(_MACHO_CPUS[cpu])
            end = max(end, start + offset + size)
    if not cpus:
        return None
    return end, f"Mach-O universal binary, {', '.join(dict.fromkeys(cpus))}"


# --- Windows shortcut: [MS-SHLLINK] section 2 -----------------------------------------------------

# HeaderSize; LinkFlags; attributes, times, size, icon, window, key; the three reserved fields.
_LNK_HEADER = struct.Struct("<I16xI42xH2I")
_LNK_FLAGS_DEFINED = (1 << 27) - 1
_LNK_ID_LIST, _LNK_INFO, _LNK_UNICODE = 0x01, 0x02, 0x80
_LNK_STRINGS = (0x04, 0x08, 0x10, 0x20, 0x40)
_LNK_ARGUMENTS = 0x20
_LNK_BLOCKS = 32
_U16 = struct.Struct("<H")


def lnk(data: Data, hit: int, _low: int, _high: int) -> Payload | None:
    """A Windows shortcut; ``hit`` is at its header size and class identifier.

    Confirmed where the reserved fields are zero and only flags that the specification defines are
    set; the parts that the flags promise are followed to the end.
    """
    fields = read_fields(_LNK_HEADER, data, hit)
    if fields is None:
        return None
    header_size, flags, *reserved = fields
    if header_size != _LNK_HEADER.size:
        return None
    arguments = " with command-line arguments" if flags & _LNK_ARGUMENTS else ""
    return Payload(
        start=hit,
        end=min(_lnk_end(data, hit + _LNK_HEADER.size, flags), len(data)),
        description=f"Windows shortcut{arguments}",
        confirmed=not any(reserved) and not flags & ~_LNK_FLAGS_DEFINED,
        whole_file=hit == 0,
    )


def _lnk_end(data: Data, place: int, flags: int) -> int:
    """Follow the parts of a shortcut from the end of its header; stops where the data does."""
    if flags & _LNK_ID_LIST:
        size = read_fields(_U16, data, place)
        if size is None:
            return place
        place += 2 + size[0]
    if flags & _LNK_INFO:
        size = read_fields(_U32, data, place)
        if size is None:
            return place
        place += size[0]
    width = 2 if flags & _LNK_UNICODE else 1
    for string in _LNK_STRINGS:
        if flags & string:
            count = read_fields(_U16, data, place)
            if count is None:
                return place
            place += 2 + width * count[0]
    for _ in range(_LNK_BLOCKS):
        size = read_fields(_U32, data, place)
        if size is None:
            return place
        if size[0] < 4:  # the terminal block
            return place + 4
        place += size[0]
    return place
