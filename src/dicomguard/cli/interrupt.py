"""Ctrl-C ends a run between two files, so that every report stays whole."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class CtrlC:
    """Turns the first Ctrl-C into `KeyboardInterrupt`, but never within a `held` block.

    The second one has its usual effect at once, for those who do not want to wait.
    """

    def __init__(self) -> None:
        self._held = False
        self._pending = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signal within this block."""
        before = signal.signal(signal.SIGINT, self._arrived)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Finish this block first.

        Raises:
            KeyboardInterrupt: The signal came within the block.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _arrived(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (signal's form)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not self._held:
            raise KeyboardInterrupt
        self._pending = True
