"""A second opinion on what bytes are: libmagic, through python-magic.

It is never the primary test. Its single answer for a Windows program that is also a DICOM file is
``application/dicom``; only asked for all answers does it name the program as well. python-magic
starts other programs to find the C library, so a process that will be confined loads it before, or
has done with it.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from typing import Any

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


class NotLoadedError(Exception):
    """A name is asked for where libmagic was not loaded and can no longer be."""


_is_late = False
_loaded: list[Any] = []
"""Libmagic with its database, or None where it is not on the machine; empty until it is loaded."""


def _library() -> Any:
    """Libmagic with its database, or None where it is not on the machine.

    Raises:
        NotLoadedError: `forgo` was called, and `load` was not.
    """
    if not _loaded:
        if _is_late:
            raise NotLoadedError
        _loaded.append(_with_database())
    return _loaded[0]


def _with_database() -> Any:
    try:
        import magic  # noqa: PLC0415 - it loads the C library, which may not be there

        return magic.Magic(keep_going=True)
    except Exception:  # noqa: BLE001 - without a database it raises an error of its own
        return None


def load() -> None:
    """Read libmagic's database, which is else read when a name is first asked for."""
    _library()


def forgo() -> None:
    """Load it no more."""
    global _is_late  # noqa: PLW0603 - a process is confined for good
    _is_late = True
    if not _loaded and not is_available():
        _loaded.append(None)


@cache
def is_available() -> bool:
    """Whether libmagic is on the machine, which takes less time to tell than to load it."""
    try:
        ctypes.CDLL("libmagic.so.1")
    except OSError:
        return False
    return True


def version() -> str | None:
    """The version of libmagic, ``5.44``; None where it is not on the machine."""
    if _library() is None:
        return None
    import magic  # noqa: PLC0415 - as above

    major, minor = divmod(int(magic.version()), 100)  # type: ignore[no-untyped-call]
    return f"{major}.{minor:02d}"


def name(raw: bytes) -> str:
    """What libmagic takes the bytes for, besides DICOM and noise; empty if nothing.

    Only the names of formats: what follows a comma or a quote may be text of the file.

    Raises:
        NotLoadedError: `forgo` was called, and `load` was not.
    """
    library = _library()
    if library is None or not raw:
        return ""
    try:
        answer: str = library.from_buffer(raw[:_SAMPLE])
    except Exception:  # noqa: BLE001 - python-magic raises its own and ctypes' errors; none matters
        return ""
    answers = answer.replace("\n- ", _SEPARATOR).split(_SEPARATOR)
    names = [re.split("[,\"']", part, maxsplit=1)[0].strip() for part in answers]
    kept = [part for part in names if part and not part.startswith(_NOISE)]
    return "; ".join(kept)[:200]
