"""Bounded reads of fixed binary layouts: the one way in which validators look at numbers."""

from __future__ import annotations

import struct

from dicomguard.payloads.payload import Data


def read_fields(layout: struct.Struct, data: Data, offset: int) -> tuple[int, ...] | None:
    """Unpack a layout of integers, or answer None where it does not lie wholly within the data.

    Args:
        layout: Only integer and pad fields.
        data: What to read from.
        offset: Where the layout starts; may be any integer, negative ones and huge ones included.
    """
    if 0 <= offset <= len(data) - layout.size:
        return layout.unpack_from(data, offset)
    return None
