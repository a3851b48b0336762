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
from dicomguard.files import FOLDER_FLAGS, ChangedError, ScannedFile
from dicomguard.reports.escape import printable
from dicomguard.watch.settle import kept_from_writers

_UNNAMED = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_COPY_BYTES = 1 << 20
_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}
"""Another file system, a kernel that lets nobody link another's file, too many links, no links."""


class OccupiedError(Exception):
    """Something else is where the file should go; it stays where it is."""


class Delivery:
    """The folder that clean files move to.

    A file appears there complete and at once: as a link to the very file that was scanned, or,
    on another file system, as a copy that gets its name when it is whole and has been read back.
    A crash between that and the removal of the original leaves both, and the next delivery of the
    original sees that it is there.

    Args:
        folder: Made where there is none; its parent must exist.
        source: The folder that the files come from.

    Raises:
        DicomguardError: The folder cannot be used.
    """

    def __init__(self, folder: str, source: str) -> None:
        self.folder = folder
        try:
            with suppress(FileExistsError):
                os.mkdir(folder)
            self._root = os.open(folder, FOLDER_FLAGS)
        except OSError as error:
            raise DicomguardError(
                f"cannot deliver to {printable(folder)}: {error.strerror}"
            ) from error
        try:
            if os.stat(source).st_dev != os.fstat(self._root).st_dev:
                os.close(os.open(".", _UNNAMED, 0o600, dir_fd=self._root))
        except OSError as error:
            os.close(self._root)
            raise DicomguardError(
                f"cannot deliver to {printable(folder)}, which is on another file system than "
                f"the ingest folder and has no unnamed files (O_TMPFILE): {error.strerror}"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._root)

    def deliver(self, file: ScannedFile, relative: str) -> None:
        """Moves a file.

        Args:
            file: What was scanned.
            relative: Its path in the ingest folder.

        Raises:
            ChangedError: It is not what was scanned any more; it is where it was.
            OccupiedError: Something else has its place.
            OSError: The disk is full, a permission is missing, …
        """
        parent, name = os.path.split(relative)
        with (
            file.opened() as descriptor,
            kept_from_writers(descriptor) as quiet,
            self._opened_folder(parent) as folder,
        ):
            if not quiet:
                raise ChangedError(file.path)
            try:
                self._place(file, descriptor, folder, name)
            except FileExistsError as error:
                if not _is_same(descriptor, folder, name):
                    raise OccupiedError from error
            os.fsync(folder)
            # What took the file's name since then is another file, with its own turn to come.
            with suppress(ChangedError):
                file.unlink()
            os.fsync(file.folder)

    def _place(self, file: ScannedFile, descriptor: int, folder: int, name: str) -> None:
        try:
            _link(descriptor, folder, name)
        except OSError as error:
            if error.errno not in _NOT_LINKABLE:
                raise
            copy = os.open(".", _UNNAMED, 0o600, dir_fd=folder)
            try:
                _copy(file, descriptor, copy)
                _link(copy, folder, name)
            finally:
                os.close(copy)

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


def _link(descriptor: int, folder: int, name: str) -> None:
    """Gives the open file, whatever its name has become, a name in a folder."""
    os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=folder, follow_symlinks=True)


def _copy(file: ScannedFile, source: int, target: int) -> None:
    """Copies bytes, times, permissions and, where allowed, the owner; durable afterwards.

    Raises:
        ChangedError: The file changed meanwhile.
        OSError: Also where the copy does not read back as what was written.
    """
    info = os.fstat(source)
    written = hashlib.sha256()
    os.lseek(source, 0, os.SEEK_SET)
    while data := os.read(source, _COPY_BYTES):
        written.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(target, rest) :]
    file.require_unchanged(source)
    with suppress(PermissionError):
        os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, stat.S_IMODE(info.st_mode) & 0o777)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
    os.fsync(target)
    if _sha256(target) != written.digest():
        raise OSError(errno.EIO, "the copy does not read back as it was written")


def _is_same(descriptor: int, folder: int, name: str) -> bool:
    """Whether the file is there already: the same file, or one with the same bytes."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    ours = os.fstat(descriptor)
    if os.path.samestat(info, ours):
        return True
    if not stat.S_ISREG(info.st_mode) or info.st_size != ours.st_size:
        return False
    there = os.open(name, flags, dir_fd=folder)
    try:
        return _sha256(there) == _sha256(descriptor)
    finally:
        os.close(there)


def _sha256(descriptor: int) -> bytes:
    digest = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while data := os.read(descriptor, _COPY_BYTES):
        digest.update(data)
    return digest.digest()
