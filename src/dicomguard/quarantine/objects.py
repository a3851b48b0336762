"""What an object is: the bytes of a file as CaRT, so that nothing runs or opens them by accident.

CaRT (github.com/CybercentreCanada/cart) compresses and enciphers with a key that is in the file: no
secrecy, but neither an operating system nor other anti-virus takes the result for what it holds.
An object in the vault has no optional header, and the SHA-256 in its footer. Malware laboratories
exchange CaRT files whose header and footer tell more; `with_metadata` makes those.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from typing import Any, BinaryIO, Protocol

import cart

from dicomguard.quarantine.errors import DamagedError

_READ_BYTES = 8 << 10
"""Enciphered bytes taken at a time: a thousandfold expansion of them still is little memory."""

_MOST_IDLE = 1 << 20
"""Enciphered bytes that may decode to nothing: a header or a footer, with room to spare."""

_COPY_BYTES = 1 << 20

_HEADER = struct.Struct(cart.MANDATORY_HEADER_FMT)
_FOOTER = struct.Struct(cart.MANDATORY_FOOTER_FMT)

_UNDECODABLE = (
    cart.InvalidCARTException,
    cart.InvalidARC4KeyException,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
)
"""What `cart` raises for an object that was tampered with; an `OSError` is the disk's."""


class Digest(Protocol):
    """As `hashlib` has them."""

    def update(self, data: bytes, /) -> None:
        """Takes in more bytes."""


def encode(source: BinaryIO, target: BinaryIO) -> str:
    """Writes an object.

    Args:
        source: The original bytes, from its position on.
        target: Where the object goes.

    Returns:
        The SHA-256 of the original bytes, lower-case hex.
    """
    digest = hashlib.sha256()
    cart.pack_stream(source, target, auto_digests=(lambda: digest,))
    return digest.hexdigest()


def decode(
    source: BinaryIO,
    sha256: str,
    *,
    size: int | None = None,
    target: BinaryIO | None = None,
    digests: tuple[Digest, ...] = (),
) -> int:
    """Reads an object.

    Args:
        source: The object.
        sha256: Of the original bytes.
        size: Of the original, in bytes; None where it is not known.
        target: Where the original bytes go; nowhere if None.
        digests: Are given the original bytes too.

    Returns:
        How many bytes it decodes to.

    Raises:
        DamagedError: It is no CaRT, or decodes to other bytes. Some may be in the target by then,
            but never more than ``size``.
    """
    exchange = _Exchange(source, target, size, digests)
    try:
        cart.unpack_stream(exchange, exchange)
    except _UNDECODABLE as error:
        raise DamagedError(f"object {sha256} is damaged: {error}") from error
    if exchange.sha256.hexdigest() != sha256:
        raise DamagedError(f"object {sha256} is damaged: its bytes have another SHA-256")
    return exchange.written


def with_metadata(
    source: BinaryIO, target: BinaryIO, header: dict[str, Any], footer: dict[str, Any]
) -> None:
    """Copies an object as it is, but for the optional header and footer.

    Args:
        source: An object of a vault that decodes.
        target: Where the copy goes.
        header: What uncart tools show before they decode: ``name``, ….
        footer: What they show after: ``sha256``, ``length``, ….
    """
    frame = io.BytesIO()
    cart.pack_stream(io.BytesIO(), frame, header, footer, auto_digests=())
    *_, header_length = _HEADER.unpack_from(frame.getbuffer())
    *start, footer_at, footer_length = _FOOTER.unpack(frame.getvalue()[-_FOOTER.size :])
    head = frame.getvalue()[: _HEADER.size + header_length]
    body_start, body_end = _body_of(source)
    target.write(head)
    source.seek(body_start)
    target.writelines(
        source.read(min(_COPY_BYTES, body_end - at))
        for at in range(body_start, body_end, _COPY_BYTES)
    )
    target.write(frame.getvalue()[footer_at : footer_at + footer_length])
    footer_at = len(head) + body_end - body_start
    target.write(_FOOTER.pack(*start, footer_at, footer_length))


def _body_of(source: BinaryIO) -> tuple[int, int]:
    """Where the enciphered content of an object begins and ends."""
    source.seek(0)
    *_, header_length = _HEADER.unpack(source.read(_HEADER.size))
    source.seek(-_FOOTER.size, os.SEEK_END)
    *_, footer_at, _ = _FOOTER.unpack(source.read(_FOOTER.size))
    return _HEADER.size + header_length, footer_at


class _Exchange:
    """Where `cart` reads an object and writes the original: bounded both ways, and hashed."""

    def __init__(
        self,
        source: BinaryIO,
        target: BinaryIO | None,
        most: int | None,
        digests: tuple[Digest, ...],
    ) -> None:
        self.sha256 = hashlib.sha256()
        self.written = 0
        self._source = source
        self._target = target
        self._most = most
        self._digests = digests
        self._idle = 0

    def read(self, size: int) -> bytes:
        # `cart` keeps in memory what it reads without getting bytes from it.
        data = self._source.read(min(size, _READ_BYTES))
        self._idle += len(data)
        if self._idle > _MOST_IDLE:
            raise ValueError("it goes on after its end")
        return data

    def write(self, data: bytes) -> int:
        self._idle = 0
        self.written += len(data)
        if self._most is not None and self.written > self._most:
            raise ValueError("it decodes to more bytes than were recorded")
        self.sha256.update(data)
        for digest in self._digests:
            digest.update(data)
        if self._target is not None:
            self._target.write(data)
        return len(data)
