"""Bytes under a simple cipher: XOR or addition with a key, rotation, reversal, swapped bytes.

Nothing is tried on everything. Programs have plaintext that is known, and each cipher leaves
something of it as it is, which is what is sought:

* A key of one, two or four bytes repeats after four, so the difference of two bytes four apart is
  that of the plaintext; where the key is one byte, so is the difference of neighbours.
* Rotation, reversal and swapping have no key: the known plaintext has one form under each.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

from dicomguard.patterns import MATCH_LIMIT, Literals, windows
from dicomguard.payloads.payload import Data
from dicomguard.payloads.wrappings.wrapping import MIN_CONTENT, Allowance, Unwrapped
from dicomguard.runs import PRINTABLE
from dicomguard.xor import differences as xor_differences

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

_NEEDLE, _TAIL = 6, 3
"""Differences of a known plaintext that are sought, and how many of the last Hyperscan goes by."""
_LARGE = 0x40
"""A last one from which on Hyperscan looks at few of the others, as measured."""


def _rarest(differences: bytes) -> int:
    """Where those begin that are sought: pixels differ little from their neighbours."""

    def rarity(end: int) -> tuple[bool, int]:
        tail = differences[end - _TAIL : end]
        return tail[-1] >= _LARGE and min(tail) > 0, min(tail)

    return max(range(_NEEDLE, len(differences) + 1), key=rarity) - _NEEDLE


def _add_differences(data: bytes | memoryview, lag: int) -> bytes:
    """Each byte less the one that follows, modulo 256, all in one subtraction.

    The highest bit of each byte is set in the one number and cleared in the other, so that nothing
    is borrowed from the next byte, and put right afterwards.
    """
    size = len(data)
    high_bits = int.from_bytes(b"\x80" * size, "little")
    one = int.from_bytes(data, "little")
    following = one >> 8 * lag
    # Numbers below zero, as `~` makes, cost as much again.
    difference = (one | high_bits) - ((following | high_bits) ^ high_bits)
    difference ^= (one ^ following ^ high_bits) & high_bits
    return difference.to_bytes(size, "little")[:-lag]


class Keyed:
    """XOR or addition with a key that repeats.

    Args:
        name: Of the cipher.
        lag: Bytes after which the key repeats.
        known: Plaintexts that programs hold.
        differences: Of each byte of some data and the one that follows at a distance.
        key_of: The key's byte from one of the plaintext and one of the ciphertext.
        decipher: The plaintext's byte from one of the ciphertext and one of the key.
        trivial: Bytes of keys that another cipher does as well, or that change nothing.
    """

    def __init__(
        self,
        name: str,
        *,
        lag: int,
        known: Iterable[bytes],
        differences: Callable[[bytes | memoryview, int], bytes],
        key_of: Callable[[int, int], int],
        decipher: Callable[[int, int], int],
        trivial: bytes,
    ) -> None:
        self.name = name
        self._lag = lag
        self._differences = differences
        self.key_of = key_of
        self._decipher = decipher
        self._trivial = trivial
        plaintexts: dict[tuple[int, bytes], list[bytes]] = defaultdict(list)
        for plaintext in known:
            of_it = differences(plaintext, lag)
            start = _rarest(of_it)
            plaintexts[start, of_it[start : start + _NEEDLE]].append(plaintext)
        self._plaintexts = tuple(plaintexts.values())
        self._ends = tuple(start + _NEEDLE for start, _ in plaintexts)
        """Where in these ends what is sought."""
        self._patterns = Literals([needle for _, needle in plaintexts])

    def prepare(self) -> None:
        """Compile what is sought, once for several processes."""
        self._patterns.compile()

    def search(self, data: Data, allowance: Allowance) -> Iterator[tuple[int, int]]:
        """Where known plaintext may be, in order, and a number for which."""
        for start, end, window in windows(data, _NEEDLE + self._lag):
            if start and allowance.is_spent:
                return
            found = self._patterns.occurrences(self._differences(window, self._lag))
            if len(found) == MATCH_LIMIT:
                allowance.limits.append(f"too much resembles programs under the cipher {self.name}")
            here = end - start + _NEEDLE
            hits = [(start + at - self._ends[number], number) for at, number in found if at < here]
            yield from sorted(hit for hit in hits if hit[0] >= 0)

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance, *, number: int
    ) -> Iterator[Unwrapped]:
        """Decipher what surrounds the plaintext of that number, if it is at ``hit``.

        The key in the name is the one from the first byte of the run on.
        """
        for plaintext in self._plaintexts[number]:
            end = hit + len(plaintext)
            key = self._key(plaintext, data[hit:end]) if hit >= low and end <= high else None
            if key is not None:
                first, last = _window(hit, low, high, allowance)
                turned = bytes(key[(first - hit + index) % len(key)] for index in range(len(key)))
                content = bytearray(data[first:last])
                for index, byte in enumerate(turned):
                    part = slice(index, None, len(key))
                    content[part] = content[part].translate(self.table(byte))
                name = f"{self.name} 0x{_shortest(turned).hex().upper()}"
                known = (hit, end) if plaintext in _STUBS else None
                yield Unwrapped(first, last, bytes(content), name, known=known)
                return

    def _key(self, plaintext: bytes, seen: bytes) -> bytes | None:
        """The key under which ``seen`` is the plaintext."""
        lag = self._lag
        key = bytes(map(self.key_of, plaintext[:lag], seen[:lag]))
        for index, byte in enumerate(key):
            if seen[index::lag].translate(self.table(byte)) != plaintext[index::lag]:
                return None
        return key if key.strip(self._trivial) else None

    @cache  # noqa: B019 - such objects are constants
    def table(self, key: int) -> bytes:
        """How one byte of the key deciphers each byte."""
        return bytes(self._decipher(byte, key) for byte in range(256))


def _shortest(key: bytes) -> bytes:
    """The key without repetition."""
    if key[:2] != key[2:]:
        return key
    return key[:2] if key[0] != key[1] else key[:1]


def _xor(one: int, other: int) -> int:
    return one ^ other


_LONG_KEY, _SHORT_KEY = 4, 1
_SHOWN = (*_STUBS, _EICAR, *_PHRASES, *_elf_headers())
"""Long enough to show through a key of four bytes."""

XOR = Keyed(
    "xor",
    lag=_LONG_KEY,
    known=_SHOWN,
    differences=xor_differences,
    key_of=_xor,
    decipher=_xor,
    trivial=b"\0",
)
ADD = Keyed(
    "add",
    lag=_LONG_KEY,
    known=_SHOWN,
    differences=_add_differences,
    key_of=lambda plain, seen: (seen - plain) & 0xFF,
    decipher=lambda byte, key: (byte - key) & 0xFF,
    trivial=b"\0\x80",  # to add 0x80 is to XOR with it
)
XORED_WORDS = Keyed(
    "xor",
    lag=_SHORT_KEY,
    known=tuple(word for word in (*_ELF_MAGIC, *_WORDS) if len(word) >= 7),
    differences=xor_differences,
    key_of=_xor,
    decipher=_xor,
    trivial=b"\0",
)
"""XOR with one byte, shown by a word; in pixels only phrases do, as under any key."""


# ---------------------------------------------------------------------- without a key


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
        self.forms = tuple(each.translate(forward) for each in _KNOWN)
        self.rare = tuple(each.translate(forward) for each in _RARE)

    def unwrap(
        self, data: Data, hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Rotate back what surrounds the plaintext at ``hit``."""
        start, end = _window(hit, low, high, allowance)
        yield Unwrapped(start, end, data[start:end].translate(self.table), self._name)


