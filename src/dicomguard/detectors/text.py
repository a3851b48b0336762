"""Text values that attack whoever shows, stores, logs or files them.

Only character-string VRs are looked at, and only for what 3.7 million honest values were never seen
to hold: pixel data and packed private data hold ``${`` and ``<?`` by chance.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicomguard.dicom.layout import Element, Span
from dicomguard.dicom.source import Source
from dicomguard.dicom.vr import TEXT_VRS
from dicomguard.gather import join
from dicomguard.model import Category, Confidence, Finding, FindingKind, Region, Severity


def _kind(id_: str, title: str, severity: Severity, why: str, *sources: str) -> FindingKind:
    return FindingKind(
        id=id_,
        title=title,
        category=Category.EXPLOIT,
        severity=severity,
        confidence=Confidence.STRONG,
        why=why,
        reference=sources[0],
        attack=sources[1] if len(sources) > 1 else "",
    )


XSS = _kind(
    "TXT-XSS",
    "Active HTML in a text value",
    Severity.HIGH,
    "A web viewer or worklist that shows the value as it is runs it in its user's browser.",
    "CWE-79",
    "T1059.007",
)
SQL = _kind(
    "TXT-SQLI",
    "SQL in a text value",
    Severity.HIGH,
    "A database that builds its statements from values runs it.",
    "CWE-89",
    "T1190",
)
JNDI = _kind(
    "TXT-JNDI",
    "Lookup expression in a text value",
    Severity.CRITICAL,
    "An unpatched Java service that logs the value loads code from where it points.",
    "CVE-2021-44228",
    "T1190",
)
ANSI = _kind(
    "TXT-ANSI",
    "Terminal control sequence in a text value",
    Severity.HIGH,
    "A terminal that prints the value obeys it. Honest escapes switch character sets only.",
    "CWE-150",
)
TAGS = _kind(
    "TXT-UNICODE",
    "Invisible tag characters in a text value",
    Severity.HIGH,
    "Nobody sees them and programs read them: they smuggle instructions past the reader.",
    "CWE-1007",
)
DDE = _kind(
    "TXT-CSV",
    "Spreadsheet command in a text value",
    Severity.HIGH,
    "A spreadsheet that opens an exported list runs it.",
    "CWE-1236",
)
SHELL = _kind(
    "TXT-SHELL",
    "Shell command in a text value",
    Severity.HIGH,
    "Receivers put such values into commands and file names.",
    "CVE-2026-5663, CVE-2024-27629",
    "T1059.004",
)
EVAL = _kind(
    "TXT-EVAL",
    "Number that is code",
    Severity.HIGH,
    "Software that evaluates numbers instead of reading them runs it.",
    "CVE-2024-42845",
    "T1059",
)
UID = _kind(
    "UID-CHARS",
    "Identifier with characters of paths and commands",
    Severity.CRITICAL,
    "Receivers name files by identifiers: such a one writes where its sender wants.",
    "CVE-2022-2119, CVE-2026-50003",
    "T1190",
)
TRAVERSAL = _kind(
    "PATH-TRAVERSAL",
    "Path to a folder above in a text value",
    Severity.HIGH,
    "Exports name folders by such values: this one leaves the folder it is given.",
    "CWE-22",
    "T1190",
)
SCHEME = _kind(
    "URI-SCHEME",
    "Address that runs something",
    Severity.HIGH,
    "Whoever follows the address runs a program or hands out its credentials.",
    "CWE-939",
    "T1204.001",
)


@dataclass(frozen=True, slots=True)
class _Class:
    """Values that are looked at together."""

    vrs: frozenset[str]
    public_only: bool

    def holds(self, span: Span) -> bool:
        """Whether a span is the value of such an element."""
        owner = span.owner
        return (
            isinstance(owner, Element)
            and owner.vr in self.vrs
            and not (self.public_only and span.region is Region.PRIVATE)
        )


_ANY_TEXT = _Class(TEXT_VRS, public_only=False)
_PUBLIC_TEXT = _Class(TEXT_VRS, public_only=True)
_NUMBERS = _Class(frozenset(("DS", "IS")), public_only=True)
_IDENTIFIERS = _Class(frozenset(("UI",)), public_only=True)
_ADDRESSES = _Class(frozenset(("UR",)), public_only=False)


def _pattern(kind: FindingKind, pattern: bytes) -> tuple[FindingKind, re.Pattern[bytes]]:
    return kind, re.compile(pattern, re.IGNORECASE)


_START = rb"(?<![^\0])\s{0,8}"
"""Where a gathered value begins."""

_COMMAND = (
    rb"(?:rm|cat|curl|wget|nc|sh|bash|id|whoami|touch|echo|ping|sleep|powershell|cmd|python\d?|perl"
    rb"|chmod|cp|mv|dd|reboot|shutdown|ls|uname|mkfifo)\b"
)

_PATTERNS = {
    _ANY_TEXT: (
        _pattern(
            XSS,
            rb"<\s{0,8}[a-z]\w{0,20}\b[^>\0]{0,200}?[\s/\"']on[a-z]{3,20}\s{0,8}="
            rb"|(?:javascript|vbscript)\s{0,8}:|data\s{0,8}:\s{0,8}text/html"
            rb"|(?:%3c|&lt;|\\u003c)\s{0,8}script",
        ),
        _pattern(
            SQL,
            rb"'\s{0,8}(?:or|and)\s{1,8}['\d(][^\0]{0,40}?(?:=|like|--)"
            rb"|\bunion\s{1,8}(?:all\s{1,8})?select\b|xp_cmdshell|waitfor\s{1,8}delay|pg_sleep\s?\("
            rb"|;\s{0,8}(?:drop|insert|update|delete|exec|shutdown|alter|truncate)\s{1,8}\w",
        ),
        _pattern(JNDI, rb"\$\{[^}\0]{0,60}(?:jndi|lower:|upper:|env:|sys:|base64:|::-)"),
        _pattern(ANSI, rb"\x1b[\[\]PX^_c]"),
        _pattern(TAGS, rb"(?:\xf3\xa0[\x80\x81][\x80-\xbf]){2}"),
        _pattern(
            DDE,
            rb"[=+\-@]\s{0,8}(?:cmd|powershell|mshta|regsvr32|rundll32)\s{0,8}\|"
            rb"|=\s{0,8}(?:hyperlink|webservice|importxml|importdata)\s{0,8}\(",
        ),
    ),
    _PUBLIC_TEXT: (
        _pattern(
            XSS,
            rb"<\s{0,8}script\b|<\s{0,8}(?:img|svg|iframe|object|embed|video|audio|form|a|base)\b"
            rb"[^>\0]{1,200}?(?:src|href|srcdoc|data|action)\s{0,8}=",
        ),
        _pattern(
            SHELL,
            rb"\$\(\s{0,8}\w|`\s{0,8}"
            + _COMMAND
            + rb"|(?:[;&|]|&&|\|\|)\s{0,8}"
            + _COMMAND
            + rb"|%comspec%|\bcmd\.exe\b|\bpowershell\b|/bin/(?:ba)?sh\b",
        ),
        _pattern(
            TRAVERSAL,
            rb"\.\.(?:;?/|%2f|%5c)|%2e%2e(?:/|%2f|%5c|\\)|%252e%252e|\xc0\xae\xc0\xae"
            rb"|\.\.\\\.\.\\",
        ),
    ),
    _NUMBERS: (_pattern(EVAL, rb"[(\[;]|__|\bimport\b|\blambda\b"),),
    _IDENTIFIERS: (_pattern(UID, rb"[/|;&$`<>%\r\n]|\.\.\\"),),
    _ADDRESSES: (
        _pattern(
            SCHEME,
            _START + rb"(?:(?:javascript|vbscript|data|file|smb|ms-[a-z-]{2,30}|search-ms|mhtml|jar"
            rb"|ldaps?|rmi|dict|gopher|php|expect|netdoc)\s{0,8}:|\\\\)",
        ),
    ),
}
"""What each class of values must not hold."""


class TextDetector:
    """Injection into whatever reads text values; one finding a kind, with a count."""

    kinds = (XSS, SQL, JNDI, ANSI, TAGS, DDE, SHELL, EVAL, UID, TRAVERSAL, SCHEME)

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:  # noqa: ARG002
        """Look at every value of a character-string VR."""
        if not source.layout.is_dicom:
            return
        values = [span for span in source.values() if _ANY_TEXT.holds(span)]
        hits: dict[FindingKind, list[int]] = defaultdict(list)
        for class_, patterns in _PATTERNS.items():
            buffer = join(source, [span for span in values if class_.holds(span)])
            for kind, pattern in patterns:
                for match in pattern.finditer(buffer.data):
                    origin = buffer.origin(match.start(), 1)
                    if origin is not None:
                        hits[kind].append(origin)
        for kind, origins in hits.items():
            span = source.layout.span_at(min(origins))
            detail = f"{len(origins)} times, first here" if len(origins) > 1 else ""
            yield source.finding(kind, min(origins), span.end, detail=detail, count=len(origins))
