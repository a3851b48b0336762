"""Files by open descriptor: what was scanned is what is acted on, whatever happens to its name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Self

from msgspec import Struct

from dicomguard.model import FileIdentity

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a file is opened that may be anything: no link is followed, no FIFO waited for."""

CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file is made: it is new, or not made."""

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened: it may not be a link to one."""


_RENAME_NOREPLACE = 1
"""Of ``renameat2(2)``, which Python does not have."""

_UNNAMED_FLAGS = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
"""What file systems say that have no unnamed files, and kernels that do not know of them."""


class ChangedError(Exception):
    """A file is no longer the one that was scanned; nothing was done with it: scan it again."""


class ScannedFile(Struct, frozen=True, kw_only=True):
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
        except FileNotFoundError as error:
            self.give_back()  # after which it is looked at anew
            raise ChangedError(self.path) from error
        except OSError as error:
            # ELOOP: a symbolic link by now; ENXIO: a socket; ENOTDIR cannot be, names hold no "/".
            if error.errno in (errno.ELOOP, errno.ENXIO):
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

    def remove(self) -> None:
        """Removes the file, and nothing that has taken its name meanwhile.

        What has the name is first given another (`parked_name`) and looked at under that, for
        there is no way to unlink a name only if it still leads to a certain file. It is the file
        if inode, size and modification time are: a new name or link changes the ctime.

        Raises:
            ChangedError: Another file has the name by now, or none.
            OSError: It cannot be removed. It is where it was; where even that cannot be, it will
                be after `give_back`.
        """
        parked = parked_name(self.name, self.identity)
        try:
            os.rename(self.name, parked, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except FileNotFoundError as error:
            raise ChangedError(self.path) from error
        try:
            info = os.stat(parked, dir_fd=self.folder, follow_symlinks=False)
            if same_but_ctime(info, self.identity):
                os.unlink(parked, dir_fd=self.folder)
                return
        except OSError:
            with suppress(OSError):
                self.give_back()
            raise
        self.give_back()
        raise ChangedError(self.path)

    def give_back(self) -> None:
        """Gives what an interrupted `remove` has parked its name again; does nothing without.

        Where the name is taken by now, it gets one that begins with it.

        Raises:
            OSError: It cannot be given.
        """
        parked = parked_name(self.name, self.identity)
        with suppress(FileNotFoundError):
            info = os.stat(parked, dir_fd=self.folder, follow_symlinks=False)
            try:
                rename_without_overwriting(self.folder, parked, self.folder, self.name)
            except FileExistsError:
                name = f"{os.fsdecode(os.fsencode(self.name)[:200])}.{info.st_ino}"
                rename_without_overwriting(self.folder, parked, self.folder, name)


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
            import secrets  # noqa: PLC0415 - whoever only reads needs none of it

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


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Makes the names in a folder durable.

    Raises:
        OSError: It cannot be opened, or not be written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def parked_name(name: str, identity: FileIdentity) -> str:
    """What `ScannedFile.remove` calls a file for a moment: hidden, and known after a crash."""
    import hashlib  # noqa: PLC0415 - whoever only reads needs none of it

    digest = hashlib.sha256(f"{identity}".encode() + os.fsencode(name)).hexdigest()
    return f".{digest[:32]}.part"


def rename_without_overwriting(folder: int, name: str, target: int, new_name: str) -> None:
    """Moves a thing from a folder to another, both by their descriptors.

    Raises:
        FileExistsError: Something has the new name.
        OSError: It cannot be moved.
    """
    import ctypes  # noqa: PLC0415 - whoever only reads needs none of it

    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(name), os.fsencode(new_name)
    if libc.renameat2(folder, names[0], target, names[1], _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):  # NFS, some FUSE
        raise OSError(code, os.strerror(code))
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        # A folder has no hard links; renaming one replaces nothing but an empty folder.
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=target)
        return
    os.link(name, new_name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
    os.unlink(name, dir_fd=folder)


def same_but_ctime(info: os.stat_result, identity: FileIdentity) -> bool:
    """Whether a file is the one of that identity; linking and renaming change only the ctime."""
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_dev == identity.device
        and info.st_ino == identity.inode
        and info.st_size == identity.size
        and info.st_mtime_ns == identity.mtime_ns
    )
