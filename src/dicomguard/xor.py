"""XOR of bytes with those behind them, at the speed of memory: all of a file is looked at."""

from __future__ import annotations

import sys

_LIBRARY = "Crypto.Util.strxor"

FEW = 1 << 20
"""Bytes for which a large number does as well as a library that would have to be loaded."""
_FEWEST = 1 << 13
"""Bytes for which it does as well as one that is."""


def prepare() -> None:
    """Load the library, once for several processes."""
    import Crypto.Util.strxor  # noqa: F401, PLC0415 - a lone file has no use for it


def differences(data: bytes | memoryview, lag: int) -> bytes:
    r"""Each byte XOR the one that is so many further on.

    >>> differences(b"\x01\x02\x04", 1)
    b'\x03\x06'
    """
    if len(data) < (_FEWEST if _LIBRARY in sys.modules else FEW):
        number = int.from_bytes(data, "little")
        return (number ^ number >> 8 * lag).to_bytes(len(data), "little")[:-lag]
    from Crypto.Util.strxor import strxor  # noqa: PLC0415 - loaded by now, or worth it

    with memoryview(data) as view, view[:-lag] as one, view[lag:] as other:
        return strxor(one, other)
