"""Clean files move on: their relative path is kept, and nothing is ever overwritten."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from dicomguard.errors import DicomguardError
from dicomguard.files import FOLDER_FLAGS, READ_FLAGS, ChangedError, NewFile, ScannedFile
from dicomguard.reports.escape import printable
from dicomguard.watch.settle import kept_from_writers

_NOT_CLONABLE = {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM}
"""What ``copy_file_range(2)`` says between file systems, and on those that do not have it."""


class OccupiedError(Exception):
    """Something else is where the file should go; it stays where it is."""


class Delivery:
    """The folder that clean files move to.

    What appears there is a copy, complete and at once, that was read back and has the hash of what
    was scanned. So nobody who still has the original open, or another name of it, can get at what
    was delivered. File systems that can let the copy share its blocks with the original. A crash
    before the original is removed leaves both, and its next delivery sees that it is there.

    Files can be delivered by several threads at a time.

    Args:
        folder: Made where there is none; its parent must exist.

    Raises:
        DicomguardError: The folder cannot be used.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        try:
            with suppress(FileExistsError):
                os.mkdir(folder)
            self._root = os.open(folder, FOLDER_FLAGS)
        except OSError as error:
            raise DicomguardError(
                f"cannot deliver to {printable(folder)}: {error.strerror}"
            ) from error
        self._was_mounted = os.path.ismount(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._root)

    def reopen(self) -> None:
        """Finds the folder again after a failure: it may have been mounted anew.

        No file may be in delivery meanwhile.

        Raises:
            DicomguardError: It is not there, or nothing is mounted there any more.
            OSError: It cannot be opened.
        """
        root = os.open(self.folder, FOLDER_FLAGS)
        if self._was_mounted and not os.path.ismount(self.folder):
            os.close(root)
            raise DicomguardError(f"nothing is mounted at {printable(self.folder)} any more")
        os.close(self._root)
        self._root = root

    def find(self, relative: str) -> os.stat_result | None:
        """What is at a relative path; None where nothing is."""
        try:
            return os.stat(relative, dir_fd=self._root, follow_symlinks=False)
        except OSError:
            return None

    def deliver(self, file: ScannedFile, relative: str, sha256: str | None) -> None:
        """Delivers a file, and removes the original.

        Args:
            file: What was scanned.
            relative: Its path in the ingest folder.
            sha256: Of what was scanned, lower-case hex; None where only its identity is known.

        Raises:
            ChangedError: It is not what was scanned any more, or is about to be changed; it is
                where it was.
            OccupiedError: Something else has its place.
            OSError: The disk is full, a permission is missing, …
        """
        parent, name = os.path.split(relative)
        with (
            file.opened() as descriptor,
            kept_from_writers(descriptor) as guard,
            self._opened_folder(parent) as folder,
        ):
            if not guard.quiet:
                raise ChangedError(file.path)
            try:
                with NewFile(folder, name) as copy:
                    _copy(file, descriptor, copy, sha256)
                    if not guard.still_quiet():
                        raise ChangedError(file.path)
                    copy.appear()
            except FileExistsError as error:
                if not _is_there(descriptor, folder, name, sha256):
                    raise OccupiedError from error
                file.require_unchanged(descriptor)
                os.fsync(folder)
            # What took the file's name since then is another file, with its own turn to come.
            with suppress(ChangedError):
                file.remove()
            os.fsync(file.folder)

    @contextmanager
    def _opened_folder(self, relative: str) -> Iterator[int]:
        """A folder of the target, made where it is missing; links in it are not followed."""
        current = os.dup(self._root)
        try:
            for part in filter(None, relative.split("/")):
                try:
                    os.mkdir(part, dir_fd=current)
                    os.fsync(current)
                except FileExistsError:
                    pass
                try:
                    following = os.open(part, FOLDER_FLAGS, dir_fd=current)
                except NotADirectoryError as error:
                    raise OccupiedError from error
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)


def _copy(file: ScannedFile, source: int, copy: NewFile, sha256: str | None) -> None:
    """Copies bytes, times, permissions and, where allowed, the owner; durable afterwards.

    Raises:
        ChangedError: The file changed meanwhile, or before.
        OSError: Also where the copy does not read back as what was written.
    """
    info = os.fstat(source)
    target = copy.stream.fileno()
    _copy_bytes(source, target, info.st_size)
    with suppress(PermissionError):
        os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, stat.S_IMODE(info.st_mode) & 0o777)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
    copy.sync()
    with open(f"/proc/self/fd/{target}", "rb") as again:
        copied = hashlib.file_digest(again, "sha256").hexdigest()
    as_scanned = copied == (sha256 or _sha256(source))
    file.require_unchanged(source)
    if not as_scanned and sha256 is None:
        raise OSError(errno.EIO, "the copy does not read back as it was written")
    if not as_scanned:
        raise ChangedError(file.path)


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copies what is no hole: a terabyte of nothing stays nothing."""
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # there is only a hole from here on
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            copied = _copy_range(source, target, at, end - at)
            if not copied:
                return  # it has become shorter, which its hash will tell
            at += copied


def _copy_range(source: int, target: int, at: int, count: int) -> int:
    """Copies some bytes to the same place, by sharing them where that is possible."""
    try:
        return os.copy_file_range(source, target, count, at, at)
    except OSError as error:
        if error.errno not in _NOT_CLONABLE:
            raise
    os.lseek(target, at, os.SEEK_SET)
    return os.sendfile(target, source, at, count)


def _is_there(descriptor: int, folder: int, name: str, sha256: str | None) -> bool:
    """Whether the content was delivered before, and the daemon died before it said so."""
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(info.st_mode) or info.st_size != os.fstat(descriptor).st_size:
        return False
    there = os.open(name, READ_FLAGS, dir_fd=folder)
    try:
        return _sha256(there) == (sha256 or _sha256(descriptor))
    finally:
        os.close(there)


def _sha256(descriptor: int) -> str:
    with open(f"/proc/self/fd/{descriptor}", "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
