"""What is in the ingest folder: by events where there are any, and by scans always.

Events are hints. They are lost when the kernel's queue overflows, when folders come faster than
they can be watched and when watches run out, and network shares send none. So the folder is
scanned from time to time, at once when a loss is possible, and it is the scan that misses nothing.
"""

from __future__ import annotations

import fnmatch
import logging
import math
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from threading import Lock

from dicomguard.config import WatchConfig
from dicomguard.files import ScannedFile, opened_folder
from dicomguard.model import FileIdentity
from dicomguard.watch.events import FolderEvents, Hints
from dicomguard.watch.journal import Journal, Known
from dicomguard.watch.mounts import remote_kind
from dicomguard.watch.troubles import Troubles

_log = logging.getLogger(__name__)

_ENTRIES_PER_STEP = 1000
"""Entries of a folder that are looked at before other work gets its turn."""

_MOST_LISTINGS = 1000
"""New folders that may wait to be listed; when there are more, all of the folder is scanned."""

_STALE = 3600.0
"""Seconds after which an upload that nobody goes on with is mentioned."""


class Ingest:
    """The ingest folder, and everything below it.

    Args:
        path: Absolute and without symbolic links.
        config: How to watch it.
        journal: Knows what became of the files that stay.
        troubles: Told of what keeps the folder from being watched.
        found: Called with the relative path of each thing that is no folder, what it is and what
            is known of it; answers whether there was room for it.
        wake: Called, from another thread, when there is something for `step` to do.

    Raises:
        OSError: The folder cannot be opened.
    """

    def __init__(
        self,
        path: str,
        config: WatchConfig,
        *,
        journal: Journal,
        troubles: Troubles,
        found: Callable[[str, os.stat_result, Known | None], bool],
        wake: Callable[[], None],
    ) -> None:
        self.path = path
        self.configure(config)
        self._journal = journal
        self._troubles = troubles
        self._found = found
        self._hints = Hints(wake)
        self._work: deque[Iterator[None]] = deque()
        self._next_scan = 0.0
        self.left_behind = False
        """Whether there was no room for something that was found."""
        self.scan_seconds = 0.0
        """How long the last scan took."""
        self.unfinished = 0
        """Files that wait under the name of an unfinished upload, as of the last scan."""
        self._oldest_unfinished = math.inf
        self._root_lock = Lock()
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._was_mounted = os.path.ismount(path)
        self._events: FolderEvents | None = None
        self._watch_events()

    def configure(self, config: WatchConfig) -> None:
        """Goes on with other settings."""
        self._config = config
        self._is_unfinished = re.compile(
            "|".join(map(fnmatch.translate, config.unfinished)) or r"(?!)"
        ).fullmatch

    def close(self) -> None:
        """Stops watching."""
        self._close_events()
        os.close(self._root)

    @property
    def without_events(self) -> str:
        """Why there are no events and the scan has to do; empty where there are."""
        if self._config.poll:
            return "as configured"
        kind = remote_kind(self.path)
        if kind:
            return f"{kind} does not tell of all changes"
        return "" if self._events is not None else "events cannot be had"

    def opened(self, folder: str) -> AbstractContextManager[int]:
        """A descriptor of a folder by its relative path, come to without following a link."""
        return opened_folder(folder, root=self._root)

    @contextmanager
    def file(self, path: str, identity: FileIdentity) -> Iterator[ScannedFile]:
        """A file by its relative path, in any thread.

        Args:
            path: Relative to the folder.
            identity: What it is taken to be.

        Raises:
            OSError: Its folder cannot be come to.
        """
        parent, name = os.path.split(path)
        with self._root_lock:
            root = os.dup(self._root)
        try:
            with opened_folder(parent, root=root) as folder:
                absolute = os.path.join(self.path, path)
                yield ScannedFile(folder=folder, name=name, path=absolute, identity=identity)
        finally:
            os.close(root)

    def stat(self, path: str) -> os.stat_result | None:
        """What is at a relative path; None where there is nothing, or it cannot be reached."""
        parent, name = os.path.split(path)
        try:
            with self.opened(parent) as folder:
                return os.stat(name or ".", dir_fd=folder, follow_symlinks=False)
        except OSError:
            return None

    def scan_soon(self) -> None:
        """Asks for a scan of everything, as soon as other work has had its turn."""
        self._next_scan = 0.0

    def seconds_to_next_step(self) -> float:
        """Until `step` has something to do, at least 0."""
        return 0.0 if self._work else max(0.0, self._next_scan - time.monotonic())

    def step(self) -> None:
        """Looks at what there were events of, and goes on looking through folders for a moment."""
        paths, lost = self._hints.take(_ENTRIES_PER_STEP)
        for path in paths:
            self.look_at(path.removeprefix(self.path).strip("/"))
        if lost:
            self.scan_soon()
        if not self._work:
            if time.monotonic() < self._next_scan:
                return
            self._work.append(self._scan())
        try:
            next(self._work[0])
        except StopIteration:
            self._work.popleft()

    def look_at(self, path: str) -> None:
        """Finds what is at a relative path, if anything is."""
        info = self.stat(path)
        if info is None:
            return
        if not stat.S_ISDIR(info.st_mode):
            if not any(map(self._is_unfinished, path.split("/"))):
                self._offer(path, info, self._journal.known(path))
        elif len(self._work) < _MOST_LISTINGS:
            self._work.append(self._listing(path))
        else:
            self.scan_soon()

    # The scan

    def _scan(self) -> Iterator[None]:
        """Looks at everything below the ingest folder; yields now and then."""
        started = time.monotonic()
        self._next_scan = math.inf
        self.left_behind = False
        if self._root_is_there():
            self._unfinished_seen, self._oldest_unfinished = 0, math.inf
            self._require_events()
            folders, visited, unwatched = [""], set[str](), 0
            while folders:
                folder = folders.pop()
                visited.add(folder)
                if self._events is not None:
                    unwatched += not self._events.watch(self._absolute(folder))
                yield from self._listing(folder, folders)
            for folder in self._journal.folders():
                if folder not in visited:
                    self._journal.forget_folder(folder)
            self.unfinished = self._unfinished_seen
            self._mention_stale_uploads()
            self._check_events(visited, unwatched)
            self._troubles.clear_files(started)
        ended = time.monotonic()
        self.scan_seconds = ended - started
        # Unless another was asked for in the meantime.
        self._next_scan = min(self._next_scan, ended + self._config.reconcile)

    def _listing(self, folder: str, below: list[str] | None = None) -> Iterator[None]:
        """Looks at the entries of one folder; collects its folders in ``below``."""
        unfinished = any(map(self._is_unfinished, folder.split("/")))
        remembered = 0
        try:
            with self.opened(folder) as descriptor, os.scandir(descriptor) as entries:
                while some := list(islice(entries, _ENTRIES_PER_STEP)):
                    known = self._journal.known_among(folder, [entry.name for entry in some])
                    remembered += len(known)
                    for entry in some:
                        waits = unfinished or bool(self._is_unfinished(entry.name))
                        self._entry(folder, entry, known.get(entry.name), below, waits=waits)
                    yield
                if remembered < self._journal.count_in(folder):
                    yield from self._forget_gone(folder, descriptor)
        except (FileNotFoundError, NotADirectoryError):
            self._journal.forget_folder(folder)  # it went while the folders were listed
        except OSError as error:
            self._troubles.note_file("cannot look into a folder", folder, error)

    def _forget_gone(self, folder: str, descriptor: int) -> Iterator[None]:
        for names in self._journal.names_in(folder):
            gone = [name for name in names if not _exists(name, descriptor)]
            self._journal.forget(folder, gone)
            yield

    def _entry(
        self,
        folder: str,
        entry: os.DirEntry[str],
        known: Known | None,
        below: list[str] | None,
        *,
        waits: bool,
    ) -> None:
        path = os.path.join(folder, entry.name)
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self._troubles.note_file("cannot look at a file", path, error)
            return
        if stat.S_ISDIR(info.st_mode):
            if below is not None:
                below.append(path)
        elif not waits:
            self._offer(path, info, known)
        elif below is not None:
            self._unfinished_seen += 1
            self._oldest_unfinished = min(self._oldest_unfinished, info.st_mtime)

    def _offer(self, path: str, info: os.stat_result, known: Known | None) -> None:
        if not self._found(path, info, known):
            self.left_behind = True

    def _mention_stale_uploads(self) -> None:
        age = time.time() - self._oldest_unfinished
        if age > _STALE:
            self._troubles.note(
                "unfinished uploads",
                f"{self.unfinished} files wait for their final name, one for {age / 3600:.0f} h",
                ails=False,
            )

    # The folder itself, and its events

    def _root_is_there(self) -> bool:
        """Whether the folder can be looked at; opened anew where another has its place."""
        try:
            current = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._troubles.note("ingest folder", f"it cannot be watched: {error.strerror}")
            return False
        if self._was_mounted and not os.path.ismount(self.path):
            self._troubles.note("ingest folder", "nothing is mounted there any more")
            os.close(current)
            return False
        self._troubles.clear("ingest folder")
        with self._root_lock:
            self._root, before = current, self._root
        try:
            if not os.path.samestat(os.fstat(before), os.fstat(current)):
                _log.warning("the ingest folder was replaced: watching the new one")
                self._close_events()
                self._watch_events()
        finally:
            os.close(before)
        return True

    def _watch_events(self) -> None:
        if self._config.poll or remote_kind(self.path):
            return
        try:
            self._events = FolderEvents(self.path, self._hints)
        except OSError as error:
            self._without_events(error.strerror or "unknown reason")

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _require_events(self) -> None:
        """Sees to it that there are events, where they can be had."""
        if self._config.poll or remote_kind(self.path):
            self._close_events()
            self._troubles.clear("events")
        elif self._events is None or not self._events.is_alive():
            self._close_events()
            self._watch_events()

    def _check_events(self, folders: set[str], unwatched: int) -> None:
        """Notes whether events come for every folder.

        Args:
            folders: All there are, relative.
            unwatched: How many of them could not be watched.
        """
        if self._events is None:
            return
        self._events.drop_gone({self._absolute(folder) for folder in folders})
        if unwatched:
            self._without_events(f"{unwatched} of {len(folders)} folders cannot be watched")
        else:
            self._troubles.clear("events")

    def _absolute(self, path: str) -> str:
        return os.path.join(self.path, path) if path else self.path

    def _without_events(self, reason: str) -> None:
        self._troubles.note(
            "events",
            f"{reason}: files are found by the scan alone, every {self._config.reconcile:g} s "
            "(see fs.inotify.max_user_watches)",
        )


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # it cannot be looked at, which is no reason to forget it
    return True
