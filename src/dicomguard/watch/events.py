"""Hints from the kernel that something happened in a folder (``inotify(7)``, through watchdog).

They are hints because they can be lost: the kernel's queue overflows, folders come faster than
they can be watched, watches run out, and network shares send none at all.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from threading import Lock

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

_MOST_HINTS = 10_000
"""Hints that may wait; a scan of the folder finds what is beyond them."""

# No more than these, so that the kernel's queue does not fill with what nobody reads: above all not
# with what the daemon itself does to the files.
_MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_EXCL_UNLINK
)
_ONLY_CALLBACK = CallbackId(0)


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
    name. This is watchdog's layer next to the kernel, a `WatchCallback`, and not its `Observer`:
    docs/architecture.md says why.

    Args:
        root: The folder.
        hints: Where to leave them.

    Raises:
        OSError: The folder cannot be watched, for example because the limit of watches is reached.
    """

    def __init__(self, root: str, hints: Hints) -> None:
        # watchdog warns of each folder that is watched already, which is no reason to worry.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
        self._hints = hints
        self._lock = Lock()
        self._paths: dict[WatchDescriptor, str] = {}
        self._inotify = InotifyFD()
        self._inotify.start()
        try:
            self._add(root)
        except BaseException:
            self.close()
            raise
        self._watch_below(root)

    def close(self) -> None:
        """Stops watching; when it returns nothing more is reported."""
        self._inotify.stop()
        self._inotify.join()

    def is_alive(self) -> bool:
        """Whether the thread that reports still does."""
        return self._inotify.is_alive()

    def watch(self, path: str) -> bool:
        """Sees to it that a folder is watched; costs little if it is.

        Returns:
            Whether it is now, or there is none any more that could be.
        """
        try:
            self._add(path)
        except OSError as error:
            return error.errno in (errno.ENOENT, errno.ENOTDIR)
        return True

    def drop_gone(self, folders: Collection[str]) -> None:
        """Gives up watches of folders that moved away, which still count.

        Args:
            folders: Absolute paths of folders that need not be looked for.
        """
        with self._lock:
            others = [each for each in self._paths.items() if each[1] not in folders]
        gone = [number for number, path in others if not os.path.isdir(path)]
        self._inotify.remove_callbacks([(number, _ONLY_CALLBACK) for number in gone])
        for number in gone:
            self.on_watch_deleted(number)

    # What watchdog calls, in its thread

    def on_event(self, event: InotifyEvent) -> None:
        """Leaves a hint of an event, and watches new folders."""
        with self._lock:
            folder = self._paths.get(event.wd)
        if folder is None or not event.name:
            return
        path = os.path.join(folder, os.fsdecode(event.name))
        if event.is_directory:
            # What came into the folder before it was watched is found by looking into it after.
            self.watch(path)
            for below in self._watch_below(path):
                self._hints.add(below)
        self._hints.add(path)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Forgets a folder that is gone."""
        with self._lock:
            self._paths.pop(wd, None)

    def on_queue_overflow(self) -> None:
        """Leaves word of a loss."""
        self._hints.lose()

    def _add(self, path: str) -> None:
        number = self._inotify.add_callback(os.fsencode(path), _MASK, self, _ONLY_CALLBACK)
        with self._lock:
            self._paths[number] = path

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
