"""Bytes under a simple cipher: XOR or addition with a key, rotation, reversal, swapped bytes.

Nothing is tried on everything. Programs have plaintext that is known, and each cipher leaves
something of it as it is, which is what is sought:

* A key of one, two or four bytes repeats after four, so the difference of two bytes four apart is
  that of the plaintext. A fourth of the differences, one every four bytes, holds enough of any
  known plaintext, whatever its place.
* Rotation, reversal and swapping have no key: the known plaintext has one form under each.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

from dicomguard.payloads.payload import Data
from dicomguard.payloads.wrappings.wrapping import MIN_CONTENT, Allowance, Unwrapped

_BEFORE = 1 << 20
"""Bytes before a known plaintext that are deciphered."""
_BEHIND = 1 << 26
"""Bytes behind it."""

_STUBS = (b"This program cannot be run in DOS mode", b"This program must be run under Win")
_EICAR = b"EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!"
_WORDS = (
    b"powershell -", b"powershell.exe", b"FromBase64String", b"WScript.Shell", b"CreateObject(",
    b"<?php ", b"<script>", b"<script ", b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/", b"@echo off",
    b"<!DOCTYPE", b"META-INF/", b"AndroidManifest.xml", b"classes.dex", b"__main__.py", b"/bin/sh",
    b"dex\n035\0", b"java/lang/Object", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"%PDF-1.",
    b"builtins\n", b"posix\nsystem", b"import base64", b"ActiveXObject", b"\\objdata",
    b"System, Version=", b"ObjectDataProvider", b'xmlns="http://', b"\xac\xed\0\5sr",
    b"\0asm\1\0\0\0", b"builtins\x94\x8c", b"\xca\xfe\xba\xbe\0\0\0",
)  # fmt: skip
"""What programs, archives and scripts hold, short as it is: looked for outside pixels."""
_PHRASES = (
    b"META-INF/MANIFEST.MF", b"<!DOCTYPE html><html>", b"powershell -NoProfile -",
    b"powershell.exe -NoP -", b"New-Object Net.WebClient", b'CreateObject("WScript.Shell")',
    b'ActiveXObject("WScript.Shell")', b"#!/usr/bin/env python", b'xmlns="http://www.w3.org/',
    b"</script></body></html>", b"http://schemas.microsoft.com/",
)  # fmt: skip
"""What scripts and archives hold, long enough to show through a key of four bytes."""


def _elf_headers() -> Iterator[bytes]:
    """The first 24 bytes of ELF files, little endian: Linux and System V, program and library."""
    for bits in (1, 2):
        for system in (0, 3):
            for kind in (2, 3):
                for machine in (3, 8, 0x28, 0x3E, 0xB7, 0xF3):
                    ident = b"\x7fELF" + bytes((bits, 1, 1, system)) + bytes(8)
                    yield ident + bytes((kind, 0, machine, 0, 1, 0, 0, 0))


_LONG = 12
"""Bytes of a word that costs little to look for in pixels, which hold none of its parts."""
_ELF_MAGIC = (b"\x7fELF\x01\x01\x01\x00", b"\x7fELF\x02\x01\x01\x00")


_RARE = (*_STUBS, _EICAR, *_ELF_MAGIC, *_PHRASES, *(each for each in _WORDS if len(each) >= _LONG))
_KNOWN = (*_RARE, *(each for each in _WORDS if len(each) < _LONG))


def _window(hit: int, low: int, high: int, allowance: Allowance) -> tuple[int, int]:
    """What of a value is deciphered around a plaintext at ``hit``."""
    start = max(low, hit - _BEFORE)
    return start, min(high, hit + _BEHIND, start + allowance.room)


# ---------------------------------------------------------------------- with a key

_LAG = 4
_CHUNK = 1 << 16


def _xor_differences(sample: bytes) -> bytes:
    number = int.from_bytes(sample, "little")
    return (number ^ number >> 8).to_bytes(len(sample), "little")


def _add_differences(sample: bytes) -> bytes:
    """Each byte less the next, modulo 256, all in one subtraction.

    The highest bit of each byte is set in the one number and cleared in the other, so that nothing
    is borrowed from the next byte, and put right afterwards.
    """
    high_bits = int.from_bytes(b"\x80" * len(sample), "little")
    one = int.from_bytes(sample, "little")
    next_ = one >> 8
    difference = (one | high_bits) - (next_ & ~high_bits)
    return (difference ^ (~(one ^ next_) & high_bits)).to_bytes(len(sample), "little")


class _Clue(NamedTuple):
    """A known plaintext, and which of its bytes a needle begins with."""

    plaintext: bytes
    skipped: int


class Keyed:
    """XOR or addition with a key of one, two or four bytes that repeats.

    Args:
        name: Of the cipher.
        differences: Of each byte of a sample and the next.
        key_of: The key's byte from one of the plaintext and one of the ciphertext.
        decipher: The plaintext's byte from one of the ciphertext and one of the key.
        trivial: Bytes of keys that another cipher does as well, or that change nothing.
    """

    STRIDE = _LAG
    """Bytes of data for one of a sample."""
    LONGEST = max(len(plaintext) for plaintext in (*_STUBS, _EICAR))
    """Bytes of the longest known plaintext."""

    def __init__(
        self,
        name: str,
        differences: Callable[[bytes], bytes],
        key_of: Callable[[int, int], int],
        decipher: Callable[[int, int], int],
        trivial: bytes,
    ) -> None:
        self.name = name
        self._differences = differences
        self.key_of = key_of
        self._decipher = decipher
        self._trivial = trivial
        needles: dict[bytes, list[_Clue]] = defaultdict(list)
        for plaintext in (*_STUBS, _EICAR, *_PHRASES, *_elf_headers()):
            for skipped in range(_LAG):
                sample = plaintext[skipped::_LAG]
                needles[differences(sample)[:-1]].append(_Clue(plaintext, skipped))
        self.needles = tuple(needles)
        """What `sample` of a program holds."""
        self._clues = tuple(needles.values())

    def sample(self, data: Data, start: int, end: int) -> bytes:
        """Differences of the bytes at every fourth offset from ``start``."""
        sample = data[start : end : self.STRIDE]
        return b"".join(
            self._differences(sample[at : at + _CHUNK + 1])[:_CHUNK]
            for at in range(0, len(sample), _CHUNK)
        )

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance, *, needle: int
    ) -> Iterator[Unwrapped]:
        """Decipher what surrounds a plaintext; the needle of that number is at ``hit``.

        The key in the name is the one from the first byte of the run on.
        """
        for plaintext, skipped in self._clues[needle]:
            start = hit - skipped
            end = start + len(plaintext)
            key = self._key(plaintext, data[start:end]) if start >= low and end <= high else None
            if key is not None:
                first, last = _window(start, low, high, allowance)
                turned = bytes(key[(first - start + index) % _LAG] for index in range(_LAG))
                content = bytearray(data[first:last])
                for index in range(_LAG):
                    content[index::_LAG] = content[index::_LAG].translate(self.table(turned[index]))
                name = f"{self.name} 0x{_shortest(turned).hex().upper()}"
                known = (start, end) if plaintext in _STUBS else None
                yield Unwrapped(first, last, bytes(content), name, known=known)
                return

    def _key(self, plaintext: bytes, seen: bytes) -> bytes | None:
        """The key under which ``seen`` is the plaintext."""
        key = bytes(map(self.key_of, plaintext[:_LAG], seen[:_LAG]))
        tables = [self.table(byte) for byte in key]
        for index, table in enumerate(tables):
            if seen[index::_LAG].translate(table) != plaintext[index::_LAG]:
                return None
        return key if key.strip(self._trivial) else None

    @cache  # noqa: B019 - there are two such objects, both constants
    def table(self, key: int) -> bytes:
        """How one byte of the key deciphers each byte."""
        return bytes(self._decipher(byte, key) for byte in range(256))


def _shortest(key: bytes) -> bytes:
    """The key without repetition."""
    if key[:2] != key[2:]:
        return key
    return key[:2] if key[0] != key[1] else key[:1]


XOR = Keyed("xor", _xor_differences, lambda plain, seen: plain ^ seen, lambda b, k: b ^ k, b"\0")
# To add 0x80 is to XOR with it.
ADD = Keyed(
    "add",
    _add_differences,
    lambda plain, seen: (seen - plain) & 0xFF,
    lambda b, k: (b - k) & 0xFF,
    b"\0\x80",
)


# ---------------------------------------------------------------------- without a key


def _hex(raw: bytes) -> str:
    return f"{{ {raw.hex(' ')} }}"


class Rotated:
    """Every byte rotated to the left by some bits.

    Args:
        bits: 1 to 7.
    """

    def __init__(self, bits: int) -> None:
        self._name = f"rotate {bits}"
        forward = bytes((byte << bits | byte >> 8 - bits) & 0xFF for byte in range(256))
        self.table = bytes(forward.index(byte) for byte in range(256))
        """How each byte is rotated back."""
        self.triggers = tuple(_hex(each.translate(forward)) for each in _KNOWN)
        self.rare = tuple(_hex(each.translate(forward)) for each in _RARE)

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Rotate back what surrounds the plaintext at ``hit``."""
        start, end = _window(hit, low, high, allowance)
        yield Unwrapped(start, end, data[start:end].translate(self.table), self._name)