class Reversed:
    """The last byte first."""

    forms = tuple(each[::-1] for each in _KNOWN)
    rare = tuple(each[::-1] for each in _RARE)

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
        self.forms = self._forms(_KNOWN)
        self.rare = self._forms(_RARE)

    def _forms(self, known: Iterable[bytes]) -> tuple[bytes, ...]:
        width = self._width
        forms = (
            self._swap(each[skipped : len(each) - (len(each) - skipped) % width])
            for each in known
            for skipped in range(width)
        )
        return tuple(dict.fromkeys(form for form in forms if len(form) >= self._SHORTEST))

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
            for keyed, magic in self._likely(head):
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

    def _likely(self, head: bytes) -> Iterator[tuple[Keyed, bytes]]:
        """Magics that begin with the same difference, which no key changes."""
        for keyed in (XOR, ADD):
            difference = keyed.key_of(head[1], head[0])
            for magic in self._by_difference(keyed)[difference]:
                yield keyed, magic

    @cache  # noqa: B019 - there is one such object, a constant
    def _by_difference(self, keyed: Keyed) -> Mapping[int, Sequence[bytes]]:
        magics: dict[int, list[bytes]] = {byte: [] for byte in range(256)}
        for magic in (*self._MAGICS, *self._ZLIB):
            magics[keyed.key_of(magic[1], magic[0])].append(magic)
        return magics

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
    _FREQUENT = b" etaoinsrl\n"
    _LIKELY = 0.35
    """The least share of frequent characters; in random text they are a ninth, in prose half."""
    _TRIED = 3

    def unwrap(
        self, data: Data, _hit: int, low: int, high: int, allowance: Allowance
    ) -> Iterator[Unwrapped]:
        """Decipher the value."""
        sample = data[low : min(low + self._SAMPLE, high)].rstrip(b"\0")
        if len(sample) < self._MINIMUM or not sample.translate(None, PRINTABLE):
            return
        different = bytes(set(sample))
        if len(different) not in self._DIFFERENT:
            return
        candidates = []
        for name, table in self._tables(sample):
            if not different.translate(table).translate(None, PRINTABLE):
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
