"""Findings → verdict."""

from __future__ import annotations

from collections.abc import Iterable

from dicomguard.model import Category, Confidence, Finding, Severity, Verdict

FINDINGS_PER_RULE = 50
"""Findings of one rule in one file that are listed."""

THREATS = (Category.MALWARE, Category.EXPLOIT)
"""The categories of findings that can change a verdict."""


def verdict(findings: Iterable[Finding], *, complete: bool, strict: bool = False) -> Verdict:
    """What the findings of one file amount to.

    Conformance and inventory never count, nor does weak evidence.

    Args:
        findings: Everything found in the file.
        complete: Whether all of the file was examined.
        strict: Whether one medium finding is enough to be suspicious; else it takes two of
            different families.
    """
    kinds = [
        finding.kind
        for finding in findings
        if finding.kind.category in THREATS and finding.kind.confidence > Confidence.WEAK
    ]
    severe = [kind for kind in kinds if kind.severity >= Severity.HIGH]
    if any(kind.category is Category.MALWARE for kind in severe):
        return Verdict.MALICIOUS
    families = {kind.family for kind in kinds if kind.severity is Severity.MEDIUM}
    if severe or len(families) > 1 or (strict and families):
        return Verdict.SUSPICIOUS
    return Verdict.CLEAN if complete else Verdict.INCOMPLETE
