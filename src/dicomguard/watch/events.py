"""Hints from the kernel that something happened in a folder (inotify, through watchdog).

They are hints because they can be lost: the kernel's queue overflows, folders come faster than
they can be watched, watches run out, and network shares send none at all.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Lock

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

_MOST_HINTS = 10_000
"""Hints that may wait; a scan of the folder finds what is beyond them."""

_LIMITS = Path("/proc/sys/fs/inotify")
# Asking for no more than these keeps the kernel's queue from filling with what nobody reads.
_KINDS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileClosedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]


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
        # watchdog prints its whole table of watches with a warning that concerns nobody.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\..*")
        self._complaints = _Complaints(hints)
        logging.getLogger("watchdog").addHandler(self._complaints)
        self._observer = Observer()
        try:
            self._observer.schedule(_Paths(hints), root, recursive=True, event_filter=_KINDS)
            self._observer.start()
        except BaseException:
            logging.getLogger("watchdog").removeHandler(self._complaints)
            raise

    def close(self) -> None:
        """Stops watching; when it returns nothing more is reported."""
        self._observer.stop()
        self._observer.join()
        logging.getLogger("watchdog").removeHandler(self._complaints)

    def is_alive(self) -> bool:
        """Whether the threads that report still do."""
        emitters = self._observer.emitters
        return self._observer.is_alive() and all(emitter.is_alive() for emitter in emitters)

    @staticmethod
    def watched() -> int:
        """How many folders this process watches, as the kernel counts them.

        watchdog goes on in silence where the kernel refuses it another watch.
        """
        count = 0
        for entry in os.scandir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(entry.path) == "anon_inode:inotify":
                    count += (
                        Path(f"/proc/self/fdinfo/{entry.name}").read_text().count("inotify wd:")
                    )
        return count


def most_folders() -> int:
    """How many folders can be watched safely on this machine.

    With more than ``max_user_watches`` the rest goes unwatched in silence; with more than
    ``max_queued_events`` watchdog does not recover from an overflow, because removing and renewing
    the watches overflows the queue again.
    """
    limits = [_LIMITS / "max_user_watches", _LIMITS / "max_queued_events"]
    return min((int(limit.read_text()) for limit in limits if limit.exists()), default=1024)


class _Paths(FileSystemEventHandler):
    def __init__(self, hints: Hints) -> None:
        self._hints = hints

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._hints.add(os.fsdecode(event.dest_path or event.src_path))


class _Complaints(logging.Handler):
    """watchdog says that it lost events only in its log."""

    def __init__(self, hints: Hints) -> None:
        super().__init__(logging.WARNING)
        self._hints = hints

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - any complaint will do
        self._hints.lose()
