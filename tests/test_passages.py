"""Passages hold every text in which something is encoded, and lead back to its place."""

from __future__ import annotations

import base64
import random
from itertools import pairwise

import pytest

from dicomguard import passages as module
from dicomguard.dicom.layout import Layout
from dicomguard.dicom.source import Source
from dicomguard.gather import Buffer, Where, gather
from dicomguard.passages import SHORTEST, Passages
from dicomguard.payloads.wrappings import BY_SEARCH
from dicomguard.payloads.wrappings.encodings import BrokenWords

CONTENT = random.Random("content").randbytes(60)
TEXTS = {
    "base64": base64.b64encode(CONTENT),
    "base85": base64.b85encode(CONTENT),
    "ascii85": base64.a85encode(CONTENT),
    "numbers": CONTENT.hex().encode(),
    "carets": b"^a^b^cd^ef^ghi^jkl^m",
    "backticks": b"p`ow`er shell -enc",
    "strings": b'"power" + "shell" -enc',
}
BACKGROUNDS = {
    "random": random.Random(1).randbytes(1 << 16),
    "zeros": bytes(1 << 16),
    "letters": bytes(random.Random(2).choices(b"abc^`\x80\n", k=1 << 16)),
}


def buffer_of(data: bytes) -> Buffer:
    layout = Layout(size=len(data))
    return gather(Source(data=data, layout=layout, file=layout), Where.FILE)


def among(text: bytes, background: str, at: int) -> bytes:
    data = BACKGROUNDS[background]
    return b"".join((data[:at], b"\0", text, b"\0", data[at:]))


@pytest.mark.parametrize("background", list(BACKGROUNDS))
@pytest.mark.parametrize("text", list(TEXTS))
def test_what_is_encoded_is_found_in_passages(text: str, background: str) -> None:
    for at in (0, 1000, 1 << 16):
        buffer = buffer_of(among(TEXTS[text], background, at))
        passages = Passages(buffer)
        assert len(passages.data) < len(buffer.data)
        hits = 0
        for wrapping in BY_SEARCH:
            if not wrapping.is_printable:
                continue
            everywhere = list(wrapping.search(buffer.data))
            there = [passages.origin(hit, 1) for hit in wrapping.search(passages.data)]
            hits += len({hit for hit in there if hit and at < hit <= at + len(TEXTS[text])})
            if isinstance(wrapping, BrokenWords):  # in shorter ones there may be words, too few
                assert set(there) <= set(everywhere)
            else:
                assert there == everywhere
        assert hits


def test_they_are_the_runs_of_printable_characters() -> None:
    characters = b"\t\n\r\x1f\x20Az\x7e\x7f\x80\0"
    weights = [20] * 3 + [1] + [20] * 4 + [1] * 3
    data = bytes(random.Random(3).choices(characters, weights, k=1 << 17))
    edges = [-1, *(at for at, byte in enumerate(data) if byte in b"\x1f\x7f\x80\0"), len(data)]
    runs = [data[one + 1 : other] for one, other in pairwise(edges)]
    passages = Passages(buffer_of(data))
    assert passages.data.split(b"\0") == [run for run in runs if len(run) >= SHORTEST]
    for at, byte in enumerate(passages.data):
        if byte:
            origin = passages.origin(at, 1)
            assert origin is not None
            assert data[origin] == byte


@pytest.mark.parametrize(
    ("limit", "value"), [("_MOST", 2), ("_SIZES", range(100)), ("_SIZES", range(1000, 2000))]
)
def test_otherwise_all_is_searched(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: object
) -> None:
    monkeypatch.setattr(module, "_SIZES", range(1000))
    data = b"\1".join([b"x" * 40] * 3)
    assert len(Passages(buffer_of(data + b"\1\1")).data) == len(data)
    monkeypatch.setattr(module, limit, value)
    passages = Passages(buffer_of(data))
    assert passages.data == data
    assert passages.origin(100, 1) == 100
