"""Addresses that run something, leak credentials, or make a server fetch what it must not.

A hospital's own addresses are private ones, and archives do write them; so they are named only.
"""

from __future__ import annotations

from msgspec.structs import replace

from dicomguard.detectors.text.paths import PRIVATE_HOST
from dicomguard.detectors.text.signs import START, Scope, exploit, sign
from dicomguard.model import Severity

SCHEME = exploit(
    "URI-SCHEME",
    "Address that runs something or hands out credentials",
    Severity.HIGH,
    "Whoever follows the address runs a program or hands out its credentials.",
    "CWE-939",
    "T1204.001",
)
LOCAL_FILE = replace(SCHEME, severity=Severity.MEDIUM)
"""A file, which archives on one machine name so."""
FORGERY = exploit(
    "URI-SSRF",
    "Address that a server must not fetch",
    Severity.HIGH,
    "A server that follows the address fetches it with its own rights: cloud metadata give away"
    " its keys, and a host written as a number is one that hides.",
    "CWE-918",
    "T1552.005",
)
CREDENTIALS = replace(FORGERY, severity=Severity.MEDIUM)
"""With a name and a password in it."""
INTERNAL = replace(FORGERY, severity=Severity.LOW)
"""To a private network, where most archives are."""

_HTTP = START + rb"(?:https?|wss?|ftps?)\s{0,4}:[/\\]{2}(?:[^/\\?#\0@\s]{0,200}@)?"
_HOST_END = rb"(?=[:/\\?#\s\0]|\Z)"

SIGNS = (
    sign(
        SCHEME, Scope.ADDRESSES, b": \\\\ //",
        START + rb"(?:javascript|vbscript|smb|cifs|ms-[a-z-]{2,30}|search(?:-ms)?|mhtml|jar|ldap"
        rb"|ldaps|rmi|iiop|dict|gopher|php|expect|netdoc|phar|zip|view-source|shell|hcp|mk|filesystem"
        rb"|intent|tftp|telnet)\s{0,8}:(?!\d)",
        START + rb"data\s{0,8}:\s{0,8}(?:text/(?:html|xml|javascript)|image/svg|application/"
        rb"(?!dicom|octet|pdf|json))",
        START + rb"file\s{0,8}:[/\\]{2,5}(?:(?!localhost|" + PRIVATE_HOST + rb")"
        rb"[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}[/\\]"
        rb"|(?:localhost)?[/\\]{0,3}(?:etc|proc|dev|root|sys)[/\\]"
        rb"|[/\\]{0,3}[a-z]:[/\\]{1,2}windows[/\\])",
        START + rb"(?:\\\\|//)(?!" + PRIVATE_HOST + rb")[\w-]{1,63}(?:[.@][\w-]{1,63}){1,8}[\\/]",
    ),
    sign(LOCAL_FILE, Scope.ADDRESSES, b"file", START + rb"file\s{0,8}:"),
    sign(
        FORGERY, Scope.ADDRESSES, b"://  :\\\\",
        _HTTP + rb"(?:169\.254\.(?:169\.254|170\.2|169\.253)|100\.100\.100\.200|192\.0\.0\.192"
        rb"|\[?(?:::ffff:169\.254|fd00:ec2::254)[\d.:a-f]*\]?|metadata(?:\.google\.internal|\.azure"
        rb"|\.goog|\.tencentyun\.com|\.packet\.net)?|instance-data|kubernetes\.default[\w.]*)"
        + _HOST_END,
        _HTTP + rb"(?:0x[\da-f]{1,8}(?:\.0x[\da-f]{1,2}){0,3}|\d{8,10}|0\d{2,11}(?:\.\d{1,4}){0,3}"
        rb"|0|127\.1|0\.0\.0\.0|(?:0\d{1,3}\.){1,3}\d{1,4}|\[::(?:ffff:[\d.:a-f]{2,20})?\])"
        + _HOST_END,
        # A host that looks like another, in front of the sign behind which the host really is
        START + rb"https?:[/\\]{2}(?:[\w-]{1,63}\.){1,8}[a-z]{2,24}(?::[^@/\\\s\0]{0,100})?@",
    ),
    sign(
        CREDENTIALS, Scope.ADDRESSES, b"@",
        START + rb"[a-z][\w+.-]{1,30}://[^/?#\s\0@]{1,100}:[^/?#\s\0@]{0,100}@",
    ),
    sign(
        INTERNAL, Scope.ADDRESSES, b"://",
        _HTTP + rb"(?:localhost|\[::1\]|" + PRIVATE_HOST + rb")" + _HOST_END,
    ),
)  # fmt: skip

KINDS = tuple(dict.fromkeys(each.kind for each in SIGNS))
