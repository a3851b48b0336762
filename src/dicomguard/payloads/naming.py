"""A second opinion on what bytes are: libmagic.

It is never the primary test. Its single answer for a Windows program that is also a DICOM file is
``application/dicom``; only asked for all answers does it name the program as well. The C library is
called by itself: python-magic may run a compiler to find it, which a confined process cannot do.
"""

from __future__ import annotations

import ctypes
import re
import threading
from functools import cache

_SAMPLE = 1 << 20
_SEPARATOR = "\\012- "

_NOISE = (
    "data",
    "empty",
    "very short file",
    "ASCII text",
    "Non-ISO extended-ASCII text",
    "ISO-8859 text",
    "DICOM medical imaging data",
    "DIY-Thermocam",
    "GLS_BINARY",
    "GLF_BINARY",
    "dBase",
    "DOS backup",
    "DOS 2.0 backup",
    "TIFF image data",
    "Applesoft BASIC",
    "SysEx File",
    "OpenPGP",
    "AIX core file",
    "Targa image",
    "zlib compressed data",
)
"""How answers begin that honest DICOM files get, as measured, or that say nothing."""


_LIBRARIES = ("libmagic.so.1", "libmagic.so")
_LOCK = threading.Lock()
_ALL_ANSWERS = 0x20
"""``MAGIC_CONTINUE`` of ``magic.h``."""


@cache
def _library() -> ctypes.CDLL | None:
    """The C library, or None where it is not on the machine."""
    for file in _LIBRARIES:
        try:
            library = ctypes.CDLL(file)
        except OSError:
            continue
        library.magic_open.restype = ctypes.c_void_p
        library.magic_load.argtypes = ctypes.c_void_p, ctypes.c_char_p
        library.magic_buffer.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
        library.magic_buffer.restype = ctypes.c_char_p
        return library
    return None


@cache
def _cookie() -> int | None:
    """Libmagic with its database, loaded once in a process; None where that fails."""
    library = _library()
    cookie: int | None = library.magic_open(_ALL_ANSWERS) if library else None
    if library is None or cookie is None or library.magic_load(cookie, None):
        return None
    return cookie


def load() -> None:
    """Read libmagic's database, which is else read when a name is first asked for."""
    _cookie()


def is_available() -> bool:
    """Whether libmagic is on the machine."""
    return _library() is not None


def version() -> str | None:
    """The version of libmagic, ``5.44``; None where it is not on the machine."""
    library = _library()
    if library is None:
        return None
    major, minor = divmod(int(library.magic_version()), 100)
    return f"{major}.{minor:02d}"


def name(raw: bytes) -> str:
    """What libmagic takes the bytes for, besides DICOM and noise; empty if nothing.

    Only the names of formats: what follows a comma or a quote may be text of the file.
    """
    library, cookie = _library(), _cookie()
    if library is None or cookie is None or not raw:
        return ""
    with _LOCK:
        told: bytes | None = library.magic_buffer(cookie, raw[:_SAMPLE], min(len(raw), _SAMPLE))
    answer = (told or b"").decode("utf-8", "replace")
    answers = answer.replace("\n- ", _SEPARATOR).split(_SEPARATOR)
    names = [re.split("[,\"']", part, maxsplit=1)[0].strip() for part in answers]
    kept = [part for part in names if part and not part.startswith(_NOISE)]
    return "; ".join(kept)[:200]
