"""The preamble: 128 bytes that may hold anything, and what they make of the file.

The rules name the formats that can be followed to their end (``POLY-PE``, ``POLY-ZIP``). This
module knows the heads of all others, tells honest content from foreign heads, and asks libmagic
last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from struct import unpack_from

from msgspec import Struct
from msgspec.structs import replace

from dicomguard import naming
from dicomguard.detectors import tiff
from dicomguard.detectors.entropy import entropy
from dicomguard.dicom.layout import Data
from dicomguard.dicom.source import Source
from dicomguard.model import Category, Confidence, Finding, FindingKind, Severity
from dicomguard.regex import regex

_REFERENCE = "CVE-2019-11687"


def _kind(
    id_: str,
    what: str,
    severity: Severity,
    why: str = "Another program opens this file as something else than an image. Isolate it.",
    *,
    confidence: Confidence = Confidence.STRONG,
    category: Category = Category.MALWARE,
) -> FindingKind:
    return FindingKind(
        id=id_,
        title=f"The file itself is: {what}",
        category=category,
        severity=severity,
        confidence=confidence,
        why=why,
        reference=_REFERENCE,
        attack="T1036.008",
    )


_PROGRAM = (
    "Whoever starts this file runs it as a program. Isolate it and find out where it came from."
)
_CONFIGURATION = (
    "A service that is made to write this file over its configuration obeys it. Isolate it."
)

NE = _kind("POLY-NE", "16-bit or device-driver program", Severity.HIGH, _PROGRAM)
DOS = _kind("POLY-DOS", "DOS program", Severity.MEDIUM, _PROGRAM, confidence=Confidence.WEAK)
SCRIPT = _kind("POLY-SCRIPT-NOSHEBANG", "script", Severity.HIGH, _PROGRAM)
LINES = _kind("POLY-SCRIPT-NOSHEBANG", "script", Severity.MEDIUM, _PROGRAM)
HTML = _kind("POLY-HTML", "web page, web archive or web application", Severity.HIGH)
TIFF = _kind(
    "POLY-TIFF",
    "TIFF with something hidden",
    Severity.MEDIUM,
    "Dual TIFF/DICOM files are honest, but this one's TIFF part is not its image.",
    category=Category.EXPLOIT,
)
HONEST_TIFF = FindingKind(
    id="PRE-TIFF",
    title="TIFF header in the preamble",
    category=Category.INVENTORY,
    severity=Severity.INFO,
    confidence=Confidence.CONFIRMED,
    why="Dual-personality files are honest; keep the preamble, or other viewers lose the image.",
    reference="Clunie 2019, J Pathol Inform 10:12",
)
TEXT = FindingKind(
    id="PRE-TEXT",
    title="Plain text in the preamble",
    category=Category.INVENTORY,
    severity=Severity.INFO,
    confidence=Confidence.CONFIRMED,
    why="Some viewers sign their files there.",
    reference="PS3.10 section 7.1",
)
NONZERO = FindingKind(
    id="PRE-NONZERO",
    title="Bytes in the preamble",
    category=Category.INVENTORY,
    severity=Severity.INFO,
    confidence=Confidence.CONFIRMED,
    why="A quarter of honest files have some: scanners keep counters there.",
    reference="PS3.10 section 7.1",
)
SCRAMBLED = FindingKind(
    id="PRE-OPAQUE",
    title="Scrambled bytes in the preamble",
    category=Category.CONFORMANCE,
    severity=Severity.LOW,
    confidence=Confidence.STRONG,
    why="Honest preambles are nearly empty; this one is full.",
    reference="PS3.10 section 7.1",
)
NAMED = FindingKind(
    id="PRE-MAGIC",
    title="libmagic takes the file for something else as well",
    category=Category.INVENTORY,
    severity=Severity.LOW,
    confidence=Confidence.WEAK,
    why="A second opinion on the first bytes; no structure confirms it.",
    reference=_REFERENCE,
)


class _Head(Struct, frozen=True):
    """A format known by its head: a pattern on the preamble, and what else must hold."""

    kind: FindingKind
    pattern: re.Pattern[bytes]
    confirm: Callable[[Data], bool] = lambda _: True


def _head(
    kind: FindingKind, pattern: bytes, confirm: Callable[[Data], bool] = lambda _: True
) -> _Head:
    return _Head(kind, regex(pattern, re.DOTALL), confirm)


def _is_tar(data: Data) -> bool:
    """Header checksum (POSIX.1 ustar): the sum of 512 bytes, the checksum field taken as blanks."""
    header = data[:512]
    stored = header[148:156].strip(b" \0")
    if len(header) < 512 or not re.fullmatch(rb"[0-7]{1,7}", stored):
        return False
    return int(stored, 8) == sum(header) - sum(header[148:156]) + 8 * 0x20


def _is_swf(data: Data) -> bool:
    return 0 < data[3] < 60 and unpack_from("<I", data, 4)[0] > 8


def _is_pyc(data: Data) -> bool:
    """CPython's magic number is a version number and CR LF; a marshalled code object follows."""
    magic: int = unpack_from("<H", data)[0]
    return 3000 <= magic <= 3800 and data[16] == 0xE3


