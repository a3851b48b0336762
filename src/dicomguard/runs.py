"""Runs of certain bytes: these are translated to marks, of which many in a row are sought at once.

StringZilla does both for many bytes at a time, where a regular expression looks at each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from stringzilla import find, translate

from dicomguard.payloads.payload import Data
from dicomguard.regex import regex

PRINTABLE = bytes(range(0x20, 0x7F)) + b"\t\n\r"

CHARACTER, NUL = 1, 2
CLASSES = bytes(CHARACTER if byte in PRINTABLE else 0 if byte else NUL for byte in range(256))
"""Marks: printable, NUL (of which UTF-16 has one a character), and all else, which is 0."""

WINDOW = 1 << 24
"""Bytes searched at once; a run across two windows is found in both."""


class Form(NamedTuple):
    """What a run is like, in marks.

    Attributes:
        least: What must be there of it.
        more: All that may follow, or nothing.
    """

    least: bytes
    more: re.Pattern[bytes]


def runs_of(form: Form, marked: bytes) -> Iterator[tuple[int, int]]:
    """Where each run begins and ends."""
    least, more = form
    start = find(marked, least)
    while start >= 0:
        rest = more.match(marked, start + len(least))
        assert rest is not None
        yield start, rest.end()
        start = find(marked, least, rest.end())


class Runs:
    """Searches for runs of certain characters.

    Args:
        characters: These.
        minimum: How many of them at least.
    """

    def __init__(self, characters: bytes, minimum: int) -> None:
        self._table = bytes(1 if byte in characters else 0 for byte in range(256))
        self._form = Form(b"\1" * minimum, regex(rb"\x01*+"))

    def __call__(self, values: Data) -> Iterator[int]:
        """Where each run begins."""
        return (start for start, _ in self.extents(values))

    def extents(self, values: Data) -> Iterator[tuple[int, int]]:
        """Where each run begins and ends."""
        for base in range(0, len(values), WINDOW):
            marked = translate(values[base : base + WINDOW], self._table)
            for start, end in runs_of(self._form, marked):
                yield base + start, base + end
