"""Runs are where a regular expression finds them, however they are sought."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomguard.regex import regex
from dicomguard.runs import CHARACTER, CLASSES, NUL, PRINTABLE, Form, Runs, runs_of

pieces = st.lists(
    st.tuples(st.sampled_from([b"\1", b"\2", b"\0"]), st.integers(1, 70)), max_size=12
).map(lambda parts: b"".join(mark * count for mark, count in parts))


@pytest.mark.parametrize("least", [1, 2, 9, 16, 31, 32, 50, 99])
@given(marked=pieces)
def test_runs_of_one_mark(marked: bytes, least: int) -> None:
    form = Form(b"\1" * least, regex(rb"\x01*+"))
    expected = [match.span() for match in re.finditer(rb"\x01{%d,}" % least, marked)]
    assert list(runs_of(form, marked)) == expected


@given(st.binary(max_size=200).map(lambda raw: raw * 3))
def test_runs_of_characters(raw: bytes) -> None:
    expected = [match.span() for match in re.finditer(rb"[\t\n\r -~]{3,}", raw)]
    assert list(Runs(PRINTABLE, 3).extents(raw)) == expected


def test_each_byte_has_one_mark() -> None:
    assert [CLASSES[byte] == CHARACTER for byte in range(256)] == [
        byte in PRINTABLE for byte in range(256)
    ]
    assert [byte for byte in range(256) if CLASSES[byte] == NUL] == [0]
