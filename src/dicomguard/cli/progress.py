"""How far a run is: a bar on standard error, on a terminal, if it takes more than a moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from dicomguard.reports.summary import Summary

if TYPE_CHECKING:
    from rich.progress import Progress

_AFTER = 1.0
"""Seconds before anything is shown."""


class ProgressBar:
    """Files done, rate and time left; nothing where nobody looks.

    Args:
        files: Number of files.
        size: Bytes of all of them, which the time left is reckoned by.
    """

    def __init__(self, files: int, size: int) -> None:
        self._files = files
        self._size = size
        self._started = time.monotonic()
        self._bar: Progress | None = None

    @staticmethod
    def is_wanted() -> bool:
        """Whether somebody looks."""
        return sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, summary: Summary) -> None:
        """Bring the bar up to date."""
        elapsed = time.monotonic() - self._started
        if elapsed < _AFTER or not self.is_wanted():
            return
        if self._bar is None:
            self._bar = _bar()
            self._bar.add_task("", total=self._size, told="")
            self._bar.start()
        files, mebibytes = summary.files / elapsed, summary.bytes / elapsed / (1 << 20)
        told = f"{summary.files}/{self._files} files  {files:.0f} files/s, {mebibytes:.0f} MiB/s"
        self._bar.update(self._bar.task_ids[0], completed=summary.bytes, told=told)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while something may be written over it."""
        if self._bar is None or not sys.stdout.isatty():
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


def _bar() -> Progress:
    # Only long runs pay for the import.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(),
        TextColumn("{task.fields[told]}  left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
