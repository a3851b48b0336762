"""The loop that owns everything the daemon knows: find, let settle, have scanned, act, say so.

One thread decides; the threads of watchdog, the scan pool and the lanes only leave calls in its
inbox. The folder itself is the queue: of a burst only so much is in memory as is being worked on,
and the next scan of the folder finds the rest. What could not be done (a full disk, a missing
permission) is tried again.

Each turn of the loop commits the journal. Only then are files handed to workers, and outcomes
announced: what the daemon said, no crash takes back.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType
from typing import NamedTuple

from dicomguard.config import WatchConfig
from dicomguard.errors import DicomguardError
from dicomguard.files import ChangedError, identity_of
from dicomguard.model import FileIdentity, Report, Verdict
from dicomguard.quarantine import Record
from dicomguard.reports.escape import printable
from dicomguard.version import VERSION
from dicomguard.watch import sdnotify
from dicomguard.watch.announce import Announcement, Announcer
from dicomguard.watch.backoff import SetAside
from dicomguard.watch.deliver import Delivery, OccupiedError
from dicomguard.watch.examination import Examination
from dicomguard.watch.hook import QuarantineHook
from dicomguard.watch.ingest import Ingest
from dicomguard.watch.journal import Claim, Journal, JournalError, Known, Outcome
from dicomguard.watch.lanes import Lane
from dicomguard.watch.logs import path_shower
from dicomguard.watch.metrics import Metrics
from dicomguard.watch.quarantine import Quarantine
from dicomguard.watch.scanner import Scanner
from dicomguard.watch.settle import Settling, kept_from_writers
from dicomguard.watch.troubles import Troubles

_MOST_WAITING = 20_000
"""Files that may wait to settle; more are left in the folder until these are through."""

_MESSAGES_PER_STEP = 1000

_LONGEST_WAIT = 5.0
"""Seconds after which the loop turns though nothing happened, to see whether all is well."""

_DELIVERY_THREADS = 4

_FIRST_PAUSE = 1.0
_LAST_PAUSE = 60.0
"""Seconds until a journal that cannot be written is tried again; each time twice as long."""

_LONGEST_SILENCE = 60.0
"""Seconds without a turn of the loop after which the daemon is not healthy."""

_HOUSEKEEPING = 60.0
_SECONDS_PER_DAY = 86_400

_KINDS = {"l": "symbolic link", "p": "FIFO", "s": "socket", "b": "device", "c": "device"}
"""What is not opened, by the first letter of ``ls -l``."""

_log = logging.getLogger(__name__)

Reload = Callable[[], tuple[WatchConfig, Scanner]]
"""Reads the settings again, in a thread of its own; raises `DicomguardError` if they are wrong."""


class _Job(NamedTuple):
    """A file that was scanned, and what was found."""

    path: str
    identity: FileIdentity
    report: Report
    passes_as: str = ""
    """Why it may go where clean files go; empty for a file that may not."""


class WatchService:
    """Watches one ingest folder until it is told to stop.

    Args:
        ingest: The folder, absolute and without symbolic links.
        config: How to work.
        scanner: Scans files; the service closes it.
        quarantine: Takes what must not stay.
        journal: Remembers what is in hand, what stays and what was done.
        delivery: Takes what is clean; None where that stays.
        reload: Called on SIGHUP.

    Raises:
        OSError: The ingest folder cannot be opened.
    """

    def __init__(
        self,
        ingest: str,
        config: WatchConfig,
        *,
        scanner: Scanner,
        quarantine: Quarantine,
        journal: Journal,
        delivery: Delivery | None,
        reload: Reload,
    ) -> None:
        self._config = config
        self._quarantine = quarantine
        quarantine.rules_version = scanner.rules_version
        journal.limit_to(scope_of(ingest, scanner))
        self._journal = journal
        self._delivery = delivery
        self._reload = reload
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        post = self._inbox.put
        self._troubles = Troubles(path_shower(whole=config.log_paths))
        self._settling = Settling(config.settle)
        self._in_hand: set[str] = set()
        self._aside = SetAside(config.reconcile)
        self._examination = Examination(
            scanner, journal=journal, troubles=self._troubles, post=post, done=self._examined
        )
        self._hook = QuarantineHook(config.on_quarantine, config.on_quarantine_timeout)
        self._metrics = Metrics(self._ailments, self._gauges())
        self._announcer = Announcer(self._troubles, self._metrics, self._hook)
        self._storing = Lane(
            "quarantine",
            self._store,
            post=post,
            done=self._stored,
            troubles=self._troubles,
            reopen=self._reopen_quarantine,
        )
        self._delivering = Lane(
            "delivery",
            self._deliver,
            post=post,
            done=self._delivered,
            troubles=self._troubles,
            reopen=self._reopen_delivery,
            threads=_DELIVERY_THREADS,
        )
        self._lanes = (self._storing, self._delivering)
        self._journal_pause = 0.0
        self._journal_retry_at = 0.0
        self._preparing: Thread | None = None
        self._reload_again = False
        self._stopping = False
        self._watchdog = sdnotify.Watchdog()
        self._turned_at = time.monotonic()
        self._housekeep_at = 0.0
        self._journal_bytes = 0
        self._journal_age = 0.0
        self._ingest = Ingest(
            ingest,
            config,
            journal=journal,
            troubles=self._troubles,
            found=self._found,
            wake=lambda: post(_nothing),
        )

    def run(self) -> None:
        """Works until `stop` is called or SIGTERM or SIGINT comes; finishes what is in its hand.

        What is still being scanned then is left in the folder for the next start.

        Raises:
            DicomguardError: The metrics cannot be served.
        """
        stop_serving = None
        try:
            with self._signals():
                if self._config.metrics:
                    stop_serving = self._metrics.serve(self._config.metrics)
                self._resolve_claims()
                _log.info("%s", self._what_is_watched())
                sdnotify.notify("READY=1")
                while not self._stopping:
                    self._turn()
        finally:
            sdnotify.notify("STOPPING=1")
            self._finish()
            if stop_serving is not None:
                stop_serving()
            _log.info("stopped; %s", self._announcer.summary() or "nothing was done")

    def stop(self) -> None:
        """Makes `run` return; may be called from any thread and from a signal handler."""
        self._stopping = True
        self._inbox.put(_nothing)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            # At once, so that the death of a worker in the same process group, which the same
            # signal may have caused, is not taken for what a file did.
            self.stop()

        def reload(_number: int, _frame: FrameType | None) -> None:
            self._inbox.put(self._begin_reload)

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
        before = {number: signal.signal(number, each) for number, each in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # The loop

    def _turn(self) -> None:
        self._receive()
        if self._stopping:
            return
        self._turned_at = time.monotonic()
        if not self._journal_pause:
            self._ingest.step()
            self._take_settled()
            self._examination.step()
            self._housekeep()
        for lane in self._lanes:
            lane.start()
        self._commit()
        self._watchdog.tick()

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
        waits = [
            _LONGEST_WAIT,
            self._watchdog.interval / 2,
            *(lane.seconds_to_next() for lane in self._lanes),
        ]
        if self._journal_pause:
            waits.append(self._journal_retry_at - time.monotonic())
        else:
            waits.append(self._ingest.seconds_to_next_step())
            if self._has_room:
                waits.append(self._settling.seconds_to_next())
        return max(0.0, min(wait for wait in waits if wait is not None))

    def _commit(self) -> None:
        """Makes durable what was decided, and only then hands out files and says anything."""
        if self._journal_pause and time.monotonic() < self._journal_retry_at:
            return
        try:
            self._journal.commit()
        except JournalError as error:
            self._journal_pause = min(max(_FIRST_PAUSE, 2 * self._journal_pause), _LAST_PAUSE)
            self._journal_retry_at = time.monotonic() + self._journal_pause
            self._troubles.note("journal", f"no file is taken until it can be written: {error}")
            return
        self._journal_pause = 0.0
        self._troubles.clear("journal")
        self._announcer.flush()
        if not self._stopping:
            self._examination.hand_out()

    # What is found

    def _found(self, path: str, info: os.stat_result, known: Known | None) -> bool:
        """A name that is no folder: it begins to settle, unless it is dealt with."""
        identity = identity_of(info)
        if (
            path in self._in_hand
            or self._is_done(known, identity)
            or self._aside.holds(path, identity)
        ):
            return True
        if not stat.S_ISREG(info.st_mode):
            kind = _KINDS.get(stat.filemode(info.st_mode)[0], "special file")
            self._journal.remember(path, identity, Outcome.SKIPPED)
            self._announcer.add(Announcement("skipped", path, identity, f"{kind}, not opened"))
            return True
        if len(self._settling) >= _MOST_WAITING:
            return False
        self._settling.note(path, identity)
        return True

    def _is_done(self, known: Known | None, identity: FileIdentity) -> bool:
        if known is None or not known.is_of(identity):
            return False
        match known.outcome:
            case Outcome.CLEAN:
                return self._delivery is None
            case Outcome.KEPT:
                return self._config.on_incomplete == "keep"
            case Outcome.SKIPPED:
                return True

    @property
    def _has_room(self) -> bool:
        return self._examination.has_room and not any(lane.is_full for lane in self._lanes)

    def _take_settled(self) -> None:
        while self._has_room and (due := self._settling.pop_due()) is not None:
            self._take(*due)
        if self._ingest.left_behind and len(self._settling) < _MOST_WAITING // 2:
            self._ingest.scan_soon()

    def _take(self, path: str, seen: FileIdentity) -> None:
        """Has a file scanned, if it still is what it was when it began to settle."""
        try:
            with (
                self._ingest.file(path, seen) as file,
                file.opened() as descriptor,
                kept_from_writers(descriptor) as guard,
            ):
                if not guard.quiet:
                    self._settling.note(path, seen)
                    return
                absolute = file.path
        except ChangedError:
            self._ingest.look_at(path)
            return
        except OSError as error:
            self._failed("cannot open a file", path, seen, error)
            return
        known = self._journal.known(path)
        if path in self._in_hand or self._is_done(known, seen):
            return
        self._in_hand.add(path)
        if known is not None and known.is_of(seen) and known.outcome is Outcome.CLEAN:
            report = Report(path=absolute, size=seen.size, verdict=Verdict.CLEAN)
            self._pass(_Job(path, seen, report, "clean"))
        else:
            self._examination.take(path, seen, absolute)

    # What is decided

    def _examined(self, path: str, seen: FileIdentity, report: Report | None) -> None:
        """Decides what becomes of a file; it may not be what it was any more."""
        if self._stopping or report is None or report.identity not in (None, seen):
            self._let_go(path)
        elif report.verdict is Verdict.CLEAN:
            self._pass(_Job(path, seen, report, "clean"))
        elif report.verdict is not Verdict.INCOMPLETE or self._config.on_incomplete == "quarantine":
            self._storing.put(_Job(path, seen, report))
        elif self._config.on_incomplete == "deliver":
            self._pass(_Job(path, seen, report, "incomplete"))
        else:
            self._stays(_Job(path, seen, report, "incomplete kept"), Outcome.KEPT)

    def _pass(self, job: _Job) -> None:
        """Lets a file go where clean files go."""
        if self._delivery is None:
            self._stays(job, Outcome.CLEAN)
        else:
            self._delivering.put(job)

    def _stays(self, job: _Job, outcome: Outcome) -> None:
        self._journal.remember(job.path, job.identity, outcome)
        self._announce(job.passes_as, job)

    # What is done, in the threads of the lanes

    def _store(self, job: _Job) -> Record | None:
        with self._ingest.file(job.path, job.identity) as file:
            return self._quarantine.store(file, job.report)

    def _deliver(self, job: _Job) -> None:
        if self._delivery is not None:
            with self._ingest.file(job.path, job.identity) as file:
                self._delivery.deliver(file, job.path)

    def _reopen_quarantine(self) -> None:
        self._quarantine.reopen()

    def _reopen_delivery(self) -> None:
        if self._delivery is not None:
            self._delivery.reopen()

    # What was done

    def _stored(self, job: _Job, result: object) -> None:
        match result:
            case Record():
                outcome = f"{job.report.verdict} quarantined"
                self._journal.acted(job.path, outcome, result.id)
                self._announce(outcome, job, result)
            case None:
                self._pass(job._replace(passes_as="allowed"))
            case _:
                self._not_done("cannot quarantine a file", job, result)

    def _delivered(self, job: _Job, result: object) -> None:
        match result:
            case None:
                outcome = f"{job.passes_as} delivered"
                self._journal.acted(job.path, outcome, "")
                self._announce(outcome, job)
            case OccupiedError():
                self._occupied(job)
            case _:
                self._not_done("cannot deliver a file", job, result)

    def _occupied(self, job: _Job) -> None:
        if job.passes_as == "clean":
            # Known from now on, so that it is not scanned again before each attempt.
            self._journal.remember(job.path, job.identity, Outcome.CLEAN)
        else:
            self._journal.release(job.path)
        self._in_hand.discard(job.path)
        if self._aside.put(job.path, job.identity):
            detail = "its place in the deliver folder is taken"
            self._announcer.add(
                Announcement(f"{job.passes_as} kept", job.path, job.identity, detail, job.report)
            )

    def _not_done(self, what: str, job: _Job, result: object) -> None:
        """A lane could not do its work, and the file is to blame."""
        if isinstance(result, ChangedError):
            self._let_go(job.path)
        elif isinstance(result, OSError):
            self._failed(what, job.path, job.identity, result)
        else:
            defect = result if isinstance(result, Exception) else None
            _log.error("%s, by a defect of dicomguard", what, exc_info=defect)
            self._failed(what, job.path, job.identity, OSError(errno.EIO, "a defect"))

    def _failed(self, what: str, path: str, identity: FileIdentity, error: OSError) -> None:
        """Leaves a file alone for a while, if it is still there."""
        self._in_hand.discard(path)
        self._journal.release(path)
        if self._ingest.stat(path) is not None:
            self._aside.put(path, identity)
            self._troubles.note_file(what, path, error)

    def _let_go(self, path: str) -> None:
        """Has a file looked at anew: it may be another by now."""
        self._in_hand.discard(path)
        self._journal.release(path)
        if not self._stopping:
            self._ingest.look_at(path)

    def _announce(self, outcome: str, job: _Job, record: Record | None = None) -> None:
        detail = ""
        if record is not None:
            ids = dict.fromkeys(finding.kind.id for finding in job.report.findings)
            detail = f"{record.id} {','.join(ids)}"
        elif job.passes_as.startswith("incomplete"):
            detail = "; ".join(job.report.unexamined)
        self._announcer.add(
            Announcement(outcome, job.path, job.identity, detail, job.report, record)
        )
        self._aside.take_back(job.path)
        self._in_hand.discard(job.path)
        # An event that came meanwhile was not listened to.
        self._ingest.look_at(job.path)

    # After a crash, and at the end

    def _resolve_claims(self) -> None:
        """Finds out what became of the files that were in hand when the daemon died."""
        gone = []
        for claim in self._journal.claims():
            if claim.is_at(self._ingest.stat(claim.path)):
                self._examination.recall(claim)
            else:
                gone.append(claim)
        if not gone:
            return
        records = self._quarantine.records_since(gone[0].at)
        for claim in gone:
            absolute = os.path.join(self._ingest.path, claim.path)
            for record in records.get(absolute, ()):
                if record.identity == claim.identity:
                    self._resolved(claim, f"{record.verdict} quarantined", record)
                    break
            else:
                if self._delivery and claim.is_moved_to(self._delivery.find(claim.path)):
                    self._resolved(claim, "clean delivered")
                else:
                    self._journal.release(claim.path)

    def _resolved(self, claim: Claim, outcome: str, record: Record | None = None) -> None:
        """Announces what a predecessor had no time to."""
        self._journal.acted(claim.path, outcome, record.id if record else "")
        detail = f"{record.id} before the restart" if record else "before the restart"
        self._announcer.add(
            Announcement(outcome, claim.path, claim.identity, detail, record=record)
        )

    def _finish(self) -> None:
        """Finishes what is being done, and gives back the rest."""
        for lane in self._lanes:
            for job in lane.close():
                self._journal.release(job.path)
        if self._preparing is not None:
            self._preparing.join()
        with suppress(Empty):
            while True:
                self._inbox.get_nowait()()
        self._examination.close()
        self._commit()
        self._hook.close()
        self._ingest.close()

    # New settings

    def _begin_reload(self) -> None:
        if self._preparing is not None:
            self._reload_again = True
            return
        _log.info("reading the configuration and the rules again")
        sdnotify.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._preparing = Thread(target=self._prepare, name="reload")
        self._preparing.start()

    def _prepare(self) -> None:
        """In a thread of its own: rules take a while to compile and to be proven."""
        try:
            config, scanner = self._reload()
        except DicomguardError as error:
            reason = str(error)
            self._inbox.put(lambda: self._reloaded(reason))
        else:
            self._inbox.put(lambda: self._adopt(config, scanner))

    def _adopt(self, config: WatchConfig, scanner: Scanner) -> None:
        if self._stopping:
            scanner.close()
            return
        self._config = config
        self._settling.quiet = config.settle
        self._ingest.configure(config)
        self._hook.configure(config.on_quarantine, config.on_quarantine_timeout)
        self._troubles.show_path = path_shower(whole=config.log_paths)
        self._quarantine.rules_version = scanner.rules_version
        self._journal.limit_to(scope_of(self._ingest.path, scanner))
        self._examination.adopt(scanner)
        self._ingest.scan_soon()
        self._reloaded("")

    def _reloaded(self, problem: str) -> None:
        self._preparing = None
        if problem:
            self._troubles.note("reload", f"the settings from before stay in force: {problem}")
        else:
            self._troubles.clear("reload")
            _log.info("reloaded; %s", self._what_is_watched())
        sdnotify.notify("READY=1")
        if self._reload_again:
            self._reload_again = False
            self._begin_reload()

    # What is said of the daemon

    def _what_is_watched(self) -> str:
        config, scanner = self._config, self._examination.scanner
        without = self._ingest.without_events
        by = f"nothing but a scan ({without})" if without else "events and a scan"
        incomplete = {"quarantine": "go there too", "keep": "stay", "deliver": "pass"}
        return (
            f"watching {printable(self._ingest.path)} by {by} every {config.reconcile:g} s; "
            f"files are taken after {config.settle:g} s of quiet and scanned by "
            f"{scanner.workers} workers with {scanner.rules_version}; "
            f"what is found goes to {printable(str(self._quarantine.folder))}, "
            f"files that cannot be examined {incomplete[config.on_incomplete]}, clean ones "
            f"{'stay' if self._delivery is None else f'go to {printable(self._delivery.folder)}'}"
        )

    def _ailments(self) -> dict[str, str]:
        """What is wrong; called from any thread."""
        ailments = self._troubles.ailments
        silent = time.monotonic() - self._turned_at
        if silent > _LONGEST_SILENCE:
            ailments["main loop"] = f"nothing heard of it for {silent:.0f} s"
        return ailments

    def _gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        return {
            "files_settling": (
                "Files that wait to be left alone by their writers.",
                lambda: len(self._settling),
            ),
            "files_scanning": ("Files in the hands of workers.", lambda: len(self._examination)),
            "files_storing": ("Files that wait for the quarantine.", lambda: len(self._storing)),
            "files_delivering": (
                "Files that wait for the deliver folder.",
                lambda: len(self._delivering),
            ),
            "files_set_aside": (
                "Files that something could not be done with, to be tried again.",
                lambda: len(self._aside),
            ),
            "files_unfinished": (
                "Files with names of unfinished uploads, as of the last scan.",
                lambda: self._ingest.unfinished,
            ),
            "scan_seconds": (
                "Time the last scan of the folder took.",
                lambda: self._ingest.scan_seconds,
            ),
            "journal_bytes": ("Size of the journal.", lambda: self._journal_bytes),
            "journal_age_seconds": (
                "Age of the oldest file that was acted upon in the journal.",
                lambda: self._journal_age,
            ),
        }

    def _housekeep(self) -> None:
        """Keeps the journal small, and its figures fresh, now and then."""
        if time.monotonic() < self._housekeep_at:
            return
        self._housekeep_at = time.monotonic() + _HOUSEKEEPING
        now = time.time()
        self._journal.prune(now - self._config.journal_days * _SECONDS_PER_DAY)
        self._journal_bytes = self._journal.size()
        self._journal_age = now - (self._journal.oldest() or now)


def scope_of(ingest: str, scanner: Scanner) -> str:
    """What the journal's outcomes hold for: a file that stays would be scanned alike."""
    return ascii((ingest, VERSION, scanner.rules_version, scanner.config.strict))


def _nothing() -> None:
    """Wakes the loop."""
