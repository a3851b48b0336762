"""Studies of which a file was quarantined: what comes of them soon after is held with it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from msgspec.structs import replace

from dicomguard.model import (
    Category,
    Confidence,
    Finding,
    FindingKind,
    Place,
    Region,
    Report,
    Severity,
    Verdict,
)

HELD = FindingKind(
    id="STUDY-HELD",
    title="Held with its study",
    category=Category.INVENTORY,
    severity=Severity.INFO,
    confidence=Confidence.CONFIRMED,
    why="Nothing was found in this file, but another file of its study was quarantined shortly "
    "before. Look at that one, then release them together.",
)

_MOST = 10_000
"""Studies that are remembered; the one that was noted first is forgotten."""


class HeldStudies:
    """The studies that are held, each for a while.

    Args:
        seconds: For how long; 0 for not at all.
        clock: Seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def note(self, report: Report) -> None:
        """Holds the study of a file that goes to the quarantine, if something was found in it."""
        study = report.instance.study_instance_uid
        if self.seconds and study and report.verdict > Verdict.INCOMPLETE:
            self._until[study] = self._clock() + self.seconds
            self._until.move_to_end(study)
            if len(self._until) > _MOST:
                self._until.popitem(last=False)

    def holds(self, report: Report) -> bool:
        """Whether a file is of a study that is held now."""
        return self._clock() < self._until.get(report.instance.study_instance_uid, 0.0)


def held(report: Report) -> Report:
    """The report of a file that is held, with the reason among its findings."""
    place = Place(region=Region.DATASET, offset=0, length=report.size)
    return replace(report, findings=(*report.findings, Finding(kind=HELD, place=place)))
