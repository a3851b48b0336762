"""What failed is tried again, after a pause that is longer each time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from dicomguard.model import FileIdentity

_LAST_ASIDE = 3600.0
"""Seconds a file is left alone at most."""

_MOST = 10_000
"""Files that are remembered; the one that was left alone first is forgotten, and tried again."""


FIRST_PAUSE = 1.0
LAST_PAUSE = 60.0
"""Seconds that something is left alone after it failed once, and after it failed many times."""


class Pause:
    """The pause after a failure, twice as long after each that follows; true while it fails.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._length = 0.0
        self._until = 0.0

    def __bool__(self) -> bool:
        return self._length > 0

    @property
    def seconds_left(self) -> float:
        """Until it may be tried again, at least 0."""
        return max(0.0, self._until - self._clock()) if self else 0.0

    def lengthen(self) -> None:
        """It failed; a failure during the pause is the same failure."""
        if not self.seconds_left:
            self._length = min(max(FIRST_PAUSE, 2 * self._length), LAST_PAUSE)
            self._until = self._clock() + self._length

    def end(self) -> None:
        """It worked."""
        self._length = 0.0


class _Aside(NamedTuple):
    identity: FileIdentity
    pause: float
    until: float


class SetAside:
    """Files that are set aside, for twice as long each time, until they change.

    Args:
        first_pause: Seconds.
        clock: Seconds that never go back.
    """

    def __init__(self, first_pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first_pause = first_pause
        self._clock = clock
        self._files: OrderedDict[str, _Aside] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def put(self, path: str, identity: FileIdentity) -> bool:
        """Sets a file aside; answers whether it was not yet, or is another by now."""
        before = self._files.pop(path, None)
        if before is not None and before.identity == identity:
            is_new, pause = False, min(2 * before.pause, _LAST_ASIDE)
        else:
            is_new, pause = True, self._first_pause
        self._files[path] = _Aside(identity, pause, self._clock() + pause)
        if len(self._files) > _MOST:
            self._files.popitem(last=False)
        return is_new

    def holds(self, path: str, identity: FileIdentity) -> bool:
        """Whether a file is to be left alone now."""
        aside = self._files.get(path)
        return aside is not None and aside.identity == identity and self._clock() < aside.until

    def take_back(self, path: str) -> None:
        """Forgets a file: it was dealt with, or is gone."""
        self._files.pop(path, None)
