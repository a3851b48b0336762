"""Answers about the data at hand, remembered while many triggers ask the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

from msgspec import Struct, field

from dicomguard.payloads.payload import Data

_ANSWERS_KEPT = 1024

_Answer = TypeVar("_Answer")


class _Memory(Struct, frozen=True):
    """Answers by function and place, about one data, which they keep alive."""

    data: Data
    answers: dict[tuple[object, ...], Any] = field(default_factory=dict)


_latest = [_Memory(b"")]


def remembered(function: Callable[..., _Answer]) -> Callable[..., _Answer]:
    """Ask a function of ``(data, *places)`` once for each place of the data looked at last.

    Thousands of triggers may lead to one place; without this, a file made of them would be read
    anew for each. All remembered functions together keep one data in memory, until the next one.
    Data is told apart by identity, never by content: to compare would be to read all of it.
    """

    @wraps(function)
    def answer(data: Data, *places: Hashable) -> _Answer:
        memory = _latest[0]
        if memory.data is not data:
            memory = _latest[0] = _Memory(data)
        answers, key = memory.answers, (function, *places)
        if key not in answers:
            if len(answers) >= _ANSWERS_KEPT:
                answers.clear()
            answers[key] = function(data, *places)
        known: _Answer = answers[key]
        return known

    return answer
