"""When a file may be taken: nothing has happened to it for a while, and nobody can write to it."""

from __future__ import annotations

import fcntl
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dicomguard.model import FileIdentity


class Settling:
    """Files that wait until they have been the same for a while, first come first served.

    Args:
        quiet: Seconds.
        clock: Seconds that never go back.
    """

    def __init__(self, quiet: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.quiet = quiet
        """How long a file must be the same from now on, in seconds."""
        self._clock = clock
        self._waiting: OrderedDict[str, tuple[float, FileIdentity]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, path: str, identity: FileIdentity) -> None:
        """A file was seen; it waits from now on, unless it already does and is the same."""
        if path in self._waiting:
            if self._waiting[path][1] == identity:
                return
            del self._waiting[path]
        # All wait for the same time, so the order in which they came is that in which they are due.
        self._waiting[path] = (self._clock() + self.quiet, identity)

    def seconds_to_next(self) -> float | None:
        """Until the first file is due, at least 0; None where none waits."""
        if not self._waiting:
            return None
        due, _ = next(iter(self._waiting.values()))
        return max(0.0, due - self._clock())

    def pop_due(self) -> tuple[str, FileIdentity] | None:
        """A file whose time is over, with what it was when it was noted; None where there is none.

        Whether it still is the same is for the caller to see, who notes it again if it is not.
        """
        if self.seconds_to_next() != 0.0:
            return None
        path, (_, identity) = self._waiting.popitem(last=False)
        return path, identity


class WriterGuard:
    """What is known of those who write to an open file, and a hold on those who want to.

    Attributes:
        quiet: Nobody had the file open for writing, as far as that can be known.
        leased: It is known, and whoever opens the file for writing now has to wait.
    """

    def __init__(self, descriptor: int, *, quiet: bool, leased: bool) -> None:
        self._descriptor = descriptor
        self.quiet = quiet
        self.leased = leased

    def still_quiet(self) -> bool:
        """Whether nobody waits to write, as far as that can be known."""
        if not self.leased:
            return self.quiet
        return fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK


@contextmanager
def kept_from_writers(descriptor: int) -> Iterator[WriterGuard]:
    """Holds writers off a file that is open for reading, by a read lease (``fcntl(2)``).

    The lease is refused while anyone has the file open, or mapped, for writing; while it is held,
    whoever opens it for writing waits. Where leases are not to be had (another user's file without
    ``CAP_LEASE``, some file systems) it cannot be known who writes, and that the file has been
    quiet must do.
    """
    quiet = leased = True
    try:
        # The kernel tells the holder when somebody waits, by default with a SIGIO that kills.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        quiet = leased = False
    except OSError:
        leased = False
    try:
        yield WriterGuard(descriptor, quiet=quiet, leased=leased)
    finally:
        if leased:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
