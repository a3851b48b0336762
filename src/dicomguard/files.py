"""Files by open descriptor: what was scanned is what is acted on, whatever happens to its name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dicomguard.model import FileIdentity

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a file is opened that may be anything: no link is followed, no FIFO waited for."""

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened: it may not be a link to one."""


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
        os.unlink(self.name, dir_fd=self.folder)


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
