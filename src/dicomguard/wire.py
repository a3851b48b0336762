"""Reports on their way from a worker: what a worker sends may be as hostile as what it reads.

A worker that was taken over can lie about the files in its hand. It must not make its reader run
anything: what it sends are values, and nothing but a report, field by field of the right type, can
be made of them.
"""

from __future__ import annotations

from functools import cache

from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import replace

from dicomguard.model import Report

LONGEST = 64 << 20
"""Bytes of the longest answer that is read."""

_encoder = Encoder()


@cache
def _decoder() -> Decoder[Report]:
    return Decoder(Report)


def encode(report: Report) -> bytes:
    """A report as bytes, without its path: whoever asked for it knows that."""
    return _encoder.encode(replace(report, path=""))


def load() -> None:
    """Make what decodes, which is else made for the first report."""
    _decoder()


def decode(raw: bytes | memoryview) -> Report:
    """A report from bytes.

    Raises:
        ValueError: The bytes are no report.
    """
    try:
        return _decoder().decode(raw)
    except RecursionError as error:
        raise ValueError(str(error)) from error
