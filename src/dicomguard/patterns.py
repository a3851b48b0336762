"""Many byte patterns sought in one pass, by Hyperscan.

An engine of rules slows down with every string that it looks for. Hyperscan looks for hundreds of
them as fast as for one (Wang et al., Hyperscan: A Fast Multi-pattern Regex Matcher for Modern CPUs,
NSDI 2019).
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    import hyperscan

_LARGEST = (1 << 32) - 1
_Bytes = bytes | mmap.mmap | memoryview

MATCH_LIMIT = 1_000_000
"""Occurrences after which no more are looked for."""


class Occurrence(NamedTuple):
    """Where a pattern was found.

    Attributes:
        end: Offset behind its last byte.
        number: Of the pattern.
    """

    end: int
    number: int


class Patterns:
    r"""Patterns, compiled when they are first sought; each thread may seek them.

    Args:
        expressions: Each in the syntax of PCRE, over bytes, ``.`` for any byte.
        once: How many of them, the first, it is enough to know one occurrence of.

    >>> Patterns([b"a.c", rb"\x00"]).occurrences(b"abc\0")
    [Occurrence(end=3, number=0), Occurrence(end=4, number=1)]
    """

    def __init__(self, expressions: Sequence[bytes], *, once: int = 0) -> None:
        self._expressions = expressions
        self._once = once
        self._own = threading.local()

    @property
    def is_compiled(self) -> bool:
        """Whether that has been done."""
        return "_database" in self.__dict__

    def compile(self) -> None:
        """Do it now, lest it be done in each of several processes."""
        _ = self._database

    def occurrences(self, data: _Bytes) -> list[Occurrence]:
        """All places, in order of their ends; no more than `MATCH_LIMIT`."""
        if not self._expressions:
            return []
        if len(data) > _LARGEST:
            msg = f"{len(data)} bytes are too many to be looked through at once"
            raise ValueError(msg)
        import hyperscan  # noqa: PLC0415 - loaded when it is used

        found: list[Occurrence] = []

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            found.append(Occurrence(end, number))
            return len(found) >= MATCH_LIMIT

        database = self._database
        try:
            scratch = self._own.scratch
        except AttributeError:
            scratch = self._own.scratch = hyperscan.Scratch(database)
        with suppress(hyperscan.ScanTerminated):
            database.scan(cast("bytes", data), match_event_handler=note, scratch=scratch)
        return found

    @cached_property
    def _database(self) -> hyperscan.Database:
        import hyperscan  # noqa: PLC0415 - loaded when it is used

        database = hyperscan.Database()
        count = len(self._expressions)
        plain = hyperscan.HS_FLAG_DOTALL
        single = plain | hyperscan.HS_FLAG_SINGLEMATCH
        database.compile(
            expressions=self._expressions,
            ids=range(count),
            elements=count,
            flags=[single] * self._once + [plain] * (count - self._once),
        )
        return database


_FEW = 1 << 18
"""Bytes that are looked through before it is worth the while to load Hyperscan and to compile."""


class Literals(Patterns):
    """Byte strings as patterns, sought one after another until much has been looked through.

    Args:
        literals: None of them is empty.
        once: Whether it is enough to know one occurrence of each.
    """

    def __init__(self, literals: Sequence[bytes], *, once: bool = False) -> None:
        super().__init__([literal(each) for each in literals], once=len(literals) * once)
        self._literals = literals
        self._left = _FEW

    def occurrences(self, data: _Bytes) -> list[Occurrence]:
        """As `Patterns.occurrences`."""
        self._left -= len(data)
        if self.is_compiled or self._left < 0:
            return super().occurrences(data)
        raw = bytes(data)
        found: list[Occurrence] = []
        for number, each in enumerate(self._literals):
            at = raw.find(each)
            while at >= 0:
                found.append(Occurrence(at + len(each), number))
                at = -1 if self._once else raw.find(each, at + 1)
        return sorted(found)


_WINDOW = 1 << 23


def windows(
    data: bytes | mmap.mmap, overlap: int, size: int = _WINDOW
) -> Iterator[tuple[int, int, memoryview]]:
    """Data in pieces small enough to be copied.

    Args:
        data: All of them.
        overlap: Bytes of the next piece that a piece has as well.
        size: Bytes of a piece without these.

    Yields:
        Where a piece starts, where the next one does, and its bytes, for as long as it is the last
        that was asked for.
    """
    with memoryview(data) as whole:
        for start in range(0, len(data), size):
            end = min(start + size, len(data))
            with whole[start : end + overlap] as window:
                yield start, end, window


def literal(raw: bytes) -> bytes:
    """The expression for exactly these bytes."""
    return b"".join(rb"\x%02x" % byte for byte in raw)
