"""What may be text among pixels is gathered, whatever is around it, and leads back to its place."""

from __future__ import annotations

import random

import pytest

from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import walk
from dicomguard.gather import Where, gather
from fixtures.carriers import carrier, with_pixels

SIZE = 1 << 16
TEXT = b"nine char"
WIDE = ("fifty characters of UTF-16, as a script has " * 2)[:50].encode("utf-16-le")

BACKGROUNDS = {
    "zeros": lambda _: bytes(SIZE),
    "random": lambda chance: chance.randbytes(SIZE),
    "11 bits": lambda chance: bytes(
        byte for _ in range(SIZE // 2) for byte in chance.randrange(2048).to_bytes(2, "little")
    ),
    "dark": lambda chance: bytes(
        byte for _ in range(SIZE // 2) for byte in (chance.randrange(80), 0)
    ),
    "letters": lambda chance: bytes(chance.choices(b"ab\x80", k=SIZE)),
}


def source_of(pixels: bytes) -> Source:
    data = with_pixels(carrier(), pixels).data
    layout = walk(data)
    return Source(data=data, layout=layout, file=layout)


@pytest.mark.parametrize("text", [TEXT, WIDE], ids=["ascii", "wide"])
@pytest.mark.parametrize("background", list(BACKGROUNDS))
def test_text_among_pixels_is_gathered_whole(background: str, text: bytes) -> None:
    chance = random.Random(background)
    pixels = BACKGROUNDS[background](chance)
    for at in [*range(13), *range(SIZE - len(text) - 13, SIZE - len(text)), SIZE // 2 + 1]:
        source = source_of(pixels[:at] + text + pixels[at + len(text) :])
        buffer = gather(source, Where.PRINTABLE)
        found = bytes(buffer.data).find(text)
        assert found >= 0, at
        origin = buffer.origin(found, len(text))
        assert origin is not None, at
        assert source.data[origin : origin + len(text)] == text


@pytest.mark.parametrize("text", [TEXT * 90, WIDE * 9], ids=["ascii", "wide"])
@pytest.mark.parametrize("before", [1, 60, 120, 240, 800])
def test_text_across_windows_is_one_piece(text: bytes, before: int) -> None:
    at = (1 << 19) - before
    pixels = b"\x90" * at + text + b"\x90" * 999
    buffer = gather(source_of(pixels), Where.PRINTABLE)
    raw = bytes(buffer.data)
    assert raw.count(text) == 1
    assert buffer.origin(raw.find(text), len(text)) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"<script>\f\f\falert(1)\f\f\f</script\f>",
        b"<script\f\fsrc=//a.example/x>\f</script\f>",
    ],
)
@pytest.mark.parametrize("at", [100, 101, 102])
def test_what_parts_short_text_is_gathered_with_it(text: bytes, at: int) -> None:
    pixels = b"\x90" * at + text + b"\x90" * (SIZE - at)
    assert text in bytes(gather(source_of(pixels), Where.PRINTABLE).data)


def test_pixels_that_cannot_be_text_are_left_out() -> None:
    source = source_of(BACKGROUNDS["11 bits"](random.Random(0)))
    assert len(gather(source, Where.PRINTABLE).data) < len(source.data) - SIZE // 2


@pytest.mark.parametrize("text", [TEXT[1:], WIDE[2:]], ids=["ascii", "wide"])
@pytest.mark.parametrize("byte", [b"\xff", b"\x80"])
def test_what_is_too_short_is_left_out(byte: bytes, text: bytes) -> None:
    pixels = byte * 999 + text + byte * 999
    assert text not in bytes(gather(source_of(pixels), Where.PRINTABLE).data)


def test_what_is_full_of_runs_is_not_copied() -> None:
    source = source_of(BACKGROUNDS["letters"](random.Random(0)))
    assert gather(source, Where.PRINTABLE).data is source.data


def test_windows_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomguard.gather._WINDOW", 96)
    for at in range(300):
        pixels = bytes(at) + WIDE + bytes(600 - at)
        buffer = gather(source_of(pixels), Where.PRINTABLE)
        assert WIDE in bytes(buffer.data), at
