"""What becomes of a file: found, settled, scanned, decided, done, said.

The folder itself is the queue: of a burst only so much is in memory as is being worked on, and the
next scan of the folder finds the rest. So nothing has to be saved when the daemon stops, and what
could not be done is tried again.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from dicomguard.config import WatchConfig
from dicomguard.files import ChangedError, identity_of
from dicomguard.model import FileIdentity, Report, Verdict
from dicomguard.quarantine import Record
from dicomguard.version import VERSION
from dicomguard.watch.announce import Announcement, Announcer
from dicomguard.watch.backoff import SetAside
from dicomguard.watch.deliver import Delivery, OccupiedError
from dicomguard.watch.examination import Examination
from dicomguard.watch.ingest import Ingest
from dicomguard.watch.journal import Claim, Journal, Known, Outcome
from dicomguard.watch.lanes import Lane
from dicomguard.watch.quarantine import Quarantine
from dicomguard.watch.scanner import Scanner
from dicomguard.watch.settle import Settling, kept_from_writers
from dicomguard.watch.studies import HeldStudies, held
from dicomguard.watch.troubles import Troubles

_MOST_WAITING = 20_000
"""Files that may wait to settle; more are left in the folder until these are through."""

_DELIVERY_THREADS = 4

_GIB = 1 << 30

_KINDS = {"l": "symbolic link", "p": "FIFO", "s": "socket", "b": "device", "c": "device"}
"""What is not opened, by the first letter of ``ls -l``."""

_log = logging.getLogger(__name__)


class _Job(NamedTuple):
    """A file that was scanned, and what was found."""

    path: str
    identity: FileIdentity
    report: Report
    passes_as: str = ""
    """Why it may go where clean files go; empty for a file that may not."""


class Pipeline:
    """Takes every file of an ingest folder to its one outcome.

    Everything happens in the thread that calls the methods; what takes long is done in others,
    which post what comes of it.

    Args:
        path: The ingest folder, absolute and without symbolic links.
        config: How to work.
        scanner: Scans files; the pipeline closes it.
        quarantine: Takes what must not stay.
        journal: Remembers what is in hand, what stays and what was done.
        delivery: Takes what is clean; None where that stays.
        troubles: Told of what does not work.
        announcer: Told of what was done.
        post: Calls something in the thread of the caller, from any thread.

    Raises:
        OSError: The ingest folder cannot be opened.
    """

    def __init__(
        self,
        path: str,
        config: WatchConfig,
        *,
        scanner: Scanner,
        quarantine: Quarantine,
        journal: Journal,
        delivery: Delivery | None,
        troubles: Troubles,
        announcer: Announcer,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._config = config
        self._quarantine = quarantine
        self._journal = journal
        self._delivery = delivery
        self._troubles = troubles
        self._announcer = announcer
        self._stopping = False
        self.settling = Settling(config.settle)
        self.aside = SetAside(config.reconcile)
        self._in_hand: set[str] = set()
        self._studies = HeldStudies(config.hold_study)
        self.examination = Examination(
            scanner, journal=journal, troubles=troubles, post=post, done=self._examined
        )
        self.storing = Lane(
            "quarantine",
            self._store,
            post=post,
            done=self._stored,
            troubles=troubles,
            reopen=self._reopen_quarantine,
        )
        self.delivering = Lane(
            "delivery",
            self._deliver,
            post=post,
            done=self._delivered,
            troubles=troubles,
            reopen=self._reopen_delivery,
            threads=_DELIVERY_THREADS,
        )
        self._lanes = (self.storing, self.delivering)
        self.ingest = Ingest(
            path,
            config,
            journal=journal,
            troubles=troubles,
            found=self._found,
            wake=lambda: post(_nothing),
        )
        self._set_rules(scanner)

    def adopt(self, config: WatchConfig, scanner: Scanner) -> None:
        """Goes on with other settings and rules."""
        self._config = config
        self.settling.quiet = config.settle
        self._studies.seconds = config.hold_study
        self.ingest.configure(config)
        self.examination.adopt(scanner)
        self._set_rules(scanner)
        self.ingest.scan_soon()

    def take_files(self) -> None:
        """Looks for files, and has those scanned that have settled."""
        self.ingest.step()
        while self._has_room and (due := self.settling.pop_due()) is not None:
            self._take(*due)
        if self.ingest.left_behind and len(self.settling) < _MOST_WAITING // 2:
            self.ingest.scan_soon()
        self.examination.step()

    def act(self) -> None:
        """Has done what was decided."""
        for lane in self._lanes:
            lane.start()

    def seconds_to_wait(self, *, taking: bool) -> float | None:
        """Until there is something to do, at least 0; None if that takes an event.

        Args:
            taking: Whether that may be to take files.
        """
        waits = [lane.seconds_to_next() for lane in self._lanes]
        if taking:
            waits.append(self.ingest.seconds_to_next_step())
            if self._has_room:
                waits.append(self.settling.seconds_to_next())
        return min((wait for wait in waits if wait is not None), default=None)

    def stop(self) -> None:
        """Waits for what is being done; then what was posted is to be called, and `close`."""
        self._stopping = True
        for lane in self._lanes:
            for job in lane.close():
                self._journal.release(job.path)

    def close(self) -> None:
        """Stops the workers, gives back what they have and lets go of the folder."""
        self.examination.close()
        self.ingest.close()

    # What is found

    def _found(self, path: str, info: os.stat_result, known: Known | None) -> bool:
        """A name that is no folder: it begins to settle, unless it is dealt with."""
        identity = identity_of(info)
        if (
            path in self._in_hand
            or self._is_done(known, identity)
            or self.aside.holds(path, identity)
        ):
            return True
        if not stat.S_ISREG(info.st_mode):
            kind = _KINDS.get(stat.filemode(info.st_mode)[0], "special file")
            self._journal.remember(path, identity, Outcome.SKIPPED)
            self._announcer.add(Announcement("skipped", path, identity, f"{kind}, not opened"))
            return True
        if self._is_too_large(identity):
            self._journal.remember(path, identity, Outcome.TOO_LARGE)
            detail = f"it is larger than {self._config.largest:g} GiB, not opened"
            self._announcer.add(Announcement("incomplete kept", path, identity, detail))
            return True
        if len(self.settling) >= _MOST_WAITING:
            return False
        self.settling.note(path, identity)
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
            case Outcome.TOO_LARGE:
                return self._is_too_large(identity)

    def _is_too_large(self, identity: FileIdentity) -> bool:
        return identity.size > self._config.largest * _GIB

    @property
    def _has_room(self) -> bool:
        return self.examination.has_room and not any(lane.is_full for lane in self._lanes)

    def _take(self, path: str, seen: FileIdentity) -> None:
        """Has a file scanned, if it still is what it was when it began to settle."""
        try:
            with (
                self.ingest.file(path, seen) as file,
                file.opened() as descriptor,
                kept_from_writers(descriptor) as guard,
            ):
                if not guard.quiet:
                    self.settling.note(path, seen)
                    return
                absolute = file.path
        except ChangedError:
            self.ingest.look_at(path)
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
            self.examination.take(path, seen, absolute)

    # What is decided

    def _examined(self, path: str, seen: FileIdentity, report: Report | None) -> None:
        """Decides what becomes of a file; it may not be what it was any more."""
        if self._stopping or report is None or report.identity not in (None, seen):
            self._let_go(path)
        elif report.verdict <= Verdict.INCOMPLETE and self._studies.holds(report):
            self.storing.put(_Job(path, seen, held(report)))
        elif report.verdict is Verdict.CLEAN:
            self._pass(_Job(path, seen, report, "clean"))
        elif report.verdict is not Verdict.INCOMPLETE or self._config.on_incomplete == "quarantine":
            self._studies.note(report)
            self.storing.put(_Job(path, seen, report))
        elif self._config.on_incomplete == "deliver":
            self._pass(_Job(path, seen, report, "incomplete"))
        else:
            self._stays(_Job(path, seen, report, "incomplete kept"), Outcome.KEPT)

    def _pass(self, job: _Job) -> None:
        """Lets a file go where clean files go."""
        if self._delivery is None:
            self._stays(job, Outcome.CLEAN)
        else:
            self.delivering.put(job)

    def _stays(self, job: _Job, outcome: Outcome) -> None:
        self._journal.remember(job.path, job.identity, outcome)
        self._announce(job.passes_as, job)

    # What is done, in the threads of the lanes

    def _store(self, job: _Job) -> Record | None:
        with self.ingest.file(job.path, job.identity) as file:
            return self._quarantine.store(file, job.report)

    def _deliver(self, job: _Job) -> None:
        if self._delivery is not None:
            with self.ingest.file(job.path, job.identity) as file:
                self._delivery.deliver(file, job.path, job.report.sha256)

    def _reopen_quarantine(self) -> None:
        self._quarantine.reopen()

    def _reopen_delivery(self) -> None:
        if self._delivery is not None:
            self._delivery.reopen()

    # What was done

    def _stored(self, job: _Job, result: object) -> None:
        match result:
            case Record():
                found = job.report.verdict
                outcome = f"{'held' if found is Verdict.CLEAN else found} quarantined"
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
        if self.aside.put(job.path, job.identity):
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
        if self.ingest.stat(path) is not None:
            self.aside.put(path, identity)
            self._troubles.note_file(what, path, error)

    def _let_go(self, path: str) -> None:
        """Has a file looked at anew: it may be another by now."""
        self._in_hand.discard(path)
        self._journal.release(path)
        if not self._stopping:
            self.ingest.look_at(path)

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
        self.aside.take_back(job.path)
        self._in_hand.discard(job.path)
        # An event that came meanwhile was not listened to.
        self.ingest.look_at(job.path)

    # After a crash, and at the end

    def resolve_claims(self) -> None:
        """Finds out what became of the files that were in hand when the daemon died."""
        gone = []
        for claim in self._journal.claims():
            with suppress(OSError), self.ingest.file(claim.path, claim.identity) as file:
                file.give_back()
            if claim.is_at(self.ingest.stat(claim.path)):
                self.examination.recall(claim)
            else:
                gone.append(claim)
        if not gone:
            return
        records = self._quarantine.records_since(gone[0].at)
        for claim in gone:
            absolute = os.path.join(self.ingest.path, claim.path)
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

    def _set_rules(self, scanner: Scanner) -> None:
        self._quarantine.rules_version = scanner.rules_version
        # A file that stays is known as long as it would be scanned alike.
        scope = (
            self.ingest.path,
            VERSION,
            scanner.rules_version,
            scanner.config.strict,
            scanner.suppressions.version,
        )
        self._journal.limit_to(ascii(scope))


def _nothing() -> None:
    """Wakes the loop."""
