"""What a benchmark file declares: its bytes, what hides in it, and what counts as found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dicomguard.model import Place, Report, Verdict


class Bar(StrEnum):
    """What the scanner must answer for a file to count as right."""

    MALICIOUS = "malicious"
    """Truly runs, or is a validated executable."""
    ALARM = "alarm"
    """Suspicious or worse."""
    NOT_CLEAN = "not clean"
    """Beyond a budget: incomplete or worse."""
    REPORT = "report"
    """Named in the report; the verdict is not judged (mediums, conformance damage)."""
    CLEAN = "clean"
    """Honest: nothing above clean."""


_LEAST = {
    Bar.MALICIOUS: Verdict.MALICIOUS,
    Bar.ALARM: Verdict.SUSPICIOUS,
    Bar.NOT_CLEAN: Verdict.INCOMPLETE,
    Bar.REPORT: Verdict.CLEAN,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where what hides in a file lies, so far as a report can be held to it.

    Attributes:
        paths: Tag paths that are right; none means that any is.
        start: First offset at which a finding may begin; inflated where ``inner``.
        end: Offset after the last; None leaves the offset open.
        inner: Whether the offsets count in the inflated data set.
    """

    paths: frozenset[str] = frozenset()
    start: int = 0
    end: int | None = None
    inner: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One file of the benchmark.

    Attributes:
        name: Unique; the file name without suffix.
        family: The class of the table: ``program``, ``exploit-pixel`` …
        kind: What exactly hides.
        place: Where it hides, in the words of the table.
        encoding: How it is wrapped; ``plain`` where it is not.
        ids: Finding ids that are right; a trailing ``*`` stands for any ending.
    """

    name: str
    family: str
    kind: str
    place: str
    encoding: str = "plain"
    data: bytes
    bar: Bar
    ids: frozenset[str] = frozenset()
    target: Target = field(default_factory=Target)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one report answers one case; each part is judged by itself."""

    verdict: bool
    id: bool
    place: bool

    @property
    def found(self) -> bool:
        """Whether all three are right."""
        return self.verdict and self.id and self.place

    @property
    def wrong(self) -> str:
        """The parts that are wrong, for the list of misses."""
        parts = {"verdict": self.verdict, "id": self.id, "place": self.place}
        return "+".join(name for name, right in parts.items() if not right)


def judge(case: Case, report: Report) -> Outcome:
    """Hold a report to what a case declares."""
    if case.bar is Bar.CLEAN:
        return Outcome(report.verdict is Verdict.CLEAN, True, True)
    if case.bar is Bar.NOT_CLEAN:
        return Outcome(report.verdict > Verdict.CLEAN, True, True)
    right = [finding.place for finding in report.findings if _is_one_of(finding.kind.id, case.ids)]
    lead = _LEAD if case.ids & _TEXT_IDS else 0
    placed = any(_is_there(place, case.target, lead) for place in right)
    return Outcome(_LEAST[case.bar] <= report.verdict, bool(right), placed)


def _is_one_of(found: str, ids: frozenset[str]) -> bool:
    return found in ids or any(id_[-1] == "*" and found.startswith(id_[:-1]) for id_ in ids)


_TEXT_IDS = frozenset(("EMB-SCRIPT", "EMB-HTML"))
_LEAD = 4
"""Bytes that a run of text may begin early, where what precedes it is text by chance."""


def _is_there(place: Place, target: Target, lead: int) -> bool:
    """Whether a finding's place is the target.

    Of unwrapped data a place names the outermost wrapped run and the offset within what it held.
    The run may begin before the payload, if all of a value was unwrapped; in an inflated data set
    its offset is not reported, so that only the tag path can be judged.
    """
    if target.paths and place.tag_path not in target.paths:
        return False
    if target.end is None:
        return True
    if not place.chain:
        offset = place.inner_offset if target.inner else place.offset
        return offset is not None and target.start - lead <= offset < target.end
    if target.inner:
        return True
    begins_there = target.start - _LEAD <= place.offset < target.end
    return begins_there or place.offset <= place.offset + (place.inner_offset or 0) < target.end
