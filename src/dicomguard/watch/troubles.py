"""What keeps the daemon from its work: said once, then at growing intervals, and when it is over.

A trouble has a name, such as ``quarantine``, that says what does not work; its text says why. As
long as one of them lasts the daemon is not healthy. Troubles with single files are no sign of ill
health: they are gathered under one name for each kind, so that a thousand files of a disk that
fails do not make a thousand lines a scan.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dicomguard.reports.escape import printable

_FIRST_REPEAT = 60.0
_LAST_REPEAT = 3600.0
"""Seconds until a trouble that lasts is mentioned again; each time twice as long."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Trouble:
    text: str
    since: float
    seen: float
    say_at: float
    pause: float
    ails: bool
    times: int = 1


class Troubles:
    """The troubles of one daemon, by name.

    Args:
        show_path: How a path is shown.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        show_path: Callable[[str], str] = printable,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.show_path = show_path
        self._clock = clock
        self._current: dict[str, _Trouble] = {}

    def note(self, name: str, text: str, *, ails: bool = True) -> None:
        """Something does not work; logged unless it was not long ago.

        Args:
            name: What does not work.
            text: Why, safe to show.
            ails: Whether the daemon is not healthy as long as it lasts.
        """
        now = self._clock()
        trouble = self._current.get(name)
        if trouble is None:
            self._current[name] = _Trouble(text, now, now, now + _FIRST_REPEAT, _FIRST_REPEAT, ails)
            _log.error("%s: %s", name, text)
            return
        trouble.times += 1
        trouble.seen = now
        trouble.text = text
        if now < trouble.say_at:
            return
        trouble.pause = min(2 * trouble.pause, _LAST_REPEAT)
        trouble.say_at = now + trouble.pause
        _log.error("%s: %s (%d times in %.0f s)", name, text, trouble.times, now - trouble.since)

    def note_file(self, what: str, path: str, error: OSError) -> None:
        """Something cannot be done with one file, and perhaps with others for the same reason.

        Args:
            what: What cannot be done.
            path: One file of which it is true, relative to the ingest folder.
            error: Why.
        """
        name = f"{what}: {error.strerror or error}"
        self.note(name, f"for example {self.show_path(path)}", ails=False)

    def clear(self, name: str) -> None:
        """It works again; logged if it did not."""
        trouble = self._current.pop(name, None)
        if trouble is not None:
            lasted = self._clock() - trouble.since
            _log.warning("%s: over after %.0f s", name, lasted)

    def clear_files(self, since: float) -> None:
        """Drops the troubles with single files that were not met again since a moment."""
        over = [
            name
            for name, trouble in self._current.items()
            if not trouble.ails and trouble.seen < since
        ]
        for name in over:
            self.clear(name)

    @property
    def ailments(self) -> dict[str, str]:
        """What makes the daemon ill, with the reason; empty if it is healthy."""
        return {name: trouble.text for name, trouble in list(self._current.items()) if trouble.ails}
