"""Wrappings: ways of writing bytes so that nobody sees what they are, and how each is undone.

Each wrapping is one small class; the tables below say how it is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dicomguard.payloads.wrappings import base85, ciphers, compression, encodings
from dicomguard.payloads.wrappings.ciphers import ADD, XOR, XORED_WORDS, Keyed
from dicomguard.payloads.wrappings.wrapping import (
    Allowance,
    MagicWrapping,
    PlaintextWrapping,
    SoughtWrapping,
    Unwrapped,
    Wrapping,
    is_structured,
    is_telling,
)

__all__ = [
    "ADD",
    "BY_MAGIC",
    "BY_PLAINTEXT",
    "BY_SEARCH",
    "BY_VALUE",
    "XOR",
    "XORED_WORDS",
    "ZLIB",
    "Allowance",
    "Keyed",
    "MagicWrapping",
    "PlaintextWrapping",
    "SoughtWrapping",
    "Unwrapped",
    "Wrapping",
    "is_structured",
    "is_telling",
]

BY_MAGIC: Mapping[str, MagicWrapping] = MappingProxyType(
    {
        "bzip2": compression.BZIP2,
        "gzip": compression.Gzip(),
        "lzma": compression.LZMA,
        "tar": compression.TarMember(),
        "xz": compression.XZ,
        "zip": compression.ZipMember(),
        "zstd": compression.ZSTD,
    }
)
"""Wrappings that mark themselves, by the name of the YARA rule that looks for them in all bytes."""

BY_PLAINTEXT: Mapping[str, PlaintextWrapping] = MappingProxyType(
    {
        "reversed": ciphers.Reversed(),
        "swapped_16": ciphers.Swapped(2),
        "swapped_32": ciphers.Swapped(4),
        **{f"rotated_{bits}": each for bits, each in enumerate(ciphers.ROTATED, 1)},
    }
)
"""Wrappings that show by known plaintext, by the name under which it is told."""

ZLIB = compression.Zlib()

BY_SEARCH: tuple[SoughtWrapping, ...] = (
    ZLIB,
    encodings.Base64(),
    encodings.Numbers(),
    base85.BASE85,
    base85.ASCII85,
    encodings.Uuencode(),
    encodings.Utf16(),
    encodings.BrokenWords(),
)
"""Wrappings that are looked for by their form: text where there may be any, others in all bytes."""

BY_VALUE: tuple[Wrapping, ...] = (
    compression.WholeValue(),
    encodings.Widened(),
    ciphers.HiddenStart(),
    ciphers.HiddenText(),
)
"""Wrappings that are tried on a value as a whole."""
