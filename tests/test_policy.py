"""Findings → verdict, and verdicts → exit code: the tables of the documentation, case by case."""

from __future__ import annotations

from itertools import product

import pytest

from dicomguard import Category, Confidence, Finding, FindingKind, Place, Report, Severity, Verdict
from dicomguard.model import Region
from dicomguard.policy import verdict
from dicomguard.reports.summary import ExitCode, Summary

C, S, F, V = Category, Severity, Confidence, Verdict
THREATS = (C.MALWARE, C.EXPLOIT)
SURE = (F.STRONG, F.CONFIRMED)
GRAVE = (S.HIGH, S.CRITICAL)


def found(
    category: Category, severity: Severity, confidence: Confidence, family: str = "FAM"
) -> Finding:
    kind = FindingKind(
        id=f"{family}-WORD",
        title="t",
        category=category,
        severity=severity,
        confidence=confidence,
        why="w",
    )
    return Finding(kind=kind, place=Place(region=Region.GAP, offset=0, length=1))


def single(
    category: Category, severity: Severity, confidence: Confidence, *, strict: bool
) -> Verdict | None:
    """The table's answer for one finding; None where it does not settle the verdict."""
    if category not in THREATS or confidence not in SURE:
        return None
    if severity in GRAVE:
        return V.MALICIOUS if category is C.MALWARE else V.SUSPICIOUS
    return V.SUSPICIOUS if severity is S.MEDIUM and strict else None


@pytest.mark.parametrize(("complete", "strict"), list(product((True, False), repeat=2)))
def test_one_finding(complete: bool, strict: bool) -> None:
    answers = set()
    for category, severity, confidence in product(C, S, F):
        expected = single(category, severity, confidence, strict=strict)
        expected = expected or (V.CLEAN if complete else V.INCOMPLETE)
        finding = found(category, severity, confidence)
        assert verdict([finding], complete=complete, strict=strict) is expected, finding.kind
        answers.add(expected)
    assert answers == {V.MALICIOUS, V.SUSPICIOUS, V.CLEAN if complete else V.INCOMPLETE}


@pytest.mark.parametrize(("complete", "expected"), [(True, V.CLEAN), (False, V.INCOMPLETE)])
def test_nothing_found(complete: bool, expected: Verdict) -> None:
    assert verdict([], complete=complete) is expected
    assert verdict([], complete=complete, strict=True) is expected


@pytest.mark.parametrize("categories", list(product(C, repeat=2)), ids=str)
def test_two_mediums(categories: tuple[Category, Category]) -> None:
    for confidences in product(F, repeat=2):
        mediums = [
            found(category, S.MEDIUM, confidence, family)
            for category, confidence, family in zip(
                categories, confidences, ("ONE", "OTHER"), strict=True
            )
        ]
        both_count = all(
            finding.kind.category in THREATS and finding.kind.confidence in SURE
            for finding in mediums
        )
        expected = V.SUSPICIOUS if both_count else V.CLEAN
        assert verdict(mediums, complete=True) is expected


def test_mediums_of_one_family_are_one() -> None:
    mediums = [found(C.EXPLOIT, S.MEDIUM, F.CONFIRMED) for _ in range(9)]
    assert verdict(mediums, complete=True) is V.CLEAN
    assert verdict(mediums, complete=False) is V.INCOMPLETE
    assert verdict(mediums, complete=True, strict=True) is V.SUSPICIOUS


@pytest.mark.parametrize("severity", [S.INFO, S.LOW])
def test_a_lesser_finding_adds_nothing_to_a_medium(severity: Severity) -> None:
    pair = [found(C.EXPLOIT, S.MEDIUM, F.CONFIRMED), found(C.EXPLOIT, severity, F.CONFIRMED, "X")]
    assert verdict(pair, complete=True) is V.CLEAN


def test_the_first_line_of_the_table_that_applies_wins() -> None:
    malware = found(C.MALWARE, S.HIGH, F.STRONG)
    exploit = found(C.EXPLOIT, S.CRITICAL, F.CONFIRMED)
    for order in ([malware, exploit], [exploit, malware]):
        assert verdict(order, complete=False) is V.MALICIOUS
    assert verdict([exploit], complete=False) is V.SUSPICIOUS


def test_weak_evidence_alone_never_counts_however_much_there_is() -> None:
    weak = [
        found(category, severity, F.WEAK, f"FAM{index}")
        for index, (category, severity) in enumerate(product(C, S))
    ]
    assert verdict(weak, complete=True, strict=True) is V.CLEAN


def test_conformance_and_inventory_alone_never_count() -> None:
    harmless = [
        found(category, severity, F.CONFIRMED, f"FAM{index}")
        for index, (category, severity) in enumerate(product((C.CONFORMANCE, C.INVENTORY), S))
    ]
    assert verdict(harmless, complete=True, strict=True) is V.CLEAN


def test_a_family_is_the_word_before_the_first_hyphen() -> None:
    assert found(C.MALWARE, S.LOW, F.WEAK, "POLY-SCRIPT").kind.family == "POLY"
    assert found(C.MALWARE, S.LOW, F.WEAK, "YARA").kind.family == "YARA"


# ---------------------------------------------------------------------- exit codes


def summary(*reports: tuple[Verdict, bool]) -> Summary:
    total = Summary(rules="r", engine="e")
    for answer, complete in reports:
        unexamined = () if complete else ("a reason",)
        total.add(Report(path="p", size=10, verdict=answer, unexamined=unexamined))
    return total


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([], 2),
        ([(V.CLEAN, True)], 0),
        ([(V.CLEAN, True)] * 3, 0),
        ([(V.INCOMPLETE, False)], 3),
        ([(V.CLEAN, True), (V.INCOMPLETE, False)], 3),
        ([(V.SUSPICIOUS, True)], 1),
        ([(V.MALICIOUS, True)], 1),
        ([(V.CLEAN, True), (V.SUSPICIOUS, True)], 1),
        ([(V.INCOMPLETE, False), (V.SUSPICIOUS, True)], 1),
        ([(V.SUSPICIOUS, False)], 1),
        ([(V.MALICIOUS, False), (V.INCOMPLETE, False), (V.CLEAN, True)], 1),
    ],
)
def test_exit_code(reports: list[tuple[Verdict, bool]], expected: int) -> None:
    assert summary(*reports).exit_code == expected


def test_exit_codes_are_the_documented_ones() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "CLEAN": 0,
        "FOUND": 1,
        "USAGE": 2,
        "NOT_EXAMINED": 3,
        "DEFECT": 70,
        "INTERRUPTED": 130,
        "PIPE_CLOSED": 141,
    }


def test_a_summary_counts_what_found_and_incomplete_have_in_common() -> None:
    total = summary((V.MALICIOUS, False), (V.INCOMPLETE, False), (V.CLEAN, True))
    assert total.files == 3
    assert total.bytes == 30
    assert total.incomplete == 2
    assert total.verdicts == {V.MALICIOUS: 1, V.INCOMPLETE: 1, V.CLEAN: 1}
