"""Small DICOM files around any content: for tests of rules, and for the proof that they fire."""

from __future__ import annotations

_EICAR = (b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$", b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*")
"""The harmless file by which anti-malware is tested, in pieces lest this one be taken for it."""


def in_private_element(content: bytes) -> bytes:
    """A DICOM file with the content in a private OB element."""
    creator = b"\x09\0\x10\0LO\x0a\0" + b"DICOMGUARD"
    return _head() + creator + _element(0x0009, 0x1010, b"OB", content)


def in_text(content: bytes) -> bytes:
    """A DICOM file with the content as the text of Image Comments (0020,4000)."""
    return _head() + _element(0x0020, 0x4000, b"UT", content, pad=b" ")


def eicar() -> bytes:
    """A DICOM file with the EICAR test file in a private element; every scanner must find it."""
    return in_private_element(b"".join(_EICAR))


def _head() -> bytes:
    """Preamble, prefix and a Transfer Syntax UID of Explicit VR Little Endian."""
    return bytes(128) + b"DICM" + b"\2\0\x10\0UI\x14\0" + b"1.2.840.10008.1.2.1\0"


def _element(group: int, element: int, vr: bytes, value: bytes, pad: bytes = b"\0") -> bytes:
    """An element in Explicit VR Little Endian with a 32-bit length (PS3.5 section 7.1.2)."""
    value += pad * (len(value) % 2)
    tag = group.to_bytes(2, "little") + element.to_bytes(2, "little")
    return tag + vr + b"\0\0" + len(value).to_bytes(4, "little") + value
