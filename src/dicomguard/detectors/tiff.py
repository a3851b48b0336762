"""The TIFF personality of a DICOM file: honest dual files from forged ones.

Whole-slide scanners and some viewers write files that are TIFF and DICOM at once (Clunie 2019, J
Pathol Inform 10:12). The TIFF header stands in the preamble, its directories in trailing padding or
a private element, its strips are the pixel data. Tools that recompress or truncate such files keep
the header, which then points nowhere.
"""

from __future__ import annotations

import re
from enum import StrEnum
from struct import unpack_from

from dicomguard.dicom.source import Source
from dicomguard.model import Region
from dicomguard.regex import regex

_MAX_DIRECTORIES = 64
_MAX_ENTRIES = 200
_MAX_STRIPS = 65536
_TYPE_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_WIDTH, _HEIGHT, _STRIPS, _STRIP_SIZES = 256, 257, 273, 279
_TILES, _TILE_SIZES = 324, 325
_TEXTS = {270: "ImageDescription", 305: "Software"}
_CARRIERS = {
    330: "SubIFDs",
    700: "XMP",
    34377: "Photoshop data",
    34665: "EXIF data",
    34853: "GPS data",
}
_SCRIPT = regex(rb"<script|<\?php|javascript:|powershell|#!/|cmd\.exe", re.IGNORECASE)
_HOMES = (Region.PADDING, Region.PRIVATE)


class Personality(StrEnum):
    """What a TIFF header in the preamble is."""

    DUAL = "valid TIFF whose image is the pixel data"
    STALE = "TIFF header that points nowhere, left by a tool that rewrote the file"
    FORGED = "TIFF header with something else behind it"


def is_tiff(preamble: bytes) -> bool:
    """Whether the preamble starts with a TIFF or BigTIFF header."""
    return preamble[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def examine(source: Source) -> tuple[Personality, str]:
    """Which of the three it is, and why if it is not an honest dual file."""
    return _Reader(source).examine()


class _Reader:
    """Reads TIFF structures from a file that may be anything."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.data = source.data
        self.size = len(source.data)
        head = bytes(source.data[:8])
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = head[2:4] in (b"+\0", b"\0+")

    def examine(self) -> tuple[Personality, str]:
        header = 16 if self.big else 8
        if any(self.data[header:128]):
            return Personality.FORGED, "bytes behind the TIFF header"
        directory = self._offset(8 if self.big else 4)
        if directory < 132:
            return Personality.FORGED, "the directory lies inside preamble and prefix"
        if self._entries(directory) is None:
            return Personality.STALE, ""
        problem = self._chain_problem(directory)
        return (Personality.FORGED if problem else Personality.DUAL), problem

    def _chain_problem(self, directory: int) -> str:
        """What is wrong with a directory or one that follows it; empty if nothing."""
        seen: set[int] = set()
        while directory:
            entries = self._entries(directory)
            if entries is None:
                return "the chain of directories is broken"
            if directory in seen or len(seen) >= _MAX_DIRECTORIES:
                return "the chain of directories is too long or a circle"
            seen.add(directory)
            problem = self._problem(directory, entries)
            if problem:
                return problem
            directory = self._next(directory, len(entries))
        return ""

    def _offset(self, at: int) -> int:
        value: int = unpack_from(self.order + ("Q" if self.big else "I"), self.data, at)[0]
        return value

    def _layout(self) -> tuple[str, int, str, int]:
        """Format and size of the entry count, format and size of an entry."""
        return ("Q", 8, "HHQ8s", 20) if self.big else ("H", 2, "HHI4s", 12)

    def _entries(self, at: int) -> dict[int, tuple[int, int, int]] | None:
        """Type, count and value offset by tag; None if this is no directory."""
        count_format, count_size, entry_format, entry_size = self._layout()
        if at + count_size > self.size:
            return None
        count: int = unpack_from(self.order + count_format, self.data, at)[0]
        start = at + count_size
        end = start + count * entry_size + (8 if self.big else 4)
        if not 1 <= count <= _MAX_ENTRIES or end > self.size:
            return None
        entries: dict[int, tuple[int, int, int]] = {}
        last = -1
        for index in range(count):
            place = start + index * entry_size
            tag, type_, length, _ = unpack_from(self.order + entry_format, self.data, place)
            if tag <= last or type_ not in _TYPE_SIZES:
                return None
            last = tag
            inline = 8 if self.big else 4
            value = place + entry_size - inline
            if length * _TYPE_SIZES[type_] > inline:
                value = self._offset(value)
            entries[tag] = (type_, length, value)
        return entries

    def _next(self, at: int, count: int) -> int:
        _, count_size, _, entry_size = self._layout()
        return self._offset(at + count_size + count * entry_size)

    def _numbers(self, entry: tuple[int, int, int] | None) -> list[int]:
        if entry is None:
            return []
        type_, length, value = entry
        code = {3: "H", 4: "I", 16: "Q"}.get(type_)
        if code is None or length > _MAX_STRIPS or value + length * _TYPE_SIZES[type_] > self.size:
            return []
        return list(unpack_from(f"{self.order}{length}{code}", self.data, value))

    def _problem(self, directory: int, entries: dict[int, tuple[int, int, int]]) -> str:
        """What is wrong with a directory; empty if nothing."""
        layout = self.source.layout
        if layout.span_at(directory).region not in _HOMES:
            return "the directory lies where TIFF writers do not put it"
        for tag, name in _CARRIERS.items():
            if tag in entries:
                return f"the directory holds {name}"
        for tag, name in _TEXTS.items():
            if tag in entries:
                _, length, value = entries[tag]
                if _SCRIPT.search(self.data[value : value + min(length, 1 << 16)]):
                    return f"{name} holds script text"
        for offsets, sizes in ((_STRIPS, _STRIP_SIZES), (_TILES, _TILE_SIZES)):
            pairs = zip(
                self._numbers(entries.get(offsets)), self._numbers(entries.get(sizes)), strict=False
            )
            for start, size in pairs:
                inside = start < self.size and start + size <= self.size
                if not inside or layout.span_at(start).region is not Region.PIXELS:
                    return "the TIFF image is not the pixel data"
        return self._geometry_problem(entries)

    def _geometry_problem(self, entries: dict[int, tuple[int, int, int]]) -> str:
        layout, data = self.source.layout, self.data
        width, height = self._numbers(entries.get(_WIDTH)), self._numbers(entries.get(_HEIGHT))
        columns, rows = layout.number(data, 0x00280011), layout.number(data, 0x00280010)
        if _TILES in entries or not (width and height and columns and rows):
            return ""  # a tiled slide: its frames are the tiles
        frames = layout.number(data, 0x00280008) or 1
        if width[0] == columns and height[0] in (rows, rows * frames):
            return ""
        return "the TIFF image has another size than the DICOM image"
