"""Where a report goes: standard output, or a file that is there as a whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from dicomguard.errors import DicomguardError
from dicomguard.reports.escape import printable
from dicomguard.reports.formats import is_report

STANDARD_OUTPUT = "-"
_HEAD = 64
"""Bytes that tell a report."""


def check(path: str, examined: Iterable[str], *, force: bool) -> None:
    """Refuse a file that a report should not be written to.

    Args:
        path: The file.
        examined: Files and folders that the run looks at.
        force: Whether it may all the same, unless it is one of the named files itself.

    Raises:
        DicomguardError: It lies in a folder that is examined, or is there and is no report.
    """
    for each in examined:
        if os.path.exists(path) and os.path.exists(each) and os.path.samefile(path, each):
            msg = f"{printable(path)} is what is examined, a report must not take its place"
            raise DicomguardError(msg)
    if force:
        return
    folder = os.path.realpath(os.path.dirname(path) or ".")
    for each in examined:
        top = os.path.realpath(each)
        if os.path.isdir(top) and os.path.commonpath([top, folder]) == top:
            msg = (
                f"{printable(path)} would lie in {printable(each)}, which is examined: the next run"
                " would examine it, and whatever imports files from there would find it; write it"
                " elsewhere, or say --force"
            )
            raise DicomguardError(msg)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_write(path, error) from error
    if _is_stream(mode):
        return
    if not stat.S_ISREG(mode):
        msg = f"{printable(path)} is no regular file, so no report can take its place"
        raise DicomguardError(msg)
    try:
        with open(path, "rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise _cannot_write(path, error) from error
    if head and not is_report(head):
        msg = (
            f"{printable(path)} is there and is no report, so it is not overwritten;"
            " name another file, or say --force"
        )
        raise DicomguardError(msg)


@contextmanager
def opened(path: str) -> Iterator[TextIO]:
    """Where to write a report.

    A file gets its name when all of it is on the disk; if the block fails, whatever had the name
    before keeps it. A FIFO or a device is written to as it is.

    Raises:
        DicomguardError: It cannot be written.
    """
    if path == STANDARD_OUTPUT:
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        try:
            status: os.stat_result | None = os.stat(path)
        except FileNotFoundError:
            status = None
        if status and _is_stream(status.st_mode):
            with open(path, "w", encoding="utf-8", errors="backslashreplace") as stream:
                yield stream
            return
        with _replacing(path, stat.S_IMODE(status.st_mode) if status else None) as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def _replacing(path: str, mode: int | None) -> Iterator[TextIO]:
    import tempfile  # noqa: PLC0415 - most reports go to standard output

    folder, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder or ".")
    try:
        with open(
            descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="\n"
        ) as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), _usual_mode() if mode is None else mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(folder or ".")


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _usual_mode() -> int:
    """The mode of a new file, which only setting the mask tells."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _is_stream(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _cannot_write(path: str, error: OSError) -> DicomguardError:
    return DicomguardError(f"cannot write {printable(path)}: {error.strerror or error}")
