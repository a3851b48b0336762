"""Files by open descriptor: what was scanned is what is acted on, whatever happens to its name."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Self

from dicomguard.model import FileIdentity

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a file is opened that may be anything: no link is followed, no FIFO waited for."""

CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file is made: it is new, or not made."""

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened: it may not be a link to one."""


_UNNAMED_FLAGS = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
"""What file systems say that have no unnamed files, and kernels that do not know of them."""


class ChangedError(Exception):
    """A file is no longer the one that was scanned; nothing was done with it: scan it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedFile:
    """A file by its name in an open folder, and the content that was scanned under that name.

    Attributes:
        folder: Descriptor of the folder; it stays the caller's.
        name: Name in that folder.
        path: Absolute path without symbolic links, for the record.
        identity: What was scanned.
    """

    folder: int
    name: str
    path: str
    identity: FileIdentity

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of exactly what was scanned, open for reading.

        Raises:
            ChangedError: The file is gone, was changed, or is no longer a regular file.
            OSError: It cannot be opened.
        """
        try:
            descriptor = os.open(self.name, READ_FLAGS, dir_fd=self.folder)
        except OSError as error:
            # ELOOP: a symbolic link by now; ENXIO: a socket; ENOTDIR cannot be, names hold no "/".
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise ChangedError(self.path) from error
            raise
        try:
            self.require_unchanged(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def require_unchanged(self, descriptor: int) -> None:
        """Raises `ChangedError` unless the descriptor still is what was scanned."""
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or identity_of(info) != self.identity:
            raise ChangedError(self.path)

    def unlink(self) -> None:
        """Removes the name, if it still is the file that was scanned.

        Its inode, size and modification time are compared immediately before: a hard link of the
        file to another place has changed its ctime since. A file that replaces it in the few
        microseconds between goes unseen; `VaultWriter` uses this only across file systems.

        Raises:
            ChangedError: Another file has the name by now, or none.
        """
        try:
            info = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError as error:
            raise ChangedError(self.path) from error
        if not same_but_ctime(info, self.identity):
            raise ChangedError(self.path)
        # It was there; an NFS server that is asked twice says the second time that it was not.
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.folder)


class NewFile:
    """A file that appears under its name complete and on the disk, or not at all.

    It has no name before, or, on a file system that has no unnamed files (NFS, some FUSE), one that
    begins with a dot and ends in ``.part``.

    Args:
        folder: Descriptor of its folder; it stays the caller's.
        name: The name that it will have.

    Attributes:
        stream: To write to.

    Raises:
        FileExistsError: Something has the name.
        OSError: No file can be made there.
    """

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self._name = name
        self._part: str | None = None
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            descriptor = os.open(".", _UNNAMED_FLAGS, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            self._part = f".{secrets.token_hex(8)}.part"
            descriptor = os.open(self._part, CREATE_FLAGS, 0o600, dir_fd=folder)
        self.stream: BinaryIO = os.fdopen(descriptor, "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if self._part is not None:
                os.unlink(self._part, dir_fd=self._folder)
        finally:
            self.stream.close()

    def sync(self) -> None:
        """Has what was written on the disk."""
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def appear(self) -> None:
        """Gives the file its name, for good.

        Raises:
            FileExistsError: Something has taken the name.
            OSError: It cannot be given.
        """
        os.link(
            self._part or f"/proc/self/fd/{self.stream.fileno()}",
            self._name,
            src_dir_fd=self._folder,
            dst_dir_fd=self._folder,
            follow_symlinks=True,
        )
        try:
            os.fsync(self._folder)
        except BaseException:
            os.unlink(self._name, dir_fd=self._folder)
            raise


def identity_of(info: os.stat_result) -> FileIdentity:
    """The identity that a file has by its ``stat``."""
    return FileIdentity(
        device=info.st_dev,
        inode=info.st_ino,
        size=info.st_size,
        mtime_ns=info.st_mtime_ns,
        ctime_ns=info.st_ctime_ns,
    )


@contextmanager
def opened_folder(path: str, *, root: int | None = None) -> Iterator[int]:
    """A descriptor of a folder, come to through real folders only: no component may be a link.

    Args:
        path: Absolute, or relative to ``root``; the empty path is ``root`` itself.
        root: Descriptor of the folder that a relative path starts from; not used for an absolute.

    Raises:
        OSError: A component is missing, no folder or a symbolic link (``ENOTDIR``).
    """
    start = "/" if path.startswith("/") else "."
    current = os.open(start, os.O_PATH | FOLDER_FLAGS, dir_fd=root)
    try:
        for part in filter(None, path.split("/")):
            following = os.open(part, os.O_PATH | FOLDER_FLAGS, dir_fd=current)
            os.close(current)
            current = following
        # A path descriptor can be walked through but neither listed nor synced.
        folder = os.open(".", FOLDER_FLAGS, dir_fd=current)
    finally:
        os.close(current)
    try:
        yield folder
    finally:
        os.close(folder)


def same_but_ctime(info: os.stat_result, identity: FileIdentity) -> bool:
    """Whether a file is the one of that identity; linking and renaming change only the ctime."""
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_dev == identity.device
        and info.st_ino == identity.inode
        and info.st_size == identity.size
        and info.st_mtime_ns == identity.mtime_ns
    )
