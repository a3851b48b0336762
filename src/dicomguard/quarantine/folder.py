"""One folder of a vault: files by name, private, durable, and never through a symbolic link."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import BinaryIO, Self

from dicomguard.files import CREATE_FLAGS, FOLDER_FLAGS, READ_FLAGS

_LOCK_POLL = 0.01
"""Seconds between two tries for a lock that another process holds."""


class Folder:
    """A folder by its descriptor; what is in it is reached by name from there.

    Methods raise `OSError` as the system does.

    Attributes:
        descriptor: Open until `close`.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def subfolder(self, name: str) -> Self:
        """Opens a folder of this folder."""
        return type(self)(os.open(name, FOLDER_FLAGS, dir_fd=self.descriptor))

    def close(self) -> None:
        """Lets go of the folder."""
        os.close(self.descriptor)

    def names(self) -> list[str]:
        """All names in the folder, in no order."""
        with os.scandir(self.descriptor) as entries:
            return [entry.name for entry in entries]

    def stat(self, name: str) -> os.stat_result:
        """What is under a name; a link is itself, not what it leads to."""
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def exists(self, name: str) -> bool:
        """Whether there is anything under a name."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def open_to_read(self, name: str) -> BufferedReader:
        """Opens a file; a FIFO is not waited for."""
        return os.fdopen(os.open(name, READ_FLAGS, dir_fd=self.descriptor), "rb")

    def read(self, name: str, most: int) -> bytes:
        """All of a file, which is refused (``EFBIG``) if it has more bytes than that."""
        with self.open_to_read(name) as source:
            data = source.read(most + 1)
        if len(data) > most:
            raise OSError(errno.EFBIG, f"it has more than {most} bytes")
        return data

    @contextmanager
    def created(self, name: str) -> Iterator[BinaryIO]:
        """A new file of mode 0600 whose bytes are on the disk afterwards."""
        descriptor = os.open(name, CREATE_FLAGS, 0o600, dir_fd=self.descriptor)
        with os.fdopen(descriptor, "wb") as target:
            self.adopt(descriptor)
            yield target
            target.flush()
            os.fsync(descriptor)

    def adopt(self, descriptor: int) -> None:
        """Gives a file to the folder's owner, so that the daemon can use what root made."""
        owner = os.fstat(self.descriptor)
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

    def unlink(self, name: str) -> bool:
        """Removes a file that need not be there; whether it was."""
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return False
        return True

    def link(self, name: str, folder: Folder, new_name: str) -> None:
        """Gives a file a second name; what has that name already is not replaced."""
        os.link(
            name,
            new_name,
            src_dir_fd=self.descriptor,
            dst_dir_fd=folder.descriptor,
            follow_symlinks=False,
        )

    def rename(self, name: str, folder: Folder, new_name: str) -> None:
        """Moves a file, over what has the new name."""
        os.rename(name, new_name, src_dir_fd=self.descriptor, dst_dir_fd=folder.descriptor)

    def sync(self) -> None:
        """Makes the names in the folder durable."""
        os.fsync(self.descriptor)


def lock(descriptor: int, operation: int, seconds: float) -> None:
    """Takes a lock by ``flock(2)``, waiting for another process no longer than so long.

    Args:
        descriptor: The open file.
        operation: ``fcntl.LOCK_EX`` or ``fcntl.LOCK_SH``.
        seconds: How long to wait; 0 tries once.

    Raises:
        BlockingIOError: Another process holds it.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOCK_POLL)
        else:
            return
