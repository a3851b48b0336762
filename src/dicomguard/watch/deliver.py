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
from dicomguard.watch.mounts import remote_kind
from dicomguard.watch.settle import WriterGuard, kept_from_writers

_COPY_BYTES = 1 << 20
_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}
"""Another file system, a kernel that lets nobody link another's file, too many links, no links."""


class OccupiedError(Exception):
    """Something else is where the file should go; it stays where it is."""


class Delivery:
    """The folder that clean files move to.

    A file appears there complete and at once. It is moved if nobody else can get at its content:
    it has one name, and a lease keeps writers off until that name is gone from the ingest folder.
    Else, and on another file system, a copy is delivered that gets its name when it is whole and
    has been read back. A crash between that and the removal of the original leaves both, and the
    next delivery of the original sees that it is there.

    Files can be delivered by several threads at a time.

    Args:
        folder: Made where there is none; its parent must exist.
        source: The folder that the files come from.

    Raises:
        DicomguardError: The folder cannot be used.
    """

    def __init__(self, folder: str, source: str) -> None:
        self.folder = folder
        # There a lease says nothing of writers on other machines.
        self._can_move = remote_kind(source) is None
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

    def deliver(self, file: ScannedFile, relative: str) -> None:
        """Moves a file.

        Args:
            file: What was scanned.
            relative: Its path in the ingest folder.

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
                moved = self._place(file, descriptor, guard, folder, name)
            except FileExistsError as error:
                if not _is_same(descriptor, folder, name):
                    raise OccupiedError from error
                moved = _is_very_same(descriptor, folder, name)
            os.fsync(folder)
            # What took the file's name since then is another file, with its own turn to come.
            with suppress(ChangedError):
                file.unlink()
            os.fsync(file.folder)
            if moved and not guard.holds():
                _take_back(file, descriptor, folder, name)

    def _place(
        self, file: ScannedFile, descriptor: int, guard: WriterGuard, folder: int, name: str
    ) -> bool:
        """Gives the file its new name; whether it is the very file, not a copy."""
        if self._can_move and guard.holds() and os.fstat(descriptor).st_nlink == 1:
            try:
                _link(descriptor, folder, name)
            except OSError as error:
                if error.errno not in _NOT_LINKABLE:
                    raise
            else:
                return True
        with NewFile(folder, name) as copy:
            _copy(file, descriptor, copy)
            copy.appear()
        return False

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


def _take_back(file: ScannedFile, descriptor: int, folder: int, name: str) -> None:
    """Undoes a move: somebody opened the file before its old name was gone, and waits to write.

    Raises:
        ChangedError: Always. The file is where it was, or, if its name was taken meanwhile, under
            one that begins with it.
    """
    back = file.name
    try:
        _link(descriptor, file.folder, back)
    except FileExistsError:
        back = f"{os.fsdecode(os.fsencode(file.name)[:200])}.{os.fstat(descriptor).st_ino}"
        _link(descriptor, file.folder, back)
    os.unlink(name, dir_fd=folder)
    os.fsync(folder)
    raise ChangedError(file.path)


def _copy(file: ScannedFile, source: int, copy: NewFile) -> None:
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
        copy.stream.write(data)
    file.require_unchanged(source)
    target = copy.stream.fileno()
    with suppress(PermissionError):
        os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, stat.S_IMODE(info.st_mode) & 0o777)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
    copy.sync()
    with open(f"/proc/self/fd/{target}", "rb") as again:
        if hashlib.file_digest(again, "sha256").digest() != written.digest():
            raise OSError(errno.EIO, "the copy does not read back as it was written")


def _is_very_same(descriptor: int, folder: int, name: str) -> bool:
    """Whether the file itself is there already."""
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return os.path.samestat(info, os.fstat(descriptor))


def _is_same(descriptor: int, folder: int, name: str) -> bool:
    """Whether the file is there already: itself, or one with the same bytes."""
    if _is_very_same(descriptor, folder, name):
        return True
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(info.st_mode) or info.st_size != os.fstat(descriptor).st_size:
        return False
    there = os.open(name, READ_FLAGS, dir_fd=folder)
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
