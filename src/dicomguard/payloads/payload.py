"""What a validator answers: a run of bytes that is something, followed to its true extent."""

from __future__ import annotations

import mmap
from collections.abc import Callable

from msgspec import Struct

Data = bytes | mmap.mmap
"""The bytes of a whole file or of unwrapped data: slices of it are ``bytes``, ``find`` searches."""


class Payload(Struct, frozen=True, kw_only=True):
    """A confirmed payload.

    Attributes:
        start: Offset of its first byte in the data.
        end: Offset after its last byte; never beyond the data.
        description: What it is, in words safe to show: ``PE32+ executable, x86-64, 5 sections``.
        confirmed: Whether a second, independent field agreed (else the trigger's own confidence
            stands).
        whole_file: Whether a program that opens this very file would take it for this: its header
            is at offset 0, or its readers find it from the end (ZIP) or near the start (PDF).
    """

    start: int
    end: int
    description: str
    confirmed: bool = True
    whole_file: bool = False


Validator = Callable[[Data, int, int, int], Payload | None]
"""``validator(data, hit, low, high)``: look at ``data`` around the trigger at offset ``hit``.

``low`` and ``high`` bound the value (or gap, or file) that holds the hit. A validator follows
pointers through all of ``data`` where the format has any, bounds every field before it uses it,
never raises, runs in time that does not grow with the number of hits times the size of the data,
and answers None where the bytes are not what the trigger promised.
"""
