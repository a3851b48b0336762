"""A layout serves again only for a file of which the walk would make the same."""

from __future__ import annotations

import random

import pytest

from dicomguard.dicom.budgets import Budgets
from dicomguard.dicom.recurring import Layouts
from dicomguard.dicom.walker import walk
from fixtures.build import all_fixtures
from fixtures.carriers import carrier
from fixtures.described import described
from fixtures.dicomfile import bundled, element, private, sequence

FILES = {
    "ct": lambda: carrier().data,
    "nested": lambda: (
        carrier().with_(sequence(0x00081140, element(0x00080100, "SH", b"T-1").encoded * 1)).data
    ),
    "private": lambda: carrier().with_(*private(random.Random(1).randbytes(64))).data,
    "implicit": lambda: carrier("MR_small_implicit.dcm").data,
    "implicit, nested": lambda: carrier("rtplan.dcm").data,
    "unknown": lambda: carrier().with_(element(0x00091001, "UN", bytes(16))).data,
}


def kept(*files: bytes) -> Layouts:
    """Layouts that remember those of some files."""
    layouts = Layouts(Budgets())
    for data in files:
        for _ in range(2):  # a size must have come before
            layouts.of(data)
    return layouts


@pytest.mark.parametrize("name", FILES)
def test_any_other_byte_gets_the_layout_it_has(name: str) -> None:
    data = FILES[name]()
    layouts = kept(data)
    chance = random.Random(name)
    served = 0
    for at in range(min(len(data), 2200)):
        mutant = bytearray(data)
        mutant[at] = chance.choice((0, 0xFF, 0x53, 0x51, mutant[at] ^ 1 << chance.randrange(8)))
        layout = layouts.of(bytes(mutant))
        if layout is layouts.of(data):
            assert list(described(layout)) == list(described(walk(bytes(mutant)))), at
            served += 1
    assert served > 100


def test_files_get_the_layouts_they_have() -> None:
    """Among all others, in any order."""
    files = [each.data for each in all_fixtures().values() if len(each.data) < 1 << 20]
    layouts = Layouts(Budgets())
    chance = random.Random(0)
    for _ in range(3):
        chance.shuffle(files)
        for data in files:
            assert list(described(layouts.of(data))) == list(described(walk(data)))


def test_a_series_is_walked_once() -> None:
    first, second, third = (
        carrier().with_(element(0x00200013, "IS", number)).data for number in (b"1 ", b"2 ", b"3 ")
    )
    layouts = kept(first)
    assert layouts.of(second) is layouts.of(third) is layouts.of(first)


def test_another_creator_is_another_layout() -> None:
    data = carrier().with_(*private(bytes(8))).data
    (creator,) = [each.creator for each in walk(data).elements if each.creator]
    other = data.replace(creator.encode(), creator.encode().swapcase())
    layouts = kept(data)
    assert layouts.of(other) is not layouts.of(data)
    assert creator.swapcase() in {each.creator for each in layouts.of(other).elements}


@pytest.mark.parametrize("name", ["image_dfl.dcm", "MR_small_bigendian.dcm"])
def test_what_is_not_plain_is_walked_each_time(name: str) -> None:
    data = bundled(name).data
    layouts = kept(data)
    assert layouts.of(data) is not layouts.of(data)
