"""What is said of what could not be examined: it is never called clean."""

from __future__ import annotations

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

INCOMPLETE = FindingKind(
    id="SCAN-INCOMPLETE",
    title="Not all of the file could be examined",
    category=Category.INVENTORY,
    severity=Severity.LOW,
    confidence=Confidence.CONFIRMED,
    why="What was not examined is never called clean. Hold the file and look at the reason.",
)


def incomplete_finding(reason: str, size: int) -> Finding:
    """The finding for a limit that was reached, or an error, in a file of ``size`` bytes."""
    place = Place(region=Region.GAP, offset=0, length=size)
    return Finding(kind=INCOMPLETE, place=place, detail=reason)


def unexamined_report(path: str, reason: str) -> Report:
    """The report of a file that could not be examined at all."""
    return Report(
        path=path,
        size=0,
        verdict=Verdict.INCOMPLETE,
        findings=(incomplete_finding(reason, 0),),
        unexamined=(reason,),
    )
