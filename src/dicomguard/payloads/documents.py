"""Documents that run something: rich text with objects, help files, PostScript, 3D models."""

from __future__ import annotations

import re
import struct

from dicomguard.payloads.fields import read_fields
from dicomguard.payloads.payload import Data, Payload
from dicomguard.payloads.words import Words, first
from dicomguard.regex import regex

# --- RTF: Rich Text Format Specification 1.9.1 ----------------------------------------------------

_RTF_START = regex(rb"\{\\rt")
_CONTROL = rb"(?<!\\)(?:\\\\){0,64}\\"
"""The backslash of a control word, which is not one of the text."""
_RTF_ACTIVE = Words(
    {
        "embedded object": regex(_CONTROL + rb"objdata(?![a-z])"),
        "object that loads itself": regex(_CONTROL + rb"obj(?:update|autlink|ocx)(?![a-z])"),
        "remote template": regex(
            _CONTROL + rb"template(?![a-z])[\s{]{0,16}(?:https?:|file:|\\\\\\\\|//)", re.IGNORECASE
        ),
        "field that fetches": regex(
            _CONTROL + rb"fldinst(?![a-z])[^}]{0,128}?\b(?:DDEAUTO\b|DDE\b"
            rb"|INCLUDE(?:TEXT|PICTURE)[\s\"]{1,16}(?:https?:|file:|\\\\\\\\))",
            re.IGNORECASE,
        ),
    }
)


def rtf(data: Data, hit: int, low: int, high: int) -> Payload | None:
    r"""Rich text with something in it that runs or fetches; ``hit`` is at its ``{\rt``.

    Plain rich text is how vendors store reports. A value is one document from its first head on.
    """
    high = min(high, len(data))
    active = _RTF_ACTIVE.behind(data, hit, low, high)
    if not active or hit != first(data, _RTF_START, low, high):
        return None
    return Payload(
        start=hit,
        end=high,
        description=f"rich text document: {', '.join(active)}",
        whole_file=hit == 0,
    )


# --- CHM: the ITSF format as documented by its free readers ---------------------------------------

# Version, size of the header; then the two class identifiers and the section table.
_CHM_HEADER = struct.Struct("<4x2I")
_CHM_SIZES = (0x58, 0x60)
_CHM_CLASS = bytes.fromhex("10FD017CAA7BD0119E0C00A0C922E6EC")
_CHM_CLASS_AT = 24
_CHM_DIRECTORY = 512


def chm(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """A Windows help file; ``hit`` is at its magic.

    The class identifier in its header or the directory that follows it is the proof; the extent is
    to the end of the value.
    """
    fields = read_fields(_CHM_HEADER, data, hit)
    if fields is None or not 2 <= fields[0] <= 4 or fields[1] not in _CHM_SIZES:
        return None
    named = data[hit + _CHM_CLASS_AT : hit + _CHM_CLASS_AT + 16] == _CHM_CLASS
    if not named and data.find(b"ITSP", hit + fields[1], hit + _CHM_DIRECTORY) < 0:
        return None
    return Payload(
        start=hit,
        end=max(min(high, len(data)), hit + _CHM_HEADER.size),
        description="compiled Windows help file",
        whole_file=hit == 0,
    )


# --- PostScript: PostScript Language Reference, 3.8 and 8.2; Ghostscript's own operators ----------

# Fonts are programs as well, but of a kind that every report in PDF has.
_POSTSCRIPT_START = regex(rb"%!PS(?!-(?:AdobeFont|Bitstream))")
_POSTSCRIPT_ACTIVE = Words(
    {
        "runs commands": regex(rb"%pipe%"),
        "opens files": regex(rb"\)[\s]{0,16}\([rwa]\+?\)[\s]{0,16}file\b"),
        "alters files": regex(rb"\b(?:deletefile|renamefile|filenameforall)\b"),
        "leaves the sandbox": regex(
            rb"\.(?:forceput|forcedef|libfile|setsafe|unlock|locksafe)\b|\bsuperexec\b"
        ),
    }
)


def postscript(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A PostScript program that reaches for files or commands; ``hit`` is at its head."""
    high = min(high, len(data))
    active = _POSTSCRIPT_ACTIVE.behind(data, hit, low, high)
    if not active or hit != first(data, _POSTSCRIPT_START, low, high):
        return None
    return Payload(
        start=hit,
        end=high,
        description=f"PostScript program: {', '.join(active)}",
        whole_file=hit == 0,
    )


# --- Wavefront OBJ and MTL (PS3.3 A.85.2 and A.85.3 encapsulate them) -----------------------------

_MODEL_PATH = regex(
    rb"(?:mtllib|map_\w{1,8}|bump|disp|decal|refl|norm)[ \t](?:[^\r\n=]{0,256}[ \t])?"
    rb"(?:(?P<share>\\\\[\w.-]|//[\w.-])|(?P<address>[a-z][a-z0-9+.-]{2,16}://)"
    rb"|(?P<parent>\.\.[\\/])|(?P<absolute>/[\w.]|~/|[A-Za-z]:[\\/]))"
    rb"(?P<rest>[^\r\n]{0,1024})",
    re.IGNORECASE,
)
_MODEL_FILES = regex(rb"\.(?:png|jpe?g|bmp|tiff?|tga|gif|dds|hdr|exr|mtl)[ \t]*\Z", re.IGNORECASE)
_MODEL_WORDS = {
    "share": "a network share",
    "address": "an address",
    "parent": "folders above",
    "absolute": "a file outside",
}


def model_path(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A line of a 3D model that names a file elsewhere; ``hit`` is at its keyword.

    Programs that export models leave the paths of their own pictures behind, and one folder above
    is common: these are honest.
    """
    high = min(high, len(data))
    match = _MODEL_PATH.match(data, hit, high)
    if match is None or data[max(low, hit - 1) : hit].strip(b" \t\r\n"):
        return None
    kind = next(name for name in _MODEL_WORDS if match[name] is not None)
    is_picture = _MODEL_FILES.search(match["rest"]) is not None
    climbs = b"../" in match["rest"].replace(b"\\", b"/")
    if is_picture and (kind == "absolute" or (kind == "parent" and not climbs)):
        return None
    return Payload(
        start=hit, end=match.end(), description=f"3D model that names {_MODEL_WORDS[kind]}"
    )
