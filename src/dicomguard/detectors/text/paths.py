"""Paths in values by which exports name their files and folders.

A backslash parts values, so a path with backslashes arrives as several. People write dots and
slashes for what they leave out ("../../2020", "cough ../fever"), and two empty values before a
name look like a server: what counts is a path that leads somewhere.
"""

from __future__ import annotations

from dicomguard.detectors.text.signs import END, START, Scope, exploit, sign
from dicomguard.model import Severity

TRAVERSAL = exploit(
    "PATH-TRAVERSAL",
    "Path to a folder above in a text value",
    Severity.HIGH,
    "Exports name folders by such values: this one leaves the folder it is given.",
    "CWE-22",
    "T1190",
)
UNC = exploit(
    "PATH-UNC",
    "Path to a server on another network in a text value",
    Severity.HIGH,
    "Windows signs in to whatever server such a path names, and so hands out the user's password"
    " hash.",
    "CWE-40",
    "T1187",
)
ABSOLUTE = exploit(
    "PATH-ABS",
    "Absolute path in a value that names files",
    Severity.LOW,
    "Software that joins it to a folder of its own ends up at the path instead.",
    "CWE-36",
    "T1190",
)

_UP = rb"\.\.(?:/|\\|;/|%2f|%5c|%252f|%255c)"
_ENCODED_UP = rb"(?:%2e|%252e){2}(?:/|\\|%2f|%5c|%252f|%255c)|\.\.(?:%2f|%5c|%252f|%255c)"

PRIVATE_HOST = (
    rb"(?:10|127|169\.254|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}"
    rb"|[\w.-]{1,200}\.(?:local|lan|intra|intranet|internal|corp|home|localdomain|ad|hosp|med)\b"
)
"""A server of one's own network."""
_HOST = (
    rb"(?!" + PRIVATE_HOST + rb")(?:\d{1,3}(?:\.\d{1,3}){3}"
    rb"|[a-z\d][a-z\d-]{0,62}(?:\.[a-z\d-]{1,63}){0,6}\.[a-z]{2,24}|[\w.-]{1,200}@(?:ssl|\d{1,5})(?:@\d{1,5})?)"
)  # fmt: skip

SIGNS = (
    sign(
        TRAVERSAL, Scope.SHORT, b".. %2e %252e",
        rb"(?<![^\0/\\])(?:" + _UP + rb"){1,32}(?:[a-z~_]|%|\.[a-z])",
        rb"(?:" + _UP + rb"){2,32}[a-z~_.%]", rb"[\\/]" + _UP + rb"{2}", _ENCODED_UP,
    ),
    sign(
        TRAVERSAL, Scope.LONG, b".. %2e %252e",
        rb"(?:" + _UP + rb"){2,32}(?:[a-z~_][\w.~-]{0,40}[\\/]|etc\b|windows\b)",
        rb"(?:%2e%2e|%252e%252e)(?:/|\\|%2f|%5c|%252f|%255c)",
    ),
    sign(
        TRAVERSAL, Scope.ADDRESSES, b".. %2e %252e",
        rb"(?:%2e|%252e){2}(?:%2f|%5c|%252f|%255c)|(?:" + _UP + rb"){3}",
    ),
    sign(
        UNC, Scope.SHORT, b"\\\\",
        START + rb"\\\\" + _HOST + rb"\\[^\\\0]{1,64}\\[^\\\0 ]", rb"\\\\\?\\unc\\",
    ),
    # In prose people say where something lies
    sign(UNC, Scope.LONG, b"\\\\", START + rb"\\\\" + _HOST + rb"\\[^\s\0]{1,200}" + END),
    sign(
        ABSOLUTE, Scope.NAMING, b"/ \\",
        START
        + rb"(?:/(?:bin|boot|dev|etc|home|lib|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)/"
        rb"|~[\w-]{0,32}/|[a-z]:[\\/]|//[.?]/|\\\\[.?]\\)",
    ),
)  # fmt: skip

KINDS = (TRAVERSAL, UNC, ABSOLUTE)
