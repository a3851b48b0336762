"""XOR of bytes with those behind them, by either way of doing it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomguard.xor import FEW, differences


@pytest.mark.parametrize("lag", [1, 4])
@given(raw=st.binary(max_size=64), times=st.sampled_from((1, FEW)))
def test_each_byte_is_combined_with_the_one_behind(raw: bytes, times: int, lag: int) -> None:
    """Of many bytes, which repeat, the first ones and the last."""
    data = raw * times
    expected = bytes(
        one ^ other for one, other in zip(data[:99], data[lag : lag + 99], strict=False)
    )
    for given_as in (data, memoryview(data)):
        found = differences(given_as, lag)
        assert len(found) == max(len(data) - lag, 0)
        assert found[: len(expected)] == expected
        tail = data[-99:]
        assert (
            found[-60:]
            == bytes(one ^ other for one, other in zip(tail, tail[lag:], strict=False))[-60:]
        )
