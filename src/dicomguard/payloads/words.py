"""Words that tell what a text does, looked for once in a value however many triggers ask."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from dicomguard.payloads.memory import remembered
from dicomguard.payloads.payload import Data


class Words(Struct, frozen=True, eq=False):
    """Words by what they mean.

    Attributes:
        meanings: Linear patterns, each with what it says of the text, safe to show.
    """

    meanings: Mapping[str, re.Pattern[bytes]]

    def behind(self, data: Data, hit: int, low: int, high: int) -> tuple[str, ...]:
        """What stands in the value behind a trigger."""
        places = _last_places(data, self, low, min(high, len(data)))
        return tuple(meaning for meaning, place in places if place >= hit)


@remembered
def _last_places(data: Data, words: Words, low: int, high: int) -> list[tuple[str, int]]:
    """Where each meaning stands last in a value, -1 for nowhere."""
    return [
        (meaning, max((match.start() for match in pattern.finditer(data, low, high)), default=-1))
        for meaning, pattern in words.meanings.items()
    ]


@remembered
def first(data: Data, pattern: re.Pattern[bytes], low: int, high: int) -> int:
    """Where a pattern stands first in a value, -1 for nowhere."""
    match = pattern.search(data, low, high)
    return match.start() if match else -1
