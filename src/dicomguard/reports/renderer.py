"""What writes a report in one format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TextIO

from msgspec import Struct

from dicomguard.reports.model import FileRecord, SummaryRecord


class Detail(Struct, frozen=True, kw_only=True):
    """How much people want to read; programs get everything.

    Attributes:
        quiet: No totals.
        verbose: Every file and every finding.
        suppressed: Suppressed findings too, and why they are.
    """

    quiet: bool = False
    verbose: bool = False
    suppressed: bool = False


NORMAL = Detail()


class Renderer(ABC):
    """Writes files as they come, then the summary: memory does not grow with their number.

    Args:
        out: Where to; the caller opens and closes it.
        detail: How much of it.
    """

    def __init__(self, out: TextIO, detail: Detail = NORMAL) -> None:
        self._out = out
        self._detail = detail

    @abstractmethod
    def file(self, record: FileRecord, *, named: bool) -> None:
        """Write one file.

        Args:
            record: What is known of it.
            named: Whether the user named it, rather than a folder above it.
        """

    @abstractmethod
    def end(self, summary: SummaryRecord) -> None:
        """Write the totals; nothing comes after."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what it holds; needed after `end` and instead of it."""
