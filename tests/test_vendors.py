"""The table of vendors: every entry is used as it is meant, and known forms are of the bytes."""

import pytest

from dicomguard.detectors import vendors

FORMS = [
    (creator, held) for creator in vendors.creators() for held in creator.elements if held.begins
]


def test_names_are_listed_once() -> None:
    names = [each.name for each in vendors.creators()]
    assert len(names) == len(set(names))


def test_a_star_stands_for_anything_and_nothing_else_does() -> None:
    philips = vendors.creator("Philips US Imaging DD 033")
    assert philips is not None
    assert philips.vendor == "Philips"
    assert vendors.creator("CTP") is not None
    assert vendors.creator("CTPX") is None
    assert vendors.creator("*") is None
    assert vendors.creator("") is None


def test_an_element_is_known_in_any_block() -> None:
    siemens = vendors.creator("SIEMENS CSA HEADER")
    assert siemens is not None
    for block in (0x10, 0x42, 0xFF):
        held = siemens.held(0x0029 << 16 | block << 8 | 0x10)
        assert held is not None
        assert held.holds == "CSA image header"
    assert siemens.held(0x00291011) is None
    assert siemens.held(0x00191010) is None


@pytest.mark.parametrize(("creator", "held"), FORMS, ids=lambda each: getattr(each, "tag", ""))
def test_a_form_is_not_that_of_anything(creator: vendors.Creator, held: vendors.Held) -> None:
    for other in (b"", bytes(64), b"\xff" * 64, b"MZ\x90\0" * 16, b"REMOVED BY AN ANONYMISER"):
        assert not held.is_of(other), creator.name


@pytest.mark.parametrize(
    ("name", "tag", "value"),
    [
        ("SIEMENS CSA HEADER", 0x00291010, b"SV10\4\3\2\1e\0\0\0"),
        ("SIEMENS CSA HEADER", 0x00291020, b"O\0\0\0M\0\0\0"),
        ("SIEMENS MR SDS 01", 0x00211019, b"<XProtocol> \n{"),
        ("GEMS_SERS_01", 0x0025101B, b"\x10\3\0\0\x1f\x8b\x08\0"),
        ("TOSHIBA_MEC_MR3^10", 0x700D1019, b'<?xml version="1.0"?>'),
    ],
)
def test_a_form_is_known_either_way_round(name: str, tag: int, value: bytes) -> None:
    creator = vendors.creator(name)
    assert creator is not None
    held = creator.held(tag)
    assert held is not None
    swapped = b"".join(value[at : at + 2][::-1] for at in range(0, len(value) & ~1, 2))
    assert held.is_of(value)
    assert held.is_of(swapped)
