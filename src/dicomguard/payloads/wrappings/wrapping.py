"""What a wrapping is: a reversible way of writing bytes, and what undoing it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from dicomguard.payloads.payload import Data

MIN_CONTENT = 16
"""Fewer bytes than this are no payload; a stream begun by chance seldom gives as many."""


@dataclass(slots=True)
class Allowance:
    """What unwrapping may still cost for one file; used up while it goes.

    Attributes:
        room: Unwrapped bytes that may still be made.
        payloads: Pieces of unwrapped data that may still be made.
        deadline: When to stop, by `time.monotonic`.
        limits: What could not be unwrapped and why, in words.
    """

    room: int
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
        known: The range of the run that proves by itself that a program is enciphered here.
    """

    start: int
    end: int
    content: bytes
    name: str
    is_verbatim: bool = False
    known: tuple[int, int] | None = None


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


class SoughtWrapping(Wrapping, Protocol):
    """A wrapping that shows by something too frequent to be looked for in pixels."""

    @property
    def is_text(self) -> bool:
        """Whether it is a run of characters, so that none begins within another."""

    @property
    def search(self) -> Callable[[Data], Iterator[int]]:
        """Where in gathered values it may begin, in order."""
