"""How much work one file may cause; what goes beyond is reported, never passed as clean."""

from __future__ import annotations

from msgspec import Struct


class Budgets(Struct, frozen=True, kw_only=True):
    """Limits for one file.

    Attributes:
        depth: Nested sequences that are opened. Honest files reach 6.
        elements: Data elements, items and delimiters walked. Honest files reach about 20,000.
        inflated_bytes: Bytes of a deflated data set that are inflated.
        seconds: Time for reading the structure of one file.
        unwrap_depth: Wrappings within wrappings that are undone.
        unwrapped_bytes: Bytes that unwrapping makes of one file; a small file is granted less.
        unwrapped_payloads: Pieces of unwrapped data of one file that are scanned.
        unwrap_seconds: Time for unwrapping what is in one file, and scanning it.
    """

    depth: int = 128
    elements: int = 1_000_000
    inflated_bytes: int = 128 << 20
    seconds: float = 30.0
    unwrap_depth: int = 4
    unwrapped_bytes: int = 512 << 20
    unwrapped_payloads: int = 20_000
    unwrap_seconds: float = 60.0
