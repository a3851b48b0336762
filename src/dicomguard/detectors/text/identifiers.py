"""UIDs (PS3.5 section 9.1) that are more than identifiers: receivers name files by them.

Sloppy writers put names, hashes, ``N/A``, ``urn:oid:`` or several UIDs into one; none of that
leaves a folder or starts a command.
"""

from __future__ import annotations

from dicomguard.detectors.text.signs import Scope, exploit, sign
from dicomguard.model import Severity

UID = exploit(
    "UID-CHARS",
    "Identifier with characters of paths and commands",
    Severity.CRITICAL,
    "Receivers name files by identifiers: such a one writes where its sender wants.",
    "CVE-2022-2119, CVE-2026-50003",
    "T1190",
)

_VALUE = rb"(?<![^\0\\])\s{0,4}"
"""Where one of several values begins."""

SIGNS = (
    sign(
        UID, Scope.IDENTIFIERS, b"/ .. % ~ ` $ ; | & > < \n \r \\ : -",
        rb"(?:" + _VALUE + rb"|[^\0nN\\])/[a-z.~/]|\.\.[\\/]|%(?:2[ef]|5c|00|0[ad])",
        _VALUE + rb"(?:~\w|-[a-z]|/|[a-z]:[\\/])",
        rb"[;|]\s{0,4}[a-z/$`]|&&|&\s{0,4}/?[a-z]{2,12}\s|`[^`\0]{1,60}`|\$[({a-z]|>\s{0,4}[/.~a-z]",
        rb"[\d.]:[a-z]\w|[^\0\s][\r\n]{1,2}[^\0\s]",
    ),
    sign(
        UID, Scope.IDENTIFIERS, b"con prn aux nul com lpt",
        _VALUE + rb"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.\w{0,8})?\s{0,8}(?![^\0\\])",
    ),
)  # fmt: skip

KINDS = (UID,)
