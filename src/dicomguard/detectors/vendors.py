"""What vendors are known to keep in private elements, as ``vendors.toml`` has it."""

from __future__ import annotations

import re
from array import array
from functools import cache, lru_cache
from pathlib import Path

import msgspec

from dicomguard.regex import regex

_HEAD = 64
"""Bytes from which a form shows."""


class Held(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One private element.

    Attributes:
        tag: As ``0029,xx10``, the block left open.
        holds: What it is for, in words.
        begins: How its value begins, a regular expression on bytes; empty where it is not known.
    """

    tag: str
    holds: str
    begins: str = ""

    def is_of(self, value: bytes) -> bool:
        """Whether a value has the known form; some converters leave it with its bytes swapped."""
        head = value[:_HEAD]
        swapped = array("H", head[: len(head) & ~1])
        swapped.byteswap()
        pattern = _compiled(self.begins)
        return any(pattern.match(each) for each in (head, swapped.tobytes()))


class Creator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A private creator of a known vendor.

    Attributes:
        name: Of the creator; a star at its end stands for anything.
        vendor: Who that is.
        packed: Whether its values may look scrambled.
        large: Whether its values may be larger than the image.
        elements: Those that are known.
    """

    name: str
    vendor: str
    packed: bool = False
    large: bool = False
    elements: tuple[Held, ...] = ()

    def held(self, tag: int) -> Held | None:
        """What is known of an element of this creator."""
        text = f"{tag >> 16:04X},xx{tag & 0xFF:02X}"
        return next((each for each in self.elements if each.tag == text), None)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    creators: tuple[Creator, ...]


@cache
def creators() -> tuple[Creator, ...]:
    """Every creator of the table."""
    raw = Path(__file__).with_name("vendors.toml").read_bytes()
    return msgspec.toml.decode(raw, type=_Table).creators


@lru_cache(maxsize=1024)
def creator(name: str) -> Creator | None:
    """What is known of a private creator; None if nothing."""
    for each in creators():
        stem = each.name.removesuffix("*")
        if name == each.name or (stem != each.name and name.startswith(stem)):
            return each
    return None


@cache
def _compiled(pattern: str) -> re.Pattern[bytes]:
    return regex(pattern.encode("ascii"), re.DOTALL)
