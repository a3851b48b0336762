"""Hints from the kernel that something happened in a folder (``inotify(7)``).

They are hints because they can be lost: the kernel's queue overflows, folders come faster than
they can be watched, watches run out, and network shares send none at all.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice
from threading import Lock, Thread

from inotify_simple import Event, INotify, flags

_MOST_HINTS = 10_000
"""Hints that may wait; a scan of the folder finds what is beyond them."""

# No more than these, so that the kernel's queue does not fill with what nobody reads: above all not
# with what the daemon itself does to the files.
_MASK = (
    flags.CREATE
    | flags.CLOSE_WRITE
    | flags.MOVED_TO
    | flags.ONLYDIR
    | flags.DONT_FOLLOW
    | flags.EXCL_UNLINK
)


class Hints:
    """Paths that something happened to, left by one thread for another, each once.

    Args:
        wake: Called by the thread that leaves a hint where there was none.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = Lock()
        self._paths: dict[str, None] = {}
        self._lost = False

    def add(self, path: str) -> None:
        """Leaves a path; when too many wait, only that something was lost."""
        with self._lock:
            idle = not self._paths and not self._lost
            if len(self._paths) < _MOST_HINTS:
                self._paths[path] = None
            else:
                self._lost = True
        if idle:
            self._wake()

    def lose(self) -> None:
        """Leaves word that events may have been lost."""
        with self._lock:
            idle = not self._paths and not self._lost
            self._lost = True
        if idle:
            self._wake()

    def take(self, most: int) -> tuple[list[str], bool]:
        """The oldest hints, and whether there may have been others that were lost."""
        with self._lock:
            some = list(islice(self._paths, most))
            for path in some:
                del self._paths[path]
            lost, self._lost = self._lost, False
        return some, lost

    def __len__(self) -> int:
        return len(self._paths)


class FolderEvents:
    """Leaves hints of what happens in a folder and everything below it, from a thread of its own.

    Hints are absolute paths of files and folders that came, were closed after writing or got that
    name.

    Args:
        root: The folder.
        hints: Where to leave them.

    Raises:
        OSError: The folder cannot be watched, for example because the limit of watches is reached.
    """

    def __init__(self, root: str, hints: Hints) -> None:
        self._hints = hints
        self._lock = Lock()
        self._paths: dict[int, str] = {}
        self._inotify = INotify()
        self._closing, self._close = os.pipe2(os.O_CLOEXEC)
        self._thread = Thread(target=self._read, name="events", daemon=True)
        try:
            self._paths[self._inotify.add_watch(root, _MASK)] = root
        except BaseException:
            self._release()
            raise
        self._thread.start()
        self._watch_below(root)

    def close(self) -> None:
        """Stops watching; when it returns nothing more is reported."""
        os.write(self._close, b"x")
        self._thread.join()
        self._release()

    def is_alive(self) -> bool:
        """Whether the thread that reports still does."""
        return self._thread.is_alive()

    def watch(self, path: str) -> bool:
        """Sees to it that a folder is watched; costs little if it is.

        Returns:
            Whether it is now, or there is none any more that could be.
        """
        try:
            number = self._inotify.add_watch(path, _MASK)
        except OSError as error:
            return error.errno in (errno.ENOENT, errno.ENOTDIR)
        with self._lock:
            self._paths[number] = path
        return True

    def drop_gone(self, folders: Collection[str]) -> None:
        """Gives up watches of folders that moved away, which still count.

        Args:
            folders: Absolute paths of folders that need not be looked for.
        """
        with self._lock:
            others = [each for each in self._paths.items() if each[1] not in folders]
        for number, path in others:
            if not os.path.isdir(path):
                with suppress(OSError):  # the watch went with the folder
                    self._inotify.rm_watch(number)

    def _watch_below(self, path: str) -> Iterable[str]:
        """Watches all folders below one; answers them."""
        found, pending = [], [path]
        while pending:
            try:
                with os.scandir(pending.pop()) as entries:
                    below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue  # the scan of the folder says so
            for each in below:
                self.watch(each)
            found += below
            pending += below
        return found

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        poll.register(self._closing, select.POLLIN)
        while self._closing not in [descriptor for descriptor, _ in poll.poll()]:
            for event in self._inotify.read(timeout=0):
                self._take(event)

    def _take(self, event: Event) -> None:
        if event.mask & flags.Q_OVERFLOW:
            self._hints.lose()
            return
        with self._lock:
            if event.mask & flags.IGNORED:
                self._paths.pop(event.wd, None)
                return
            folder = self._paths.get(event.wd)
        if folder is None or not event.name:
            return
        path = os.path.join(folder, event.name)
        if event.mask & flags.ISDIR:
            # What came into the folder before it was watched is found by looking into it after.
            self.watch(path)
            for below in self._watch_below(path):
                self._hints.add(below)
        self._hints.add(path)

    def _release(self) -> None:
        self._inotify.close()
        os.close(self._closing)
        os.close(self._close)