class Reversed:
    """The last byte first."""

    triggers = tuple(_hex(each[::-1]) for each in _KNOWN)
    rare = tuple(_hex(each[::-1]) for each in _RARE)

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Turn round what surrounds the plaintext at ``hit``: its start is behind it."""
        end = min(high, hit + _BEFORE)
        start = max(low, hit - _BEHIND, end - allowance.room)
        yield Unwrapped(start, end, data[start:end][::-1], "reversed")


class Swapped:
    """Numbers of some bytes in the other byte order.

    Args:
        width: Bytes of a number, 2 or 4.
    """

    _SHORTEST = 7
    """Of a plaintext less is left where its place is not known, but no less than this."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.triggers = self._forms(_KNOWN)
        self.rare = self._forms(_RARE)

    def _forms(self, known: Iterable[bytes]) -> tuple[str, ...]:
        width = self._width
        forms = (
            self._swap(each[skipped : len(each) - (len(each) - skipped) % width])
            for each in known
            for skipped in range(width)
        )
        return tuple(dict.fromkeys(_hex(form) for form in forms if len(form) >= self._SHORTEST))

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Swap back what surrounds the plaintext at ``hit``."""
        start, end = _window(hit, low, high, allowance)
        start += (hit - start) % self._width
        end -= (end - start) % self._width
        yield Unwrapped(start, end, self._swap(data[start:end]), f"swapped {8 * self._width}")

    def _swap(self, raw: bytes) -> bytes:
        swapped = bytearray(raw)
        for index in range(self._width):
            swapped[index :: self._width] = raw[self._width - 1 - index :: self._width]
        return bytes(swapped)


ROTATED = tuple(Rotated(bits) for bits in range(1, 8))


class XoredWords:
    """XOR with one byte, shown by a word; in pixels only phrases do, as under any key."""

    _SOUGHT = tuple(word for word in (*_ELF_MAGIC, *_WORDS) if len(word) >= 7)
    triggers = tuple(
        f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in word)}" xor(0x01-0xff)' for word in _SOUGHT
    )
    rare: tuple[str, ...] = ()

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Decipher what surrounds the word at ``hit`` by the key that makes it one."""
        for word in self._SOUGHT:
            key = data[hit] ^ word[0]
            seen = data[hit : min(hit + len(word), high)]
            if key and seen.translate(XOR.table(key)) == word:
                start, end = _window(hit, low, high, allowance)
                content = data[start:end].translate(XOR.table(key))
                yield Unwrapped(start, end, content, f"xor 0x{key:02X}")
                return


