"""The dictionary answers as pydicom's own functions do, without importing the pydicom package."""

from __future__ import annotations

import subprocess
import sys
from ast import literal_eval

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._private_dict import private_dictionaries
from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_VR, private_dictionary_VR

from dicomguard.dicom import dictionary
from dicomguard.dicom.vr import LONG_TEXT_VRS, LONG_VRS, SHORT_VRS, TEXT_VRS, VRS


def pydicom_vr(tag: int) -> str | None:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return None


def test_every_public_element() -> None:
    for tag in DicomDictionary:
        assert dictionary.public_vr(tag) == pydicom_vr(tag)


@pytest.mark.parametrize("mask", sorted(RepeatersDictionary))
@pytest.mark.parametrize("digit", "02468ACE")
def test_every_repeating_group(mask: str, digit: str) -> None:
    tag = int(mask.replace("x", digit), 16)
    assert dictionary.public_vr(tag) == pydicom_vr(tag) is not None


@given(st.integers(0, 0xFFFFFFFF))
def test_any_tag(tag: int) -> None:
    assert dictionary.public_vr(tag) == pydicom_vr(tag)


@pytest.mark.parametrize("tag", [0x50010010, 0x60013000, 0x00090010, 0xFFFFFFFF])
def test_what_is_not_public(tag: int) -> None:
    assert dictionary.public_vr(tag) is None


def test_every_private_element() -> None:
    for creator, entries in private_dictionaries.items():
        assert dictionary.is_known_creator(creator)
        block = dictionary._private_blocks()[repr(creator)]
        assert block.count("': (") == len(entries)
        for mask, entry in entries.items():
            assert literal_eval(dictionary._line(block, mask)) == entry
            if not mask.endswith("xx"):  # a creator's own number, which is never looked up
                tag = int(mask.replace("xxxx", "0110").replace("xx", "10"), 16)
                assert dictionary.private_vr(tag, creator) == private_dictionary_VR(tag, creator)


@pytest.mark.parametrize(
    ("tag", "creator", "vr"),
    [
        (0x01F11026, "ELSCINT1", "FD"),
        (0x01F11126, "ELSCINT1", "DS"),
        (0x600110C0, "PAPYRUS 3.0", "SQ"),
    ],
)
def test_the_most_exact_private_entry_counts(tag: int, creator: str, vr: str) -> None:
    assert dictionary.private_vr(tag, creator) == vr == private_dictionary_VR(tag, creator)


def test_a_private_element_of_any_block() -> None:
    assert dictionary.private_vr(0x00091001, "GEMS_IDEN_01") == "LO"
    assert dictionary.private_vr(0x0009FF01, "GEMS_IDEN_01") == "LO"
    assert dictionary.private_vr(0x000910FE, "GEMS_IDEN_01") is None
    assert dictionary.private_vr(0x00111001, "GEMS_IDEN_01") is None


@pytest.mark.parametrize("creator", ["", "gems_iden_01", "GEMS_IDEN_01 ", "DICOMGUARD FIXTURE"])
def test_an_unknown_creator(creator: str) -> None:
    assert not dictionary.is_known_creator(creator)
    assert dictionary.private_vr(0x00091001, creator) is None


def test_transfer_syntaxes() -> None:
    known = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert {uid for uid in UID_dictionary if dictionary.is_transfer_syntax(uid)} == known
    assert "1.2.840.10008.1.2.2" in known, "retired ones count"
    assert not dictionary.is_transfer_syntax("")
    assert not dictionary.is_transfer_syntax("1.2.840.10008.1.2\0")


def test_vrs_are_those_of_the_standard() -> None:
    # PS3.5 table 6.2-1 has 34 VRs; those of 7.1-1 have a 32-bit length.
    assert len(VRS) == 34
    assert not LONG_VRS & SHORT_VRS
    written = {vr for entry in DicomDictionary.values() for vr in entry[0].split(" or ")}
    assert written - {"NONE"} <= set(VRS.values())
    assert LONG_TEXT_VRS < TEXT_VRS < set(VRS.values())


def test_the_pydicom_package_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from dicomguard.dicom import dictionary, walker\n"
        "assert dictionary.public_vr(0x00100010) == 'PN'\n"
        "assert dictionary.is_known_creator('GEMS_IDEN_01')\n"
        "assert dictionary.is_transfer_syntax('1.2.840.10008.1.2')\n"
        "sys.exit('pydicom' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