def _starts_text(data: Data) -> bool:
    return len(_leading_text(bytes(data[:128]))) >= _TEXT_BYTES


def _is_bmp(data: Data) -> bool:
    size, _, pixels, header = unpack_from("<IIII", data, 2)
    return header in (12, 40, 52, 56, 108, 124) and pixels < size


_HIGH, _MEDIUM, _LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW
_HARMLESS = "Harmless by itself: an image viewer shows another picture than a DICOM viewer."

_HEADS = (
    _head(
        HTML,
        rb"(?i)[\s\0\xef\xbb\xbf]*<(!doctype|html|head|body|script|svg|iframe|object|hta:application"
        rb"|meta|img|job|package|scriptlet)\b|[^\0]{0,80}<(script|hta:application)\b"
        rb"|(?i:mime-version|content-type|from):[ \t]",
    ),
    _head(_kind("POLY-RTF", "RTF document", _HIGH), rb".{0,32}\{\\rt"),
    _head(_kind("POLY-CHM", "Windows help file", _HIGH), rb"ITSF[\x02-\x04]\0\0\0"),
    _head(_kind("POLY-DEX", "Android program", _HIGH, _PROGRAM), rb"dex\n0\d\d\0"),
    _head(_kind("POLY-WASM", "WebAssembly module", _MEDIUM), rb"\0asm\x01\0\0\0"),
    _head(_kind("POLY-PYC", "Compiled Python", _MEDIUM, _PROGRAM), rb"..\r\n", _is_pyc),
    _head(
        _kind("POLY-PICKLE", "Python pickle", _HIGH, "Loading a pickle runs what it says."),
        rb"(?:\x80[\0-\x05])?[^\0\n]{0,40}?[ci][A-Za-z_][\w.]{1,60}\n[A-Za-z_][\w.]{1,60}\n"
        rb"|\x80[\x04\x05](?:\x95.{3}\0{5}|.{0,4}\x8c).{0,96}?\x93",
    ),
    _head(_kind("POLY-VHD", "virtual disk", _HIGH), rb"conectix|vhdxfile"),
    _head(_kind("POLY-SWF", "Flash program", _MEDIUM), rb"[FCZ]WS", _is_swf),
    _head(_kind("POLY-PS", "PostScript program", _HIGH, _PROGRAM), rb"%!PS|\xc5\xd0\xd3\xc6"),
    _head(_kind("POLY-GZ", "gzip archive", _MEDIUM), rb"\x1f\x8b\x08[\0-\x1f]"),
    _head(_kind("POLY-BZ2", "bzip2 archive", _MEDIUM), rb"BZh[1-9]1AY&SY"),
    _head(_kind("POLY-XZ", "xz archive", _MEDIUM), rb"\xfd7zXZ\0"),
    _head(_kind("POLY-ZSTD", "Zstandard archive", _MEDIUM), rb"\x28\xb5\x2f\xfd"),
    _head(_kind("POLY-LZ4", "LZ4 archive", _MEDIUM), rb"\x04\x22\x4d\x18"),
    _head(_kind("POLY-CPIO", "cpio archive", _MEDIUM), rb"07070[127]"),
    _head(_kind("POLY-AR", "ar archive or Debian package", _MEDIUM), rb"!<arch>\n"),
    _head(_kind("POLY-RPM", "RPM package", _MEDIUM), rb"\xed\xab\xee\xdb"),
    _head(
        _kind("POLY-IMG", "another image", _LOW, _HARMLESS, category=Category.INVENTORY),
        rb"\x89PNG\r\n\x1a\n|GIF8[79]a|\xff\xd8\xff|8BPS\0[\x01\x02]",
    ),
    _head(
        _kind("POLY-IMG", "another image", _LOW, _HARMLESS, category=Category.INVENTORY),
        rb"BM.{14}",
        _is_bmp,
    ),
    _head(
        _kind("POLY-SSHKEY", "SSH key", _HIGH, _CONFIGURATION),
        rb"\s*(ssh-(rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-ssh-\S+) AAAA",
    ),
    _head(
        _kind("POLY-CRON", "schedule of commands", _HIGH, _CONFIGURATION),
        rb"\s*((\*|[\d*/,-]+)[ \t]+){5}\S|\s*@(reboot|hourly|daily)[ \t]",
    ),
    _head(
        _kind("POLY-DESKTOP", "desktop launcher or service", _HIGH, _CONFIGURATION),
        rb"\s*\[(Desktop Entry|Unit|Service|InternetShortcut|autorun)\]",
    ),
    _head(
        _kind("POLY-SUDOERS", "privilege configuration", _HIGH, _CONFIGURATION),
        rb"[^\0]*(ALL[ \t]*=[ \t]*\(ALL|LD_PRELOAD=)",
    ),
    _head(_kind("POLY-XML", "XML document", _HIGH, _CONFIGURATION), rb"\s*<\?xml\s"),
    _head(
        _kind("POLY-JSON", "JSON document", _HIGH, _CONFIGURATION),
        rb'\s*[{\[]\s*["{\[]',
        _starts_text,
    ),
    _head(
        _kind("POLY-INI", "configuration file", _HIGH, _CONFIGURATION),
        rb"\s*\[[\w .-]+\]\s*\n",
        _starts_text,
    ),
    _head(
        _kind("POLY-YAML", "YAML document", _HIGH, _CONFIGURATION), rb"---\s*\n\s*\S", _starts_text
    ),
)
"""Formats known by the first bytes of the file."""

