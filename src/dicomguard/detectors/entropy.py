"""Shannon entropy, the one statistic that tells packed bytes from ordinary ones."""

from __future__ import annotations

import math
from collections import Counter

SAMPLE_BYTES = 1 << 16
"""Bytes that are enough to tell."""


def entropy(raw: bytes) -> float:
    """Bits per byte (0 to 8) of the first `SAMPLE_BYTES` bytes."""
    sample = raw[:SAMPLE_BYTES]
    if not sample:
        return 0.0
    counts = Counter(sample).values()
    return math.log2(len(sample)) - sum(n * math.log2(n) for n in counts) / len(sample)
