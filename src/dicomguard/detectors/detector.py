"""What a detector is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from dicomguard.dicom.source import Source
from dicomguard.model import Finding, FindingKind


class Detector(Protocol):
    """One family of findings."""

    @property
    def kinds(self) -> tuple[FindingKind, ...]:
        """Everything it can find: the single source for reports and documentation."""

    def find(self, source: Source, found: Sequence[Finding]) -> Iterable[Finding]:
        """Look at a file, or at the data set inflated from it.

        Args:
            source: Bytes and layout; `Source.is_file` tells which of the two it is.
            found: What the rules and the detectors before it found in this source.
        """