_ISO = _kind("POLY-ISO", "disk image", Severity.HIGH)
_TAR = _kind("POLY-TAR", "tar archive", Severity.MEDIUM)
_VHD_FOOTER = next(head.kind for head in _HEADS if head.kind.id == "POLY-VHD")

_COMMANDS = regex(
    rb"""(?ix) ^\s* (?:
      @?echo\s | rem\s | :: | @?set\s | start\s | goto\s | @\w+ | @?for\s | cmd\b | powershell
      | pwsh | %comspec% | <\# | iex\b | '\s* | /\* | // | "{3} | <\?(?:php|=) | =(?:pod|begin)\b
      | --\[\[ | (?:sh|bash|exec|eval|curl|wget|nc|rm|cp|mv|cat|chmod|mkdir|export|exit|env|printf
      |command|true|false|python\d?|perl|ruby|node|source|unset|trap|read|test)[\s;]
      | import\s+\w+ | (?:var|let|const|function)\s+\w+ | /(?:usr/)?s?bin/\w+
      | [A-Za-z_]\w*=\S* [;\s] | : \s* (?:; | << | \n) | [({!]\s+\w+ | \(\w+ | "\w+"\s
    )""",
)
"""How the first command of a script begins, in the shells and interpreters of the field."""

_ISO_OFFSETS = (0x8001, 0x8801, 0x9001)
_PAGE = regex(
    rb"(?i)<(?:iframe|img|script|svg|object|embed|video|audio|style|form|base|link|meta)\b"
    rb"|<\w+[^>]{0,80}\bon\w+\s*="
)
"""What makes a browser take text for a page, wherever it stands."""

_TEXT_BYTES = 12
_COMMENTS = {b"/*": b"*/", b"<#": b"#>"}
"""Openers that hide the binary rest of a file from an interpreter, with what ends them."""


