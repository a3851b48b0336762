"""What a wrapping is: a reversible way of writing bytes, and what undoing it may cost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from msgspec import Struct, field

from dicomguard.payloads.payload import Data
from dicomguard.regex import regex
from dicomguard.runs import PRINTABLE

MIN_CONTENT = 16
"""Fewer bytes than this are no payload; a stream begun by chance seldom gives as many."""


_HEADS = (
    b"MZ", b"\x7fELF", b"PK\3\4", b"\x1f\x8b\x08", b"%PDF-", b"\xd0\xcf\x11\xe0", b"Rar!",
    b"7z\xbc\xaf", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa", b"\xcf\xfa\xed\xfe", b"BZh",
    b"\xce\xfa\xed\xfe", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"dex\n", b"MSCF", b"\x80\4\x95",
    b"L\0\0\0\1\x14\2\0", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"ITSF",
    b"\xac\xed\0\5", b"\x5d\0\0",
)  # fmt: skip
_HEAD = 512
_NOT_TEXT = bytes(byte for byte in range(256) if byte not in PRINTABLE)


def is_telling(content: bytes) -> bool:
    """Whether content is something by its first bytes: a known format, or text.

    What was unwrapped by a guess and is neither was most likely never wrapped.
    """
    head = content[:_HEAD]
    return head.startswith(_HEADS) or len(head.translate(None, _NOT_TEXT)) >= 0.95 * len(head) > 0


STARTS = regex(
    rb"(?s:.{4})*?(?:[\t\n\r\x20-\x7e]{4}|%b)" % b"|".join({re.escape(head[:4]) for head in _HEADS})
)
"""Groups of four bytes, the last of which content that is telling may begin with."""


_SAMPLE = 256
_LEAST, _MOST = 9, 0.6


def is_structured(content: bytes) -> bool:
    """Whether content is neither noise nor flat somewhere, by the different bytes of each 256.

    What is decoded from the wrong place, or was never encoded, seldom is; programs and text are,
    also under ciphers that do the same to every byte.
    """
    return any(
        _LEAST <= len(set(content[at : at + _SAMPLE])) <= _VARIETY[min(len(content) - at, _SAMPLE)]
        for at in range(0, len(content), _SAMPLE)
    )


_VARIETY = [_MOST * 256 * (1 - (255 / 256) ** size) for size in range(_SAMPLE + 1)]
"""The most different bytes of structure in a sample of each size: of those in noise six in ten."""


class Allowance(Struct):
    """What unwrapping may still cost for one file; used up while it goes.

    Attributes:
        room: Unwrapped bytes that may still be made.
        largest: Bytes that one piece may have.
        payloads: Pieces of unwrapped data that may still be made.
        deadline: When to stop, by `time.monotonic`.
        limits: What could not be unwrapped and why, in words.
    """

    room: int
    largest: int
    payloads: int
    deadline: float
    limits: list[str] = field(default_factory=list)

    @property
    def is_spent(self) -> bool:
        """Whether to stop; the first time it is, `limits` says why."""
        if self.room <= 0:
            self._stop("what is wrapped in the file grows beyond the budget when it is unwrapped")
        elif self.payloads <= 0:
            self._stop("more is wrapped in the file than the budget allows to unwrap")
        elif time.monotonic() > self.deadline:
            self._stop("unwrapping what is in the file took longer than the budget allows")
        else:
            return False
        return True

    def take(self, content: bytes) -> None:
        """Count one piece of unwrapped data."""
        self.room -= len(content)
        self.payloads -= 1

    def _stop(self, reason: str) -> None:
        if reason not in self.limits:
            self.limits.append(reason)


class Unwrapped(NamedTuple):
    """Bytes that were wrapped.

    Attributes:
        start: Where the wrapped run begins in the data.
        end: Where it ends; never beyond the data.
        content: What it holds.
        name: What the wrapping was, as the chain of a finding shows it.
        is_verbatim: Whether the content stands in the run as it is (a stored member).
        is_sure: Whether the bytes prove that they are wrapped: a stream came to its own end.
        known: The range of the run that proves by itself that a program is enciphered here.
        is_prose: Whether it is only what it says: where rules find nothing in it, nothing is
            wrapped in it either.
    """

    start: int
    end: int
    content: bytes
    name: str
    is_verbatim: bool = False
    is_sure: bool = False
    known: tuple[int, int] | None = None
    is_prose: bool = False


class Wrapping(Protocol):
    """One way of wrapping.

    An unwrapper bounds every field before it uses it, never raises, makes at most
    ``allowance.room`` bytes at a time, and yields nothing where the bytes are not what its
    trigger promised. A stream that breaks off is unwrapped as far as it goes.
    """

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Undo the wrapping whose trigger is at ``hit``, within the value ``[low, high)``.

        More than one answer means that the bytes leave it open how to read them.
        """


class MagicWrapping(Wrapping, Protocol):
    """A wrapping that shows by bytes of its own."""

    @property
    def triggers(self) -> tuple[str, ...]:
        """Those bytes, as YARA strings of three rare bytes or more."""


class PlaintextWrapping(Wrapping, Protocol):
    """A wrapping under which known plaintext has forms of its own."""

    @property
    def forms(self) -> tuple[bytes, ...]:
        """These, of six bytes or more."""

    @property
    def rare(self) -> tuple[bytes, ...]:
        """Those of them that are long enough to be looked for in pixels."""


class SoughtWrapping(Wrapping, Protocol):
    """A wrapping that shows by something too frequent to be looked for in pixels."""

    @property
    def is_text(self) -> bool:
        """Whether it is a run of characters, so that none begins within another."""

    @property
    def is_printable(self) -> bool:
        """Whether all these are printable, and so many that they make a passage."""

    @property
    def search(self) -> Callable[[Data], Iterator[int]]:
        """Where in gathered values it may begin, in order."""
