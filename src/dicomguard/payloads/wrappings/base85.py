"""Base85 as RFC 1924 and Git write it, and Ascii85 as Adobe does: four bytes as five characters.

Pixels of middling grey are letters to both, so that much more is decoded than was ever encoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from dicomguard.payloads.payload import Data
from dicomguard.payloads.wrappings.alphabets import BASE64_CHARACTERS, DIGITS, LOWER, UPPER
from dicomguard.payloads.wrappings.wrapping import MIN_CONTENT, STARTS, Allowance, Unwrapped
from dicomguard.regex import regex
from dicomguard.runs import Runs

_FRAME = b"<~"
_MINIMUM = 64
_BLOCK = 5 << 18
"""Characters decoded at once."""
_NAME = 3
"""Groups of which one begins what was encoded, behind what is left of a name."""


class Base85:
    """One of the two.

    Args:
        name: Of the form.
        alphabet: Its characters, by what they stand for.
        marks: How many different characters beyond those of base64 such a text has; others have
            so many seldom.
        zeros: The character for four zeros, where there is one.
    """

    is_text = True
    is_printable = True

    def __init__(self, name: str, alphabet: bytes, *, marks: int, zeros: bytes = b"") -> None:
        self._name = name
        self._marks = marks
        self._zeros = zeros
        self._five_zeros = alphabet[:1] * 5
        self._last = alphabet[-1:]
        self._digits = bytes(max(0, alphabet.find(byte)) for byte in range(256))
        one = re.escape(alphabet + zeros)
        self._run = regex(rb"[%b]{%d,}+(?:[\r\n]{1,2}[%b]++)*+" % (one, _MINIMUM, one))
        self.search = Runs(alphabet + zeros, _MINIMUM)

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Decode the run that begins at ``hit``."""
        run = self._run.match(data, hit, high)
        if run is None:
            return
        text = run[0].translate(None, b"\r\n").removeprefix(_FRAME)
        if len(set(text.translate(None, BASE64_CHARACTERS + b"="))) < self._marks:
            return
        for skipped in self._likely(text):
            content = self._whole(text[skipped:], allowance)
            if len(content) >= MIN_CONTENT:
                yield Unwrapped(hit, run.end(), content, self._name)

    def _likely(self, text: bytes) -> Iterator[int]:
        """Where the first group may begin: one of those next to it may begin something."""
        yield 0
        digits = text[: 5 * _NAME + 4].translate(self._digits)
        groups = b"".join([digits[skipped : skipped + 5 * _NAME] for skipped in range(1, 5)])
        raw = _packed([number & 0xFFFFFFFF for number in _numbers(groups)])
        for skipped in range(1, 5):
            end = 4 * _NAME * skipped
            if STARTS.match(raw, end - 4 * _NAME, end):
                yield skipped

    def _whole(self, text: bytes, allowance: Allowance) -> bytes:
        """What the text holds, up to the first block in which a group is none."""
        pieces = []
        for at in range(0, len(text), _BLOCK):
            try:
                pieces.append(self._decode(text[at : at + _BLOCK]))
            except ValueError:
                break
            if allowance.is_spent:
                break
        return b"".join(pieces)

    def _decode(self, text: bytes) -> bytes:
        """Groups of five, the last of which may lack some.

        Raises:
            ValueError: A group is beyond 32 bits, or zeros stand within one.
        """
        if self._zeros and self._zeros in text:
            between = text.split(self._zeros)
            if any(len(each) % 5 for each in between[:-1]):
                msg = "zeros within a group"
                raise ValueError(msg)
            text = self._five_zeros.join(between)
        lacking = -len(text) % 5
        digits = (text + self._last * lacking).translate(self._digits)
        try:
            raw = _packed(_numbers(digits))
        except struct.error as error:
            msg = "a group beyond 32 bits"
            raise ValueError(msg) from error
        return raw[: len(raw) - lacking]


def _numbers(digits: bytes) -> list[int]:
    """What groups of five stand for."""
    each = iter(digits)
    return [
        (((a * 85 + b) * 85 + c) * 85 + d) * 85 + e
        for a, b, c, d, e in zip(each, each, each, each, each, strict=True)
    ]


def _packed(numbers: list[int]) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


BASE85 = Base85("base85", DIGITS + UPPER + LOWER + b"!#$%&()*+-;<=>?@^_`{|}~", marks=6)
ASCII85 = Base85("ascii85", bytes(range(0x21, 0x76)), marks=9, zeros=b"z")