class HiddenStart:
    """A value whose first bytes are a known format's under XOR or addition, every byte by the same.

    Of a compressed stream nothing else shows.
    """

    _MINIMUM = 32
    _BEHIND_LENGTH = 4
    _MAGICS = (
        b"\x1f\x8b\x08\0", b"PK\3\4", b"\xfd7zXZ\0", b"BZh91AY", b"\x28\xb5\x2f\xfd", b"Rar!\x1a\7",
        b"7z\xbc\xaf\x27\x1c", b"\xca\xfe\xba\xbe\0", b"%PDF-", b"MSCF\0\0\0\0",
        b"\xd0\xcf\x11\xe0\xa1", b"\x80\4\x95", b"\x80\2c", b"\x80\3c", b"L\0\0\0\1\x14\2\0",
        b"\xac\xed\0\5", b"\xcf\xfa\xed\xfe", b"\0\1\0\0\0\xff\xff\xff\xff", b"\0asm\1",
    )  # fmt: skip
    _ZLIB = (b"\x78\x9c", b"\x78\xda", b"\x78\x01", b"\x78\x5e")
    _PROBE = 1 << 10
    _INFLATED = 64

    def unwrap(
        self, data: Data, _hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Decipher the value."""
        for start in (low, low + self._BEHIND_LENGTH):
            head = data[start : min(start + self._PROBE, high)]
            if len(head) < self._MINIMUM:
                return
            for magic in (*self._MAGICS, *self._ZLIB):
                for keyed in (XOR, ADD):
                    key = keyed.key_of(magic[0], head[0])
                    table = keyed.table(key)
                    if not key or head[: len(magic)].translate(table) != magic:
                        continue
                    if magic in self._ZLIB and not self._inflates(head.translate(table)):
                        continue
                    end = min(high, start + allowance.room)
                    content = data[start:end].translate(table)
                    yield Unwrapped(start, end, content, f"{keyed.name} 0x{key:02X}")
                    return

    def _inflates(self, head: bytes) -> bool:
        stream = zlib.decompressobj()
        try:
            made = len(stream.decompress(head))
        except zlib.error:
            return False
        return made >= (MIN_CONTENT if stream.eof else self._INFLATED)


# ---------------------------------------------------------------------- text


class HiddenText:
    """A value that is text under XOR, addition or rotation, every byte by the same.

    Text has few different bytes and one that is more frequent than others; of the keys that make
    nothing but text of the value, the likeliest are tried.
    """

    _SAMPLE = 256
    _MINIMUM = 32
    _DIFFERENT = range(12, 97)
    _TEXT = bytes(range(0x20, 0x7F)) + b"\t\n\r"
    _FREQUENT = b" etaoinsrl\n"
    _LIKELY = 0.35
    """The least share of frequent characters; in random text they are a ninth, in prose half."""
    _TRIED = 3

    def unwrap(
        self, data: Data, _hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Decipher the value."""
        sample = data[low : min(low + self._SAMPLE, high)].rstrip(b"\0")
        if len(sample) < self._MINIMUM or not sample.translate(None, self._TEXT):
            return
        different = bytes(set(sample))
        if len(different) not in self._DIFFERENT:
            return
        candidates = []
        for name, table in self._tables(sample):
            if not different.translate(table).translate(None, self._TEXT):
                share = self._share_of_frequent(sample.translate(table))
                if share >= self._LIKELY:
                    candidates.append((share, name, table))
        candidates.sort(reverse=True)
        end = min(high, low + allowance.room)
        for _, name, table in candidates[: self._TRIED]:
            yield Unwrapped(low, end, data[low:end].translate(table), name)

    def _tables(self, sample: bytes) -> Iterator[tuple[str, bytes]]:
        for rotated in ROTATED:
            yield rotated._name, rotated.table  # noqa: SLF001
        commonest = max(set(sample), key=sample.count)
        if not commonest:  # numbers, most of them small
            return
        for plain in self._FREQUENT:
            key = commonest ^ plain
            yield f"xor 0x{key:02X}", XOR.table(key)
            key = (commonest - plain) & 0xFF
            yield f"add 0x{key:02X}", ADD.table(key)

    def _share_of_frequent(self, text: bytes) -> float:
        return 1 - len(text.translate(None, self._FREQUENT)) / len(text)
