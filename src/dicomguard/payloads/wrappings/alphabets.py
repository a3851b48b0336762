"""The characters of which encoded text is made."""

from __future__ import annotations

UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWER = UPPER.lower()
DIGITS = b"0123456789"
HEX = DIGITS + b"abcdefABCDEF"
BREAKS = b"\r\n\t\\"
"""What may stand between the lines of a text, or the values of one element."""
BASE64_CHARACTERS = UPPER + LOWER + DIGITS + b"+/-_" + BREAKS
