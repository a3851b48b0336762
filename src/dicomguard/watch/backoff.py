"""Files that could not be dealt with, each left alone for a while before the next attempt."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from dicomguard.model import FileIdentity

_LAST_PAUSE = 3600.0
_MOST = 10_000
"""Files that are remembered; the one that was left alone first is forgotten, and tried again."""


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
            is_new, pause = False, min(2 * before.pause, _LAST_PAUSE)
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
