"""One run over many files: reports as they are made, or in order of name, in steady memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Self

from dicomguard.discover import Candidate
from dicomguard.incomplete import unexamined_report
from dicomguard.ledger import Ledgers
from dicomguard.model import Report
from dicomguard.nursery import Nursery, Ready
from dicomguard.settings import ScanSettings
from dicomguard.workers import Crew, Task

_HELD = 10_000
"""Reports that wait for an earlier one before no more files are handed out."""
_SECONDS = 60.0
_END = -1, None
_REPORTED_BEFORE = "file reported by the run before"


class Batch:
    """Scans candidates; its workers get ready from the start.

    Args:
        settings: Rules and limits.
        workers: Number of processes.
        ordered: Whether reports come in the order of the candidates.
        before: What an earlier run has reported already.
        nursery: What starts the workers, if there is one already.
        lone: Whether there is but one candidate.

    Attributes:
        skipped: How many candidates were no files to scan, by what they were.

    Raises:
        DicomguardError: There can be no workers.
    """

    def __init__(
        self,
        settings: ScanSettings,
        workers: int,
        *,
        ordered: bool = False,
        before: Ledgers | None = None,
        nursery: Nursery | None = None,
        lone: bool = False,
    ) -> None:
        self._crew = Crew(settings, workers, nursery, lone=lone)
        self._ordered = ordered
        self._before = before
        self.skipped: Counter[str] = Counter()
        self._following = 0
        """The candidate whose report comes next in order."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """End the workers."""
        self._crew.close()

    def ready(self) -> Ready:
        """What the workers use; waits until it is loaded.

        Raises:
            DicomguardError: The rules cannot be loaded, or there can be no workers.
        """
        return self._crew.ready()

    def reports(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Report]]:
        """The report of every candidate that is not skipped.

        Raises:
            DicomguardError: The rules cannot be loaded, or there are no workers any more.
        """
        made = self._made(candidates)
        if not self._ordered:
            yield from ((candidate, report) for _, candidate, report in made)
            return
        held: dict[int, tuple[Candidate, Report]] = {}
        for number, candidate, report in made:
            held[number] = candidate, report
            while self._following in held:
                yield held.pop(self._following)
                self._following += 1

    def _made(self, candidates: Iterable[Candidate]) -> Iterator[tuple[int, Candidate, Report]]:
        """Reports as they come, each with its candidate's number."""
        numbered = enumerate(each for each in candidates if not self._is_skipped(each))
        last = -1
        crew = self._crew
        is_last = False
        while True:
            while crew.wants_more and not (self._ordered and last - self._following > _HELD):
                number, candidate = next(numbered, _END)
                if candidate is None:
                    is_last = True
                    break
                last = number
                if candidate.problem:
                    yield number, candidate, unexamined_report(candidate.path, candidate.problem)
                else:
                    crew.hand_out([Task(candidate.path, candidate.size, (number, candidate))])
            if crew.is_idle:
                return
            for task, report in crew.reports(_SECONDS, is_last=is_last):
                yield *task.key, report

    def _is_skipped(self, candidate: Candidate) -> bool:
        reason = candidate.skipped
        if not reason and self._before is not None and self._before.has(candidate):
            reason = _REPORTED_BEFORE
        if reason:
            self.skipped[reason] += 1
        return bool(reason)
