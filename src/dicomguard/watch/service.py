"""The loop that owns everything the daemon knows: find, let settle, have scanned, act.

One thread decides and acts; watchdog's thread and the scan pool's only leave calls in its inbox.
The folder itself is the queue: what is neither waiting to settle nor being scanned is remembered
nowhere, because the next reconcile scan finds it. So nothing has to be saved when the daemon
stops, and whatever could not be done (a full disk, a missing permission) is tried again.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType

from dicomguard.files import ChangedError, ScannedFile, identity_of, opened_folder
from dicomguard.model import FileIdentity, Report, Verdict
from dicomguard.quarantine import VaultWriter
from dicomguard.reports.escape import printable
from dicomguard.watch.deliver import Delivery, OccupiedError
from dicomguard.watch.events import FolderEvents, most_folders
from dicomguard.watch.journal import Journal, Known, Outcome
from dicomguard.watch.settle import Settling, kept_from_writers
from dicomguard.workers import ScanPool

_MOST_WAITING = 20_000
"""Files that may wait to settle; more are left in the folder until these are through."""

_SCANS_PER_WORKER = 4
"""Files handed out at a time: enough that no worker waits for the next."""

_ENTRIES_PER_STEP = 1000
"""Entries of a folder that are looked at before other work gets its turn."""

_MESSAGES_PER_STEP = 1000

_KINDS = {"l": "symbolic link", "p": "FIFO", "s": "socket", "b": "device", "c": "device"}
"""What is not opened, by the first letter of ``ls -l``."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """How the daemon works.

    Attributes:
        settle: Seconds that a file must be unchanged before it is taken.
        reconcile: Seconds between two scans of the folder.
        keep_incomplete: Whether a file that could not be examined stays where it is.
        workers: Processes of the scan pool.
    """

    settle: float
    reconcile: float
    keep_incomplete: bool
    workers: int


class WatchService:
    """Watches one ingest folder until it is told to stop.

    Args:
        ingest: The folder, absolute and without symbolic links.
        options: How to work.
        pool: Scans files.
        vault: Takes what must not stay.
        journal: Remembers what stays.
        delivery: Takes what is clean; None where that stays.
    """

    def __init__(
        self,
        ingest: str,
        options: WatchOptions,
        *,
        pool: ScanPool,
        vault: VaultWriter,
        journal: Journal,
        delivery: Delivery | None,
    ) -> None:
        self._ingest = ingest
        self._options = options
        self._pool = pool
        self._vault = vault
        self._journal = journal
        self._delivery = delivery
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._settling = Settling(options.settle)
        self._in_flight: dict[str, FileIdentity] = {}
        self._walks: deque[Iterator[None]] = deque()
        self._next_reconcile = 0.0
        self._left_behind = False
        self._occupied: set[str] = set()
        self._outcomes: Counter[str] = Counter()
        self._root = -1
        self._events: FolderEvents | None = None
        self._stopping = False

    def run(self) -> None:
        """Works until `stop` is called or SIGTERM or SIGINT comes; finishes what is in its hand.

        What is still being scanned then is left in the folder for the next start.

        Raises:
            OSError: The ingest folder cannot be opened.
        """
        self._root = os.open(self._ingest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with self._stopped_by(signal.SIGTERM, signal.SIGINT):
                self._watch_events()
                _log.info("%s", self._what_is_watched())
                while not self._stopping:
                    self._receive()
                    self._walk()
                    self._take_settled()
        finally:
            self._close_events()
            os.close(self._root)
            _log.info("stopped; %s", _listed(self._outcomes) or "nothing was done")

    def stop(self) -> None:
        """Makes `run` return; may be called from any thread and from a signal handler."""
        self._inbox.put(self._stop)

    def _stop(self) -> None:
        self._stopping = True

    @contextmanager
    def _stopped_by(self, *signals: signal.Signals) -> Iterator[None]:
        def handle(_number: int, _frame: FrameType | None) -> None:
            # At once, so that the death of a worker in the same process group, which the same
            # signal may have caused, is not taken for what a file did.
            self._stopping = True
            self.stop()

        before = [(number, signal.signal(number, handle)) for number in signals]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    # What comes in

    def _receive(self) -> None:
        """Waits until there is something to do, then takes in what others have left."""
        with suppress(Empty):
            message = self._inbox.get(timeout=self._seconds_to_wait())
            for _ in range(_MESSAGES_PER_STEP):
                if self._stopping:
                    return
                message()
                message = self._inbox.get_nowait()
            self._inbox.put(message)

    def _seconds_to_wait(self) -> float:
        if self._walks:
            return 0.0
        wait = max(0.0, self._next_reconcile - time.monotonic())
        due = self._settling.seconds_to_next()
        if due is not None and len(self._in_flight) < self._most_in_flight:
            wait = min(wait, due)
        return wait

    @property
    def _most_in_flight(self) -> int:
        return _SCANS_PER_WORKER * self._options.workers

    def _watch_events(self) -> None:
        try:
            self._events = FolderEvents(
                self._ingest,
                on_path=lambda path: self._inbox.put(partial(self._hint, path)),
                on_loss=lambda: self._inbox.put(self._reconcile_soon),
            )
        except OSError as error:
            _log.warning(
                "cannot watch for events (%s): files are found by the scan alone", error.strerror
            )

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _reconcile_soon(self) -> None:
        self._next_reconcile = 0.0

    def _hint(self, path: str) -> None:
        """Something happened to a path; only what is there now counts."""
        self._look_at(path.removeprefix(self._ingest).strip("/"))

    # What is in the folder

    def _look_at(self, path: str) -> None:
        info = self._stat(path)
        if info is None:
            return
        if stat.S_ISDIR(info.st_mode):
            self._walks.append(self._listing(path))
        else:
            self._found(path, info, self._journal.known(*os.path.split(path)))

    def _stat(self, path: str) -> os.stat_result | None:
        """What is at a path; None where there is nothing, or it cannot be reached."""
        parent, name = os.path.split(path)
        try:
            with opened_folder(parent, root=self._root) as folder:
                return os.stat(name or ".", dir_fd=folder, follow_symlinks=False)
        except OSError:
            return None

    def _walk(self) -> None:
        """Goes on looking through folders, for a moment."""
        if not self._walks:
            over = time.monotonic() >= self._next_reconcile
            if not over and not (self._left_behind and len(self._settling) < _MOST_WAITING // 2):
                return
            self._left_behind = False
            self._walks.append(self._reconcile())
        try:
            next(self._walks[0])
        except StopIteration:
            self._walks.popleft()

    def _reconcile(self) -> Iterator[None]:
        """Looks at everything below the ingest folder; yields now and then."""
        self._next_reconcile = math.inf
        if self._root_is_there():
            folders, visited = [""], set[str]()
            while folders:
                folder = folders.pop()
                visited.add(folder)
                yield from self._listing(folder, folders)
            self._journal.forget_other_folders(visited)
            self._limit_events(visited)
        # Unless another was asked for in the meantime.
        soon = time.monotonic() + self._options.reconcile
        self._next_reconcile = min(self._next_reconcile, soon)

    def _limit_events(self, visited: Collection[str]) -> None:
        """Does without events where there are more folders than can be watched safely."""
        if self._events is not None and len(visited) > most_folders():
            _log.warning(
                "%d folders are more than can be watched for events (fs.inotify.max_user_watches, "
                "fs.inotify.max_queued_events): files are found by the scan alone",
                len(visited),
            )
            self._close_events()

    def _listing(self, folder: str, below: list[str] | None = None) -> Iterator[None]:
        """Looks at the entries of one folder; collects its folders in ``below``."""
        known = self._journal.known_in(folder)
        try:
            with (
                opened_folder(folder, root=self._root) as descriptor,
                os.scandir(descriptor) as entries,
            ):
                for number, entry in enumerate(entries, 1):
                    self._entry(folder, entry, known, below)
                    if number % _ENTRIES_PER_STEP == 0:
                        yield
        except (FileNotFoundError, NotADirectoryError):
            pass  # it went while the folders were listed
        except OSError as error:
            self._cannot("look into", folder, error)
            return
        self._journal.forget(folder, known)
        yield

    def _entry(
        self,
        folder: str,
        entry: os.DirEntry[str],
        known: dict[str, Known],
        below: list[str] | None,
    ) -> None:
        path = os.path.join(folder, entry.name)
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self._cannot("look at", path, error)
            return
        if not stat.S_ISDIR(info.st_mode):
            self._found(path, info, known.pop(entry.name, None))
        elif below is not None:
            below.append(path)

    def _found(self, path: str, info: os.stat_result, known: Known | None) -> None:
        """A name that is no folder: it begins to settle, unless its outcome is known."""
        identity = identity_of(info)
        if path in self._in_flight or self._is_done(known, identity):
            return
        if not stat.S_ISREG(info.st_mode):
            kind = _KINDS.get(stat.filemode(info.st_mode)[0], "special file")
            self._remember(path, identity, Outcome.SKIPPED)
            self._log_outcome("skipped", path, f"{kind}, not opened")
        elif len(self._settling) < _MOST_WAITING:
            self._settling.note(path, identity)
        else:
            self._left_behind = True

    def _is_done(self, known: Known | None, identity: FileIdentity) -> bool:
        if known is None or not known.is_of(identity):
            return False
        match known.outcome:
            case Outcome.CLEAN:
                return self._delivery is None
            case Outcome.KEPT:
                return self._options.keep_incomplete
            case Outcome.SKIPPED:
                return True

    def _root_is_there(self) -> bool:
        """Whether the folder can be looked at; opened anew where another has its place."""
        try:
            current = os.open(self._ingest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._cannot("look into", "", error)
            return False
        self._root, before = current, self._root
        try:
            if not os.path.samestat(os.fstat(before), os.fstat(current)):
                _log.warning("the ingest folder was replaced: watching the new one")
                self._close_events()
                self._watch_events()
        finally:
            os.close(before)
        return True

    # What is done

    def _take_settled(self) -> None:
        while len(self._in_flight) < self._most_in_flight:
            due = self._settling.pop_due()
            if due is None:
                return
            path, seen = due
            self._attempt(path, seen, self._take)

    def _take(self, path: str, file: ScannedFile) -> None:
        """Hands a file to the pool, if it still is what it was when it began to settle."""
        with file.opened() as descriptor, kept_from_writers(descriptor) as quiet:
            if not quiet:
                self._settling.note(path, file.identity)
                return
        known = self._journal.known(*os.path.split(path))
        if self._is_done(known, file.identity):
            return
        if known is not None and known.is_of(file.identity) and known.outcome is Outcome.CLEAN:
            self._release(path, file)
            return
        self._in_flight[path] = file.identity
        future = self._pool.submit(file.path)
        future.add_done_callback(lambda done: self._inbox.put(partial(self._scanned, path, done)))

    def _scanned(self, path: str, future: Future[Report]) -> None:
        """Acts on a report, if the file still is what the report is about."""
        seen = self._in_flight.pop(path)
        report = future.result()
        self._attempt(path, report.identity or seen, partial(self._act, report))

    def _act(self, report: Report, path: str, file: ScannedFile) -> None:
        if report.verdict is Verdict.CLEAN:
            self._remember(path, file.identity, Outcome.CLEAN)
            self._release(path, file)
        elif report.verdict is Verdict.INCOMPLETE and self._options.keep_incomplete:
            self._remember(path, file.identity, Outcome.KEPT)
            self._log_outcome("incomplete kept", path, "; ".join(report.unexamined))
        else:
            record = self._vault.store(file, report)
            ids = dict.fromkeys(finding.kind.id for finding in report.findings)
            self._log_outcome(f"{report.verdict} quarantined", path, record.id, ",".join(ids))
        # An event that came during the scan was not listened to.
        self._look_at(path)

    def _release(self, path: str, file: ScannedFile) -> None:
        """Lets a clean file go where clean files go."""
        if self._delivery is None:
            self._log_outcome("clean", path)
            return
        self._delivery.deliver(file, path)
        self._occupied.discard(path)
        self._log_outcome("clean delivered", path)

    def _attempt(
        self, path: str, identity: FileIdentity, action: Callable[[str, ScannedFile], None]
    ) -> None:
        """Does something with a file; if that fails it stays, and is found again."""
        parent, name = os.path.split(path)
        try:
            with opened_folder(parent, root=self._root) as folder:
                absolute = os.path.join(self._ingest, path)
                action(
                    path, ScannedFile(folder=folder, name=name, path=absolute, identity=identity)
                )
        except ChangedError:
            self._look_at(path)
        except OccupiedError:
            if path not in self._occupied:
                self._occupied.add(path)
                self._log_outcome("clean kept", path, "its place in the deliver folder is taken")
        except OSError as error:
            if self._stat(path) is not None:
                self._cannot("handle", path, error)

    def _remember(self, path: str, identity: FileIdentity, outcome: Outcome) -> None:
        self._journal.remember(*os.path.split(path), identity, outcome)

    # What is said

    def _what_is_watched(self) -> str:
        options = self._options
        by = "events and" if self._events is not None else "nothing but"
        return (
            f"watching {printable(self._ingest)} by {by} a scan every {options.reconcile:g} s; "
            f"files are taken after {options.settle:g} s of quiet and scanned by "
            f"{options.workers} workers with {self._vault.rules_version}; "
            f"what is found goes to {printable(self._vault.folder)}, files that cannot be "
            f"examined {'stay' if options.keep_incomplete else 'too'}, clean ones "
            f"{'stay' if self._delivery is None else f'go to {printable(self._delivery.folder)}'}"
        )

    def _log_outcome(self, outcome: str, path: str, *details: str) -> None:
        """One line: what became of a file, why and where to; the path last, for it may be long."""
        self._outcomes[outcome] += 1
        told = " ".join(filter(None, details))
        _log.info("%s: %s", printable(f"{outcome} {told}".rstrip()), printable(path))

    def _cannot(self, what: str, path: str, error: OSError) -> None:
        _log.error(
            "cannot %s, tried again within %g s: %s: %s",
            what,
            self._options.reconcile,
            error.strerror,
            printable(path or self._ingest),
        )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
