"""Serialised objects that run code where they are loaded: NumPy, Java, .NET."""

from __future__ import annotations

import re
import struct

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data, Payload
from dicomguard.payloads.words import first
from dicomguard.regex import regex

# --- NumPy arrays: the NPY format, versions 1.0 to 3.0 --------------------------------------------

_NPY_HEADER = regex(
    rb"\x93NUMPY(?:\x01\0..|[\x02\x03]\0..\0\0)\{[^\0]{0,8192}?'descr'\s*:\s*[^\0]{0,8192}?"
    rb"'[|<>=]?O\d?'",
    re.DOTALL,
)


def npy(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A NumPy array of Python objects, which is a pickle; ``hit`` is at its magic."""
    match = _NPY_HEADER.match(data, hit, min(high, len(data)))
    if match is None or b"}" in match[0]:
        return None
    return Payload(
        start=hit,
        end=min(high, len(data)),
        description="NumPy array of Python objects",
        whole_file=hit == 0,
    )


# --- Java: Java Object Serialization Specification, chapter 6 -------------------------------------

_JAVA_CLASS = regex(
    rb"\xac\xed\0\x05(?:[\x73\x75]|\x77.(?s:.){0,255}?[\x73\x75])\x72(..)([\w$./;\[-]{2,512})",
    re.DOTALL,
)
_JAVA_FLAGS = struct.Struct(">8xBH")  # flags and number of fields behind the version
_JAVA_FLAGS_DEFINED = 0x1F
_JAVA_FIELDS_MAX = 1024


def java_object(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A serialised Java object; ``hit`` is at the magic of its stream.

    The description of its class must be sound: a name as long as it says, flags that exist and a
    believable number of fields.
    """
    match = _JAVA_CLASS.match(data, hit, min(high, len(data)))
    if match is None:
        return None
    size = int.from_bytes(match[1], "big")
    name = match[2][:size]
    fields = read_fields(_JAVA_FLAGS, data, match.start(2) + size)
    if len(name) != size or fields is None:
        return None
    flags, count = fields
    if not flags or flags & ~_JAVA_FLAGS_DEFINED or count > _JAVA_FIELDS_MAX:
        return None
    return Payload(
        start=hit,
        end=max(min(high, len(data)), match.end()),
        description=f"serialised Java object of {name.decode('ascii')[:80]}",
        whole_file=hit == 0,
    )


# --- .NET: [MS-NRBF] section 2.6.1 ----------------------------------------------------------------

_DOTNET_HEADER = regex(rb"\0\x01\0{3}\xff{4}\x01\0{7}[\x01-\x16]")


def dotnet_object(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A serialised .NET object of a class that runs code; ``hit`` is at the name of the class."""
    start = first(data, _DOTNET_HEADER, low, min(high, len(data)))
    if not 0 <= start < hit:
        return None
    return Payload(
        start=start,
        end=max(min(high, len(data)), hit + 1),
        description="serialised .NET object of a class that runs code",
        whole_file=start == 0,
    )
