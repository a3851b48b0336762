"""Documents with active content: PDF actions, a VBA project in a compound file, OOXML with one.

Sources: ISO 32000-1 section 12.6, [MS-CFB], [MS-OVBA], ECMA-376.
"""

from __future__ import annotations

import zlib
from struct import pack

from fixtures.formats import OLE_SECTOR, PDF_HEAD, zip_archive

_FREE, _END, _TABLE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def pdf_with(action: bytes, *, lead: int = 0, hidden: bool = False, extra: bytes = b"") -> bytes:
    """A PDF whose catalog opens with ``action``, the body of an action dictionary.

    Args:
        action: What stands in ``/OpenAction << … >>``; none if empty.
        lead: Bytes before the head, which lenient readers skip up to 1024.
        hidden: Whether the catalog lies in a compressed object stream.
        extra: More entries of the catalog.
    """
    opening = b" /OpenAction << /Type /Action " + action + b" >>" if action else b""
    catalog = b"<< /Type /Catalog /Pages 2 0 R" + opening + extra + b" >>"
    objects = {
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] >>",
    }
    if hidden:
        packed = zlib.compress(b"1 0 " + catalog)
        objects[4] = (
            b"<< /Type /ObjStm /N 1 /First 4 /Filter /FlateDecode /Length %d >>\nstream\n"
            % len(packed)
            + packed
            + b"\nendstream"
        )
    else:
        objects[1] = catalog
    body, table = PDF_HEAD, b"0000000000 65535 f \n"
    for number, content in sorted(objects.items()):
        table += b"%010d 00000 n \n" % len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    whole = body + b"xref\n0 %d\n" % (len(objects) + 1) + table
    return bytes(lead) + whole + trailer % (len(objects) + 1, len(body))


MACRO = (
    b'Attribute VB_Name = "Module1"\r\n'
    b"Sub AutoOpen()\r\n"
    b'    CreateObject("WScript.Shell").Run "cmd.exe /c exit 42", 0\r\n'
    b"End Sub\r\n"
    b"Sub Workbook_Open()\r\n    AutoOpen\r\nEnd Sub\r\n"
)


def vba_project() -> bytes:
    """A compound file with one VBA module that starts itself, uncompressed tokens only."""
    return _compound(
        {
            ("PROJECT",): b'ID="{0}"\r\nModule=Module1\r\nName="Inert"\r\n',
            ("VBA", "_VBA_PROJECT"): bytes.fromhex("CC61FFFF000000"),
            ("VBA", "dir"): _container(_directory()),
            ("VBA", "Module1"): _container(MACRO),
        }
    )


def macro_document(part: str, project: str) -> bytes:
    """An OOXML package with ``part`` for its content and a VBA project."""
    return zip_archive(
        {"[Content_Types].xml": b"<Types/>", part: b"<document/>", project: vba_project()}
    )


def _container(data: bytes) -> bytes:
    """A CompressedContainer ([MS-OVBA] 2.4.1) of literal tokens, one chunk each 3,600 bytes."""
    chunks = b""
    for start in range(0, len(data), 3600):
        part = data[start : start + 3600]
        tokens = b"".join(b"\0" + part[at : at + 8] for at in range(0, len(part), 8))
        chunks += pack("<H", 0xB000 | len(tokens) - 1) + tokens
    return b"\1" + chunks


def _directory() -> bytes:
    """The ``dir`` stream ([MS-OVBA] 2.3.4.2) of a project with the one module ``Module1``."""

    def record(number: int, value: bytes) -> bytes:
        return pack("<HI", number, len(value)) + value

    name, wide = b"Module1", "Module1".encode("utf-16-le")
    return b"".join(
        [
            record(0x01, pack("<I", 1)) + record(0x02, pack("<I", 0x409)),
            record(0x14, pack("<I", 0x409)) + record(0x03, pack("<H", 1252)),
            record(0x04, b"Inert") + record(0x05, b"") + record(0x40, b""),
            record(0x06, b"") + record(0x3D, b"") + record(0x07, bytes(4)),
            record(0x08, bytes(4)) + pack("<HIIH", 0x09, 4, 1, 1),
            record(0x0C, b"") + record(0x3C, b""),
            record(0x0F, pack("<H", 1)) + record(0x13, b"\xff\xff"),
            record(0x19, name) + record(0x47, wide) + record(0x1A, name) + record(0x32, wide),
            record(0x1C, b"") + record(0x48, b"") + record(0x31, bytes(4)),
            record(0x1E, bytes(4)) + record(0x2C, b"\xff\xff"),
            record(0x21, b"") + record(0x2B, b"") + record(0x10, b""),
        ]
    )


def _compound(streams: dict[tuple[str, ...], bytes]) -> bytes:
    """A version 3 compound file; streams are padded to 4,096 bytes, so none needs a mini stream.

    Siblings form a chain of right neighbours, which every reader follows.
    """
    names = [("Root Entry",), ("VBA",), *streams]
    sectors = 8
    first_stream = 3
    table = [_TABLE, 2, _END]
    entries = b""
    for index, name in enumerate(names):
        kind, child, right, start, size = 2, _FREE, _FREE, _END, 0
        if index == 0:
            kind, child = 5, 1
        elif index == 1:
            kind, child, right = 1, _first(names, 2), 2
        else:
            siblings = [at for at in range(2, len(names)) if len(names[at]) == len(name)]
            after = [at for at in siblings if at > index]
            right = after[0] if after else _FREE
            start, size = first_stream + (index - 2) * sectors, 4096
            table += [*range(start + 1, start + sectors), _END]
        wide = name[-1].encode("utf-16-le") + b"\0\0"
        entries += wide.ljust(64, b"\0") + pack("<HBBIII", len(wide), kind, 1, _FREE, right, child)
        entries += bytes(36) + pack("<IQ", start, size)
    header = bytes.fromhex("D0CF11E0A1B11AE1") + bytes(16)
    header += pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += pack("<9I", 0, 1, 1, 0, 4096, _END, 0, _END, 0)
    header += pack("<109I", 0, *[_FREE] * 108)
    allocation = pack(f"<{len(table)}I", *table).ljust(OLE_SECTOR, b"\xff")
    entries = entries.ljust(2 * OLE_SECTOR, b"\0")
    content = b"".join(data.ljust(sectors * OLE_SECTOR, b"\0") for data in streams.values())
    return header + allocation + entries + content


def _first(names: list[tuple[str, ...]], depth: int) -> int:
    return next(at for at in range(2, len(names)) if len(names[at]) == depth)