class PreambleDetector:
    """What the first 128 bytes make of the file."""

    kinds = (
        *dict.fromkeys(head.kind for head in _HEADS),
        *(NE, DOS, SCRIPT, LINES, TIFF, _ISO, _TAR, HONEST_TIFF, TEXT, NONZERO, SCRAMBLED, NAMED),
    )

    def find(self, source: Source, found: Sequence[Finding]) -> Iterator[Finding]:
        """Look at a file that has a preamble."""
        if not (source.is_file and source.layout.has_preamble):
            return
        elsewhere = list(_elsewhere(source))
        yield from elsewhere
        data = source.data
        preamble = bytes(data[:128])
        if not preamble.strip(b"\0"):
            return
        known = (*found, *elsewhere)
        if any(each.kind.id.startswith("POLY-") and not each.place.offset for each in known):
            return
        if tiff.is_tiff(preamble):
            yield _tiff(source)
            rest = preamble.partition(b"\n")[2]
            if rest and _is_script(data, rest):
                yield source.finding(SCRIPT, 0, 128)
            return
        kind = _foreign(data, preamble)
        if kind:
            yield source.finding(kind, 0, 128)
            return
        name = naming.name(bytes(data[:4096]))
        if name:
            yield source.finding(NAMED, 0, 128, detail=name)
        yield source.finding(_ordinary(preamble), 0, 128)


def _tiff(source: Source) -> Finding:
    personality, problem = tiff.examine(source)
    kind = TIFF if personality is tiff.Personality.FORGED else HONEST_TIFF
    return source.finding(kind, 0, 128, detail=problem or str(personality))


def _foreign(data: Data, preamble: bytes) -> FindingKind | None:
    """The foreign format that the preamble starts, if there is one."""
    if preamble[:2] == b"MZ":
        return _dos(data)
    for head in _HEADS:
        if head.pattern.match(preamble) and head.confirm(data):
            return head.kind
    if _PAGE.search(_leading_text(preamble)):
        return HTML
    first_line, _, rest = preamble.partition(b"\n")
    # Shells skip a first line that they cannot run.
    if _is_script(data, preamble) or (rest and _is_script(data, rest)):
        return SCRIPT
    if b"\0" not in first_line and len(_leading_text(preamble)) >= _TEXT_BYTES and rest:
        return LINES
    return DOS if _is_com(data, preamble) else None


def _is_script(data: Data, preamble: bytes) -> bool:
    """Whether text that begins with a command stands here."""
    text = _leading_text(preamble)
    if not re.search(rb"[\r\n;&]", text):
        return False
    closer = _COMMENTS.get(text[:2])
    if closer and data.find(closer, len(text)) >= 0:
        return True
    return len(text) >= _TEXT_BYTES and _COMMANDS.match(text) is not None


def _elsewhere(source: Source) -> Iterator[Finding]:
    """Formats whose readers look at fixed places further on, or at the end."""
    data = source.data
    for offset in _ISO_OFFSETS:
        if data[offset : offset + 5] in (b"CD001", b"BEA01", b"NSR02", b"NSR03"):
            yield source.finding(_ISO, offset, offset + 5)
            break
    if data[-512:-504] == b"conectix":
        yield source.finding(_VHD_FOOTER, len(data) - 512, len(data))
    if data[257:262] == b"ustar" and _is_tar(data):
        yield source.finding(_TAR, 0, 512)


def _dos(data: Data) -> FindingKind:
    """``MZ`` that the rules did not confirm as a PE file."""
    header: int = unpack_from("<I", data, 0x3C)[0]
    if data[header : header + 2] in (b"NE", b"LE", b"LX"):
        return NE
    pages, paragraphs = unpack_from("<H", data, 4)[0], unpack_from("<H", data, 8)[0]
    plausible = 2 <= paragraphs <= 16 and 0 < pages * 512 <= len(data) + 512
    return replace(DOS, confidence=Confidence.STRONG) if plausible else DOS


def _is_com(data: Data, preamble: bytes) -> bool:
    """A .COM program has no magic: a jump, and code where it leads rather than an empty field."""
    if preamble[0] == 0xEB:
        target = 2 + preamble[1]
    elif preamble[0] in (0xE8, 0xE9):
        target = 3 + int(unpack_from("<H", data, 1)[0])
    else:
        return False
    return any(data[target : target + 2])


def _leading_text(preamble: bytes) -> bytes:
    """What stands before the first NUL if it is text, else nothing."""
    text = preamble.split(b"\0", 1)[0]
    readable = sum(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in text)
    return text if readable >= 0.95 * len(text) else b""


def _ordinary(preamble: bytes) -> FindingKind:
    if len(_leading_text(preamble)) >= _TEXT_BYTES:
        return TEXT
    filled = len(preamble) - preamble.count(0)
    return SCRAMBLED if filled > 64 and entropy(preamble) > 4.5 else NONZERO
