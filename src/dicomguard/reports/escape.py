"""Nothing that a file contains reaches a terminal or a log as it is."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text in which every control, format, bidi or undecodable character is an escape.

    >>> printable("a\x1b[31m\nb\udcff")
    'a\\x1b[31m\\nb\\udcff'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def evidence(raw: bytes) -> str:
    r"""Bytes as printable ASCII, all others as ``\xNN``.

    >>> evidence(b"MZ\x90\x00\\")
    'MZ\\x90\\x00\\\\'
    """
    return "".join(map(_BYTE.__getitem__, raw))


def raw(shown: str) -> bytes:
    r"""The inverse of `evidence`.

    >>> raw(evidence(b"MZ\x90\x00\\"))
    b'MZ\x90\x00\\'
    """
    return shown.encode("ascii").decode("unicode_escape").encode("latin-1")


_BYTE = [chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in range(256)]
_BYTE[ord("\\")] = "\\\\"
