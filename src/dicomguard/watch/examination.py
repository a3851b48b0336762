"""Which files the workers have, and which of them get a worker only when no other file does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from dicomguard.incomplete import unexamined_report
from dicomguard.model import FileIdentity, Report, Verdict
from dicomguard.watch.backoff import Pause
from dicomguard.watch.journal import Claim, Journal
from dicomguard.watch.scanner import Scanner
from dicomguard.watch.troubles import Troubles
from dicomguard.workers import SECONDS_PER_FILE, PoolBrokenError

_SCANS_PER_WORKER = 4
"""Files handed out at a time: enough that no worker waits for the next."""

_SUSPECT_AFTER = 3
"""Scans that were not survived after which a file is scanned alone."""

_MOST_ATTEMPTS = 6
"""Scans that were not survived after which a file is not scanned any more."""

_PATIENCE = SECONDS_PER_FILE + 60
"""Seconds after which workers that have not answered are replaced: they cap a scan themselves."""

_TROUBLE = "scan workers"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    identity: FileIdentity
    absolute: str
    attempt: int
    """Which attempt to scan this content that this is, from 1."""

    @property
    def is_suspect(self) -> bool:
        return self.attempt > _SUSPECT_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """A file in the hand of a worker, since when, and whose worker it is."""

    taken: _Taken
    scanner: Scanner
    generation: int
    since: float


class Examination:
    """Has files scanned, a few at a time.

    A file that kills its worker costs that worker. One that takes the daemon with it, or all
    workers, would do so again after every restart, so attempts are counted in the journal: a file
    that was in hand at several deaths is scanned alone, which clears the innocent, and if that
    ends in death as well it counts as one that cannot be examined.

    Args:
        scanner: Scans; this object's to close.
        journal: Remembers what is in hand.
        troubles: Told of workers that do not answer.
        post: Calls something in the caller's thread, from any thread.
        done: Called with a path, what was scanned and the report; without a report the file is
            to be looked at anew.
    """

    def __init__(
        self,
        scanner: Scanner,
        *,
        journal: Journal,
        troubles: Troubles,
        post: Callable[[Callable[[], None]], None],
        done: Callable[[str, FileIdentity, Report | None], None],
    ) -> None:
        self.scanner = scanner
        self._journal = journal
        self._troubles = troubles
        self._post = post
        self._done = done
        self._earlier: dict[str, Claim] = {}
        self._suspects: deque[tuple[str, _Taken]] = deque()
        self._claimed: dict[str, _Taken] = {}
        self._scans: dict[str, _Scan] = {}
        self._retired: list[Scanner] = []
        self._pause = Pause()

    def __len__(self) -> int:
        return len(self._suspects) + len(self._claimed) + len(self._scans)

    @property
    def has_room(self) -> bool:
        """Whether another file can be taken now."""
        handed_out = len(self._claimed) + len(self._scans)
        return (
            not self._suspects
            and handed_out < _SCANS_PER_WORKER * self.scanner.workers
            and not self._has_suspect_in_hand
            and not self._pause.seconds_left
        )

    def recall(self, claim: Claim) -> None:
        """Takes into account that a file was in hand when the daemon died."""
        self._earlier[claim.path] = claim

    def take(self, path: str, identity: FileIdentity, absolute: str) -> None:
        """Claims a file for the workers; `hand_out` gives it to them.

        Args:
            path: Relative to the ingest folder.
            identity: What it is.
            absolute: Where the workers find it.
        """
        earlier = self._earlier.pop(path, None)
        attempts = 0
        if earlier is not None and earlier.identity == identity:
            attempts = earlier.attempts
        taken = _Taken(identity=identity, absolute=absolute, attempt=attempts + 1)
        if taken.attempt > _MOST_ATTEMPTS:
            reason = f"{attempts} scans of it ended with the death of the scanner"
            self._done(path, identity, unexamined_report(absolute, reason))
        elif taken.is_suspect:
            self._suspects.append((path, taken))
        else:
            self._claim(path, taken)

    def step(self) -> None:
        """Sees whether the workers answer, and whether it is time for a suspect."""
        oldest = next(iter(self._scans.values()), None)
        if oldest is not None and time.monotonic() - oldest.since > _PATIENCE:
            self._replace_workers(f"no answer for {_PATIENCE} s")
        is_idle = not self._claimed and not self._scans and not self._pause.seconds_left
        if self._suspects and is_idle:
            self._claim(*self._suspects.popleft())

    def hand_out(self) -> None:
        """Gives the workers what was claimed; the claims are in the journal by now."""
        for path, taken in self._claimed.items():
            scan = self._scans[path] = _Scan(
                taken=taken,
                scanner=self.scanner,
                generation=self.scanner.generation,
                since=time.monotonic(),
            )
            future = self.scanner.submit(taken.absolute)
            future.add_done_callback(self._when_done(path, scan))
        self._claimed.clear()

    def adopt(self, scanner: Scanner) -> None:
        """Goes on with another scanner; what the old one has in hand it finishes."""
        self._retired.append(self.scanner)
        self.scanner = scanner
        self._close_retired()

    def close(self) -> None:
        """Stops the workers and gives back what they have."""
        for scanner in (self.scanner, *self._retired):
            scanner.close()
        in_hand = dict(self._suspects) | self._claimed
        in_hand |= {path: scan.taken for path, scan in self._scans.items()}
        for path, taken in in_hand.items():
            if taken.attempt > 1:
                self._journal.claim(path, taken.identity, taken.attempt - 1)
            else:
                self._journal.release(path)

    @property
    def _has_suspect_in_hand(self) -> bool:
        return any(taken.is_suspect for taken in self._claimed.values()) or any(
            scan.taken.is_suspect for scan in self._scans.values()
        )

    def _claim(self, path: str, taken: _Taken) -> None:
        self._journal.claim(path, taken.identity, taken.attempt)
        self._claimed[path] = taken

    def _when_done(self, path: str, scan: _Scan) -> Callable[[Future[Report]], None]:
        return lambda future: self._post(lambda: self._finished(path, scan, future))

    def _finished(self, path: str, scan: _Scan, future: Future[Report]) -> None:
        if self._scans.get(path) is not scan:
            return  # its workers were given up
        try:
            report = future.result()
        except PoolBrokenError as error:
            if (scan.scanner, scan.generation) == (self.scanner, self.scanner.generation):
                self._replace_workers(str(error))
            else:
                self._drop(path)
            return
        del self._scans[path]
        self._pause.end()
        self._troubles.clear(_TROUBLE)
        self._journal.scanned(path)
        self._close_retired()
        # What was clean by other rules than those now in force is scanned again.
        anew = scan.scanner is not self.scanner and report.verdict is Verdict.CLEAN
        self._done(path, scan.taken.identity, None if anew else report)

    def _replace_workers(self, reason: str) -> None:
        """Starts new workers; the files of the old ones are looked at anew."""
        self._troubles.note(_TROUBLE, f"{reason}: they are replaced")
        self._pause.lengthen()
        self.scanner.renew()
        for path in list(self._scans):
            self._drop(path)

    def _drop(self, path: str) -> None:
        """Gives up the scan of a file, which may be the reason why it has to be."""
        taken = self._scans.pop(path).taken
        self._earlier[path] = Claim(path, taken.identity, taken.attempt, time.time())
        self._done(path, taken.identity, None)

    def _close_retired(self) -> None:
        busy = {id(scan.scanner) for scan in self._scans.values()}
        for scanner in [scanner for scanner in self._retired if id(scanner) not in busy]:
            self._retired.remove(scanner)
            scanner.close()
