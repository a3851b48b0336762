"""Bytes written as text: base64 and its kin, lists of numbers, uuencode, UTF-16."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from heapq import merge

from stringzilla import translate

from dicomguard.payloads.payload import Data
from dicomguard.payloads.wrappings.alphabets import (
    BASE64_CHARACTERS,
    BREAKS,
    DIGITS,
    HEX,
    UPPER,
)
from dicomguard.payloads.wrappings.wrapping import (
    MIN_CONTENT,
    Allowance,
    Unwrapped,
    is_structured,
    is_telling,
)
from dicomguard.regex import regex
from dicomguard.runs import CLASSES, WINDOW, Form, Runs, runs_of


def _run(characters: bytes, minimum: int) -> re.Pattern[bytes]:
    """A run, and those that only white space parts from it: the lines of an indented text.

    The last line may be shorter.
    """
    one = rb"[%b]{%d,}+" % (re.escape(characters), minimum)
    last = rb"[%b]++" % re.escape(characters)
    return regex(rb"%b(?:%b%b)*+(?:%b%b)?+" % (one, _GAP, one, _GAP, last))


_GAP = (
    rb"(?:[ \t\r\n]{1,64}+|(?:&#(?:x0?[aAdD]|1[03]);){1,2}"
    rb"|[\"'][ \t\r\n]{0,16}[+&.,_]?[ \t\r\n_]{0,64}[+&.]?[ \t]{0,16}[\"'])"
)
"""Between two lines: white space, also as XML writes it, or the quotes of strings in a program."""
_GAPS = regex(_GAP)


_BASE64_MINIMUM = 48
_ENCODED_MIN = 64
"""Fewer characters than this, line breaks aside, are not decoded."""


class Base64:
    """Base64 (RFC 4648 sections 4 and 5) or base32 (section 6), also broken into lines or values.

    Characters of something else may stand before the first of base64: all four ways of taking it
    are tried.
    """

    is_text = True
    is_printable = True
    search = Runs(BASE64_CHARACTERS, _BASE64_MINIMUM)
    _RUN = _run(BASE64_CHARACTERS, _BASE64_MINIMUM)
    _STANDARD = bytes.maketrans(b"-_", b"+/")
    _BASE32 = UPPER + b"234567"
    _BASE32_DIGITS = bytes.maketrans(_BASE32, DIGITS + UPPER[:22])
    _VARIETY = 12
    """Different characters of a text that holds anything but repetition."""

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, _allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Decode the run that begins at ``hit``."""
        run = self._RUN.match(data, hit, high)
        if run is None:
            return
        text = run[0]
        if text.translate(None, BASE64_CHARACTERS):
            text = _GAPS.sub(b"", text)
        text = text.translate(self._STANDARD, BREAKS + b" ")
        if len(text) < _ENCODED_MIN or len(set(text)) < self._VARIETY:
            return
        upper = text.upper()
        if upper == text.lower():
            return
        # Binary data never becomes base64 of one case: numbers, hashes and names do.
        if text not in (upper, text.lower()):
            for skipped in range(4):
                rest = text[skipped:]
                whole = rest[: len(rest) - (len(rest) % 4 == 1)]
                content = binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
                if not skipped or is_telling(content) or is_structured(content):
                    yield Unwrapped(hit, run.end(), content, "base64")
        elif not upper.translate(None, self._BASE32):
            number = int(upper.translate(self._BASE32_DIGITS), 32)
            for skipped in range(8):
                bits = 5 * (len(upper) - skipped)
                kept = number & (1 << bits) - 1
                content = (kept >> bits % 8).to_bytes(bits // 8)
                if not skipped or is_telling(content):
                    yield Unwrapped(hit, run.end(), content, "base32")


_LIST_CHARACTERS = HEX + b"xX ,;:-%{}()[]" + BREAKS


class Numbers:
    r"""Bytes as numbers in text.

    Hexadecimal ones as ``4D5A``, ``4D 5A``, ``0x4D, 0x5A``, ``\x4D\x5A`` or ``%4D%5A``, decimal
    ones as ``77, 90`` or as the values of one element.
    """

    is_text = True
    is_printable = True
    search = Runs(_LIST_CHARACTERS, _ENCODED_MIN)
    _RUN = _run(_LIST_CHARACTERS, _ENCODED_MIN)
    _PREFIXES = regex(rb"0[xX]|\\x|%")
    _SEPARATE = bytes(byte if byte in HEX + b"xX" else 0x20 for byte in range(256))
    _NUMBERS = 32
    _VARIETY = 9
    """The smallest program has more different bytes than most lists of numbers, and its text more
    different characters than lists of one number or two.
    """

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, _allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Decode the run that begins at ``hit``; three digits at most may be either."""
        run = self._RUN.match(data, hit, high)
        if run is None:
            return
        if len(set(run[0])) < self._VARIETY:
            return
        tokens = self._PREFIXES.sub(b" ", run[0]).translate(self._SEPARATE).split()
        for content, name in (
            (self._hexadecimal(tokens), "hex"),
            (self._decimal(tokens), "decimal"),
        ):
            if len(set(content)) >= self._VARIETY:
                yield Unwrapped(hit, run.end(), content, name)

    def _hexadecimal(self, tokens: list[bytes]) -> bytes:
        """Of those tokens that are whole bytes; what is not (a count, a name) is left out."""
        digits = b"".join(token for token in tokens if len(token) % 2 == 0)
        if len(digits) < _ENCODED_MIN or digits.translate(None, HEX):
            return b""
        return bytes.fromhex(digits.decode("ascii"))

    def _decimal(self, tokens: list[bytes]) -> bytes:
        if len(tokens) < self._NUMBERS or max(map(len, tokens)) > 3:
            return b""
        if not b"".join(tokens).isdigit():
            return b""
        numbers = [int(token) for token in tokens]
        return bytes(numbers) if max(numbers) < 256 else b""


class Uuencode:
    """The format of uuencode(1): a line ``begin 644 name``, then lines of up to 45 bytes."""

    is_text = True
    is_printable = False  # but for a name
    _HEADER = regex(rb"begin [0-7]{3,4} [^\r\n]{1,255}\r?\n")
    _LINE = regex(rb"([ -`]{2,86})\r?\n?")

    def search(self, values: Data) -> Iterator[int]:
        """Wherever the word is with which a header begins."""
        found = values.find(b"begin ")
        while found >= 0:
            yield found
            found = values.find(b"begin ", found + 1)

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, _allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Decode the lines behind the header at ``hit``."""
        line = self._HEADER.match(data, hit, min(hit + 300, high))
        if line is None:
            return
        pieces, end = [], line.end()
        while (line := self._LINE.match(data, end, min(end + 90, high))) is not None:
            try:
                pieces.append(binascii.a2b_uu(line[1]))
            except binascii.Error:
                break
            end = line.end()
        content = b"".join(pieces)
        if len(content) >= MIN_CONTENT:
            yield Unwrapped(hit, end, content, "uuencode")


class BrokenWords:
    """Words of commands, parted by carets, backticks or as strings; a shell puts them together."""

    is_text = True
    is_printable = True
    _JOINT = regex(rb"\^|`|[\"'][ \t]{0,4}[+&][ \t]{0,4}[\"']")
    _HINTS = (
        (b"^", regex(rb"\^[A-Za-z0-9]{1,3}\^[A-Za-z0-9]{1,3}\^[A-Za-z0-9]{1,3}\^")),
        (b"`", regex(rb"`[A-Za-z]{1,6}`[A-Za-z]")),
        (b'"', regex(rb"\"[ \t]{0,4}[+&][ \t]{0,4}[\"'][A-Za-z]")),
        (b"'", regex(rb"'[ \t]{0,4}[+&][ \t]{0,4}[\"'][A-Za-z]")),
    )
    """By their first byte: to look for one byte is fast."""
    _TEXT = regex(rb"[\t\n\r\x20-\x7e]*+")
    _BEFORE = 1 << 10

    def search(self, values: Data) -> Iterator[int]:
        """Wherever a word is parted."""
        hints = [hint.finditer(values) for first, hint in self._HINTS if values.find(first) >= 0]
        return (match.start() for match in merge(*hints, key=re.Match.start)) if hints else iter(())

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Put together the words of the text around ``hit``."""
        before = data[max(low, hit - self._BEFORE) : hit][::-1]
        behind = self._TEXT.match(before)
        run = self._TEXT.match(data, hit, min(high, hit + allowance.room))
        if run is None or behind is None:
            return
        start = hit - behind.end()
        content = self._JOINT.sub(b"", data[start : run.end()])
        if len(content) >= MIN_CONTENT:
            yield Unwrapped(start, run.end(), content, "broken words", is_prose=True)


class Utf16:
    """Text in UTF-16, of characters that ASCII has too: every second byte is zero."""

    is_text = True
    is_printable = False
    _LEAST = 23
    """Characters, each with its zero, of the shortest such text but for its last one."""
    _FORM = Form(b"\1\2" * _LEAST, regex(rb"(?:\x01\x02)*+"))
    _RUN = regex(rb"(?:[\t\n\r\x20-\x7e]\0){23,}+[\t\n\r\x20-\x7e]")

    def search(self, values: Data) -> Iterator[int]:
        """Where characters stand at every second byte and zeros between them."""
        for base in range(0, len(values), WINDOW):
            for start, _ in runs_of(self._FORM, translate(values[base : base + WINDOW], CLASSES)):
                yield base + start

    def unwrap(
        self, data: Data, hit: int, _low: int, high: int, _allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Narrow the text that begins at ``hit``; in either byte order the zeros are in between."""
        run = self._RUN.match(data, hit, high)
        if run is not None:
            yield Unwrapped(hit, run.end(), run[0][::2], "UTF-16")


class Widened:
    """A value of 16-bit numbers that are all bytes: binary data as characters of UTF-16."""

    _PROBE = 64
    _MINIMUM = 128

    def unwrap(
        self, data: Data, _hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Narrow the value, of either byte order."""
        high = min(high, low + 2 * allowance.room)
        probe = data[low : min(low + self._PROBE, high)]
        if high - low < self._MINIMUM:
            return
        for zeros, content in ((1, 0), (0, 1)):
            if any(probe[zeros::2]) or not any(probe[content::2]):
                continue
            if not data[low + zeros : high : 2].strip(b"\0"):
                yield Unwrapped(low, high, data[low + content : high : 2], "UTF-16")
