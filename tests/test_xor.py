"""XOR of byte strings, by either way of doing it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomguard.xor import FEW, xor


@given(st.binary(max_size=64), st.integers(0, 255), st.sampled_from((1, FEW)))
def test_each_byte_is_that_of_one_xor_that_of_the_other(raw: bytes, key: int, times: int) -> None:
    one = raw * times
    assert xor(one, bytes([key]) * len(one)) == bytes(byte ^ key for byte in raw) * times


@pytest.mark.parametrize("size", [4, FEW])
def test_what_is_not_of_one_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="bytes and"):
        xor(bytes(size), bytes(size + 1))
