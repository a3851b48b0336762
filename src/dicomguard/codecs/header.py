"""What the header of a codestream says, and what is wrong with it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct, field


class FlawKind(StrEnum):
    """What no header of a working encoder holds, or what its format does not allow."""

    NO_START = "does not begin as a codestream of its kind"
    NO_FRAME_HEADER = "ends before its frame header"
    SECOND_FRAME_HEADER = "has two frame headers"
    SEGMENT_LENGTH = "has a segment whose length cannot be"
    FRAME_HEADER_LENGTH = "has a frame header that is not as long as its components take"
    NO_PIXELS = "is zero pixels high or wide"
    COMPONENTS = "has a number of components that cannot be"
    PRECISION = "has a precision that cannot be"
    SAMPLING = "has a component sampled at no pixel"
    ORIGIN = "has its image outside its reference grid"
    TILES = "has no tiles, or more than its format can number"
    LEVELS = "has more decomposition levels than its format allows"
    CAPABILITIES = "has capabilities that are not those it declares"
    TABLE = "has a table number that its format does not know"
    STRAY_MARKER = "has a marker that is reserved for coders"
    SEGMENTS = "has a number of segments that cannot be"
    SEGMENT_OFFSET = "has a segment outside the data"
    UNUSED_OFFSET = "has an offset for a segment that it does not have"


class Flaw(NamedTuple):
    """One thing wrong at an offset of the codestream; ``detail`` gives the numbers."""

    kind: FlawKind
    offset: int
    detail: str = ""


class Header(Struct, kw_only=True):
    """The facts of one header.

    Attributes:
        rows: Height in pixels; None where the header does not tell.
        columns: Width in pixels.
        samples: Number of components.
        precision: Bits of the deepest component.
        size: Bytes of the header: two codestreams that begin with the same ones have the same
            facts. 0 where that does not hold.
        flaws: What is wrong with it.
    """

    rows: int | None = None
    columns: int | None = None
    samples: int | None = None
    precision: int | None = None
    size: int = 0
    flaws: list[Flaw] = field(default_factory=list)

    def flaw(self, kind: FlawKind, offset: int, detail: str = "") -> None:
        """Record what is wrong at ``offset``."""
        self.flaws.append(Flaw(kind, offset, detail))
