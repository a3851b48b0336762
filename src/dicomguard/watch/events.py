"""Hints from the kernel that something happened in a folder (inotify, through watchdog).

They are hints because they can be lost: the kernel's queue overflows, folders come faster than
they can be watched, watches run out, and network shares send none at all.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path

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

_LIMITS = Path("/proc/sys/fs/inotify")
# Asking for no more than these keeps the kernel's queue from filling with what nobody reads.
_KINDS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileClosedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]


class FolderEvents:
    """Reports paths in a folder and everything below it, from a thread of its own.

    Args:
        root: The folder.
        on_path: Called with the absolute path of a file or folder that came, was closed after
            writing or got that name.
        on_loss: Called when events may have been lost.

    Raises:
        OSError: The folder cannot be watched, for example because the limit of watches is reached.
    """

    def __init__(
        self, root: str, on_path: Callable[[str], None], on_loss: Callable[[], None]
    ) -> None:
        # watchdog prints its whole table of watches with a warning that concerns nobody.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\..*")
        self._complaints = _Complaints(on_loss)
        logging.getLogger("watchdog").addHandler(self._complaints)
        self._observer = Observer()
        try:
            self._observer.schedule(_Paths(on_path), root, recursive=True, event_filter=_KINDS)
            self._observer.start()
        except BaseException:
            logging.getLogger("watchdog").removeHandler(self._complaints)
            raise

    def close(self) -> None:
        """Stops watching; when it returns nothing more is reported."""
        self._observer.stop()
        self._observer.join()
        logging.getLogger("watchdog").removeHandler(self._complaints)


def most_folders() -> int:
    """How many folders can be watched safely on this machine.

    With more than ``max_user_watches`` the rest goes unwatched in silence; with more than
    ``max_queued_events`` watchdog does not recover from an overflow, because removing and renewing
    the watches overflows the queue again.
    """
    limits = [_LIMITS / "max_user_watches", _LIMITS / "max_queued_events"]
    return min((int(limit.read_text()) for limit in limits if limit.exists()), default=1024)


class _Paths(FileSystemEventHandler):
    def __init__(self, on_path: Callable[[str], None]) -> None:
        self._on_path = on_path

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._on_path(os.fsdecode(event.dest_path or event.src_path))


class _Complaints(logging.Handler):
    """watchdog says that it lost events only in its log."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_loss = on_loss

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - any complaint will do
        self._on_loss()
