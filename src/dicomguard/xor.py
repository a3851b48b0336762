"""XOR of byte strings at the speed of memory, for looking at all bytes of a file at once."""

from __future__ import annotations

import sys

_Bytes = bytes | memoryview
_LIBRARY = "Crypto.Util.strxor"

FEW = 1 << 20
"""Bytes for which a large number does as well as a library that would have to be loaded."""
_FEWEST = 1 << 13
"""Bytes for which it does as well as one that is."""


def prepare() -> None:
    """Load the library, once for several processes."""
    import Crypto.Util.strxor  # noqa: F401, PLC0415 - a lone file has no use for it


def xor(one: _Bytes, other: _Bytes) -> bytes:
    r"""Each byte of one XOR the byte of the other at its place.

    Raises:
        ValueError: They are not of one length.

    >>> xor(b"\x01\x02", b"\x03\x03")
    b'\x02\x01'
    """
    if len(one) != len(other):
        msg = f"{len(one)} bytes and {len(other)} bytes"
        raise ValueError(msg)
    if len(one) < (_FEWEST if _LIBRARY in sys.modules else FEW):
        number = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
        return number.to_bytes(len(one), "little")
    from Crypto.Util.strxor import strxor  # noqa: PLC0415 - loaded by now, or worth it

    return strxor(one, other)
