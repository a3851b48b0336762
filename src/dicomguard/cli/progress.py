"""How far a run is, on standard error: only on a terminal, only if it takes more than a moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dicomguard.reports.summary import Summary

if TYPE_CHECKING:
    from rich.status import Status

_AFTER = 1.0
"""Seconds before anything is shown."""


class Progress:
    """A line that says how many files are done and how fast; nothing where nobody looks."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._status:
            self._status.stop()

    def show(self, summary: Summary) -> None:
        """Bring the line up to date."""
        elapsed = time.monotonic() - self._started
        if elapsed < _AFTER or not sys.stderr.isatty():
            return
        rate = summary.bytes / elapsed / (1 << 20)
        line = f"{summary.files} files examined, {rate:.0f} MiB/s"
        if self._status is None:
            from rich.console import Console  # noqa: PLC0415 - only long runs pay for it

            self._status = Console(stderr=True).status(line)
            self._status.start()
        else:
            self._status.update(line)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while something is written to standard output."""
        if self._status is None:
            yield
            return
        self._status.stop()
        try:
            yield
        finally:
            self._status.start()
