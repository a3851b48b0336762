"""Encodings that are decoded here are decoded as the standard library does."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

import pytest

from dicomguard.dicom.budgets import Budgets
from dicomguard.payloads.wrappings import Wrapping
from dicomguard.payloads.wrappings.base85 import ASCII85, BASE85
from dicomguard.payloads.wrappings.encodings import Base64, Utf16
from dicomguard.unwrap import allowance_for

Code = Callable[[bytes], bytes]
CODES: dict[str, tuple[Wrapping, Code, Code]] = {
    "base85": (BASE85, base64.b85encode, base64.b85decode),
    "ascii85": (ASCII85, base64.a85encode, base64.a85decode),
    "base32": (Base64(), lambda raw: base64.b32encode(raw).rstrip(b"="), base64.b32decode),
}


def decoded(wrapping: Wrapping, text: bytes) -> list[bytes]:
    allowance = allowance_for(len(text), Budgets())
    return [each.content for each in wrapping.unwrap(text, 0, 0, len(text), allowance)]


@pytest.mark.parametrize("size", range(300, 316))
@pytest.mark.parametrize("code", list(CODES))
def test_any_number_of_bytes_is_decoded(code: str, size: int) -> None:
    wrapping, encode, _ = CODES[code]
    raw = b"".join((b"MZ", random.Random(size).randbytes(size - 10), bytes(8)))
    assert decoded(wrapping, encode(raw))[0] == raw


@pytest.mark.parametrize("skipped", range(8))
@pytest.mark.parametrize("code", list(CODES))
def test_characters_before_the_first_do_not_matter(code: str, skipped: int) -> None:
    wrapping, encode, _ = CODES[code]
    raw = b"MZ\x90\0" + random.Random(code).randbytes(311)
    assert any(raw in each for each in decoded(wrapping, b"A" * skipped + encode(raw)))


@pytest.mark.parametrize(("code", "group"), [("base85", b"~~~~~"), ("ascii85", b"uuuuu")])
def test_what_is_beyond_32_bits_is_not_decoded(code: str, group: bytes) -> None:
    wrapping, encode, decode = CODES[code]
    text = encode(random.Random(code).randbytes(320))
    assert decoded(wrapping, text)
    with pytest.raises(ValueError, match="overflow"):
        decode(text + group)
    assert decoded(wrapping, text + group) == []


def test_zeros_within_a_group_are_none() -> None:
    raw = random.Random("zeros").randbytes(320)
    text = base64.a85encode(raw)
    assert decoded(ASCII85, text + b"z") == [raw + bytes(4)]
    assert decoded(ASCII85, text[:-1] + b"z") == []


def test_wide_text_is_found_in_order_whichever_byte_is_first() -> None:
    wide = [f"the text number {at}, of enough characters".encode("utf-16-le") for at in range(4)]
    data = b"\xff\xff" + wide[0] + b"\xff" + wide[1] + b"\xff\xff" + wide[2] + b"\xff" + wide[3]
    assert [data.index(each) for each in wide] == list(Utf16().search(data))
