"""What a PDF does by itself: actions that run, fetch or send when somebody opens it.

Names are read with their ``#xx`` escapes undone, comments are blanks, and object streams are
inflated (ISO 32000-2 sections 7.2.4, 7.3.5 and 7.5.7). No tree is built: a name counts wherever it
stands, so that broken structure hides nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dicomguard.payloads.memory import remembered
from dicomguard.payloads.payload import Data

_WINDOW = 1 << 23
"""Bytes that are read at once."""
_NEAR = 1 << 12
"""Bytes of a dictionary that are looked at; windows overlap by as many."""
_STREAMS = 4096
"""Object streams that are inflated in one document."""
_INFLATED = 1 << 26
"""Bytes to which they are inflated, all together."""
_STEPS = 4
"""References that are followed from an action to the next."""
_FOLLOWED = 64
"""Actions of one dictionary that are followed."""

_BLANK = rb"(?:[\0\t\n\f\r ]|%[^\r\n]{0,128}[\r\n]){0,64}"
_END = rb"(?=[\0\t\n\f\r ()<>\[\]{}/%]|\Z)"
_ESCAPE = re.compile(rb"#([0-9A-Fa-f]{2})")
_REFERENCE = rb"(\d{1,10})[\0\t\n\f\r ]{1,16}\d{1,5}[\0\t\n\f\r ]{1,16}R" + _END


@dataclass(frozen=True, slots=True)
class Activity:
    """What is known of a document.

    Attributes:
        actions: What it does by itself, in words; empty for an honest one.
        opaque: Why parts of it could not be read, in words; empty where all could.
    """

    actions: tuple[str, ...]
    opaque: str


class _Part(NamedTuple):
    """Bytes in which names are looked for.

    Attributes:
        objects: Where the objects of an object stream begin, by number; None for the file's own
            bytes.
    """

    text: bytes
    objects: dict[int, int] | None


@dataclass(slots=True)
class _Document:
    parts: list[_Part] = field(default_factory=list)
    opaque: str = ""

    def body(self, number: int) -> tuple[_Part, int] | None:
        """Where an object begins."""
        head = re.compile(rb"(?<!\d)%d[\0\t\n\f\r ]{1,16}\d{1,5}[\0\t\n\f\r ]{1,16}obj" % number)
        for part in self.parts:
            if part.objects is None:
                match = head.search(part.text)
                if match:
                    return part, match.end()
            elif number in part.objects:
                return part, part.objects[number]
        return None


@remembered
def activity(data: Data, start: int, end: int) -> Activity:
    """What the PDF in ``[start, end)`` does by itself.

    Forms, links, destinations and attachments that are no programs are honest, and so is
    JavaScript that only formats the fields of a form or prints.
    """
    document = _read(data, start, end)
    seen: dict[str, None] = {}
    for part in document.parts:
        for match in _WORDS.finditer(part.text):
            said = _MEANINGS[match[1]](document, part, match)
            if said:
                seen[said] = None
    return Activity(tuple(seen), document.opaque)


# ---------------------------------------------------------------------- reading

_STREAM = re.compile(rb"(?<!end)stream(?:\r\n|\n|\r)")
_OBJECT_STREAM = re.compile(rb"/First" + _END)
_ENCRYPTED = re.compile(rb"/Encrypt" + _BLANK + rb"(?:<<|\d)")
_FILTERS = re.compile(rb"/(FlateDecode|Fl|ASCIIHexDecode|AHx|ASCII85Decode|A85)" + _END)
_OTHER_FILTER = re.compile(rb"/(?:LZWDecode|LZW|RunLengthDecode|RL|Crypt|Predictor)" + _END)
_PAIR = re.compile(rb"(\d{1,10})[\0\t\n\f\r ]+(\d{1,10})[\0\t\n\f\r ]*")


def _read(data: Data, start: int, end: int) -> _Document:
    document = _Document()
    encrypted = False
    left, streams = _INFLATED, 0
    for at in range(start, end, _WINDOW):
        raw = data[at : min(at + _WINDOW + _NEAR, end)]
        text = _unescaped(raw)
        document.parts.append(_Part(text, None))
        encrypted = encrypted or _ENCRYPTED.search(text) is not None
        for match in _STREAM.finditer(raw):
            head = _unescaped(raw[max(0, match.start() - _NEAR) : match.start()])
            head = head[head.rfind(b"obj") + 3 :]
            if not _OBJECT_STREAM.search(head):
                continue
            streams += 1
            if streams > _STREAMS or left <= 0:
                document.opaque = "more object streams than are read"
                break
            content = _undone(data, at + match.end(), end, head, left)
            if content:
                left -= len(content)
                document.parts.append(_Part(_unescaped(content), _objects(content)))
            else:
                document.opaque = "object streams that cannot be read"
    if encrypted:
        document.opaque = "encrypted"
    return document


def _unescaped(raw: bytes) -> bytes:
    """With the escapes of names undone; those of strings as well, which nobody would miss."""
    if b"#" not in raw:
        return raw
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw)


def _undone(data: Data, start: int, end: int, head: bytes, room: int) -> bytes:
    """The content of a stream with its filters undone as far as possible; empty if not."""
    if _OTHER_FILTER.search(head):
        return b""
    filters = _FILTERS.findall(head)
    content = data[start : min(start + room, end)]
    if filters[:1] not in ([b"FlateDecode"], [b"Fl"]):
        content = content[: max(content.find(b"endstream"), 0)]
    for name in filters:
        try:
            content = _UNDO[name](content, room)
        except (ValueError, binascii.Error, zlib.error):
            return b""
    return content[:room]


def _inflated(content: bytes, room: int) -> bytes:
    """What a damaged stream held up to the damage counts as well."""
    stream, made = zlib.decompressobj(), b""
    try:
        made = stream.decompress(content, room)
    except zlib.error:
        stream = zlib.decompressobj()
        for at in range(min(len(content), _NEAR)):
            made += stream.decompress(content[at : at + 1], room) if not stream.eof else b""
    return made


def _hex(content: bytes, _room: int) -> bytes:
    digits = re.sub(rb"[^0-9A-Fa-f]", b"", content.partition(b">")[0])
    return bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode())


def _ascii85(content: bytes, _room: int) -> bytes:
    return base64.a85decode(content.strip().removeprefix(b"<~").partition(b"~")[0])


_UNDO: dict[bytes, Callable[[bytes, int], bytes]] = {
    b"FlateDecode": _inflated, b"Fl": _inflated, b"ASCIIHexDecode": _hex, b"AHx": _hex,
    b"ASCII85Decode": _ascii85, b"A85": _ascii85,
}  # fmt: skip


def _objects(content: bytes) -> dict[int, int]:
    """Where the objects of an object stream begin; its head is pairs of number and offset."""
    pairs, at = [], 0
    while match := _PAIR.match(content, at):
        pairs.append((int(match[1]), int(match[2])))
        at = match.end()
    return {number: at + offset for number, offset in pairs}


# ---------------------------------------------------------------------- meaning

_VALUE = re.compile(_BLANK + rb"(?:(\()|(<)(?!<)|" + _REFERENCE + rb"|(<<)|(\[))")
_AUTOMATIC = re.compile(
    _BLANK + rb"/(?:O|C|PO|PC|PV|PI|WC|WS|WP|DS|DP)" + _BLANK + rb"(?:" + _REFERENCE + rb"|<<)"
)
_KIND = re.compile(rb"/S" + _BLANK + rb"/(URI|SubmitForm|ImportData|GoToE)" + _END)
_NEXT = re.compile(rb"/Next" + _BLANK + rb"\[?" + _BLANK + _REFERENCE)
_KIND_OF = re.compile(rb"(?:/S|obj)" + _BLANK + rb"\Z")
_PROGRAM = re.compile(
    rb"\.(?:exe|dll|scr|com|bat|cmd|pif|cpl|msi|ps1|vb[se]|jse?|ws[fh]?|hta|lnk|jar|chm|reg|url|sct"
    rb"|application|iso|img|vhdx?|doc[m]|xls[mb]|ppt[m]|sh|py|apk|settingcontent-ms)\Z",
    re.IGNORECASE,
)
_STRING = re.compile(rb"\(((?:[^()\\]|\\.){1,512})\)|<([0-9A-Fa-f\s]{2,1024})>", re.DOTALL)
_SHARE = re.compile(rb"\(\\\\\\\\|<\s*5[cC]\s*5[cC]|\(\\134\\134|\(//")
_HARMLESS = re.compile(
    rb"(?:\s|;|AF[A-Za-z_]{2,32}\s*\((?:[^()`]|new\s+Array\s*\([^()`]*\))*\)"
    rb"|(?:this\.)?print\s*\([^()`]*\))*"
)
_LITERAL_MAX = 4096


def _javascript(document: _Document, part: _Part, match: re.Match[bytes]) -> str:
    """``/JS``: the code itself, or where it is; honest if it formats fields or prints."""
    value = _VALUE.match(part.text, match.end())
    if value is None or not any(b"/JavaScript" in each.text for each in document.parts):
        return ""
    text, at = part.text, value.end()
    if value[3]:
        found = document.body(int(value[3]))
        if found:
            text, at = found[0].text, found[1]
            value = _VALUE.match(text, at)
            at = value.end() if value else at
    if value and (value[1] or value[2]):
        code = _literal(text, at - 1)
        if code is not None and _HARMLESS.fullmatch(code):
            return ""
    return "JavaScript"


def _literal(text: bytes, at: int) -> bytes | None:
    """The string at a place, of at most 4 KiB; None if it is longer or none."""
    if text[at : at + 1] == b"<":
        digits = text[at + 1 : at + _LITERAL_MAX].partition(b">")
        return (
            _hex(digits[0], 0).replace(b"\0", b"").removeprefix(b"\xfe\xff") if digits[1] else None
        )
    depth, made = 0, bytearray()
    place, limit = at, min(at + _LITERAL_MAX, len(text))
    while place < limit:
        byte = text[place : place + 1]
        if byte == b"\\":
            place += 1
            made += text[place : place + 1]
        elif byte == b"(":
            depth += 1
            made += byte if depth > 1 else b""
        elif byte == b")":
            depth -= 1
            if not depth:
                return bytes(made).replace(b"\0", b"").removeprefix(b"\xfe\xff")
            made += byte
        else:
            made += byte
        place += 1
    return None


def _launch(_document: _Document, part: _Part, match: re.Match[bytes]) -> str:
    return "starts a program" if _is_kind(part, match) else ""


def _is_kind(part: _Part, match: re.Match[bytes]) -> bool:
    """Whether a name says what kind of action a dictionary is, or may be referred to for that."""
    before = part.text[max(0, match.start() - 256) : match.start()]
    return part.objects is not None or _KIND_OF.search(before) is not None


def _rich_media(_document: _Document, _part: _Part, _match: re.Match[bytes]) -> str:
    return "rich media"


def _dynamic_form(_document: _Document, part: _Part, match: re.Match[bytes]) -> str:
    value = _VALUE.match(part.text, match.end())
    return "XFA form" if value and (value[3] or value[5]) else ""


def _attachment(_document: _Document, part: _Part, match: re.Match[bytes]) -> str:
    """``/EF``: files in the document, by the names around."""
    value = _VALUE.match(part.text, match.end())
    if value is None or not (value[3] or value[4]):
        return ""
    around = part.text[max(0, match.start() - 512) : match.end() + 512]
    return "program attached" if any(map(_PROGRAM.search, _strings(around))) else ""


def _strings(text: bytes) -> Iterator[bytes]:
    for match in _STRING.finditer(text):
        string = match[1] if match[1] is not None else _hex(match[2], 0)
        yield string.replace(b"\0", b"").strip()


def _remote(_document: _Document, part: _Part, match: re.Match[bytes]) -> str:
    """``/GoToR``: another document; honest unless it is on somebody's server."""
    around = part.text[max(0, match.start() - 512) : match.end() + 512]
    share = _is_kind(part, match) and _SHARE.search(around)
    return "opens a document on a network share" if share else ""


def _link(_document: _Document, part: _Part, match: re.Match[bytes]) -> str:
    """``/URI`` that is no address."""
    return "link that is a script" if _SCRIPT_LINK.match(part.text, match.end()) else ""


_SCRIPT_LINK = re.compile(_BLANK + rb"\(\s*(?:javascript|vbscript|data:text/html)", re.IGNORECASE)


def _on_opening(document: _Document, part: _Part, match: re.Match[bytes]) -> str:
    """``/OpenAction``: a destination or an action."""
    value = _VALUE.match(part.text, match.end())
    if value is None or not (value[3] or value[4]):
        return ""
    if value[3]:
        return _follow(document, int(value[3]), _STEPS)
    return _automatic(document, _dictionary(part.text, value.end()), _STEPS)


def _on_events(document: _Document, part: _Part, match: re.Match[bytes]) -> str:
    """``/AA``: actions by event; those of opening, closing and printing count."""
    value = _VALUE.match(part.text, match.end())
    if value is None or not (value[3] or value[4]):
        return ""
    text, at = part.text, value.end()
    if value[3]:
        found = document.body(int(value[3]))
        if found is None:
            return ""
        text, at = found[0].text, found[1]
    body = _dictionary(text, at)
    for event in list(_AUTOMATIC.finditer(body))[:_FOLLOWED]:
        if event[1]:
            said = _follow(document, int(event[1]), _STEPS)
        else:
            said = _automatic(document, _dictionary(body, event.end()), _STEPS)
        if said:
            return said
    return ""


def _follow(document: _Document, number: int, steps: int) -> str:
    found = document.body(number) if steps else None
    if found is None:
        return ""
    text = found[0].text
    opening = re.compile(_BLANK + rb"<<").match(text, found[1])
    return _automatic(document, _dictionary(text, opening.end()), steps - 1) if opening else ""


def _automatic(document: _Document, body: bytes, steps: int) -> str:
    kind = _KIND.search(body)
    if kind:
        return _BY_ITSELF[kind[1]]
    following = _NEXT.search(body)
    return _follow(document, int(following[1]), steps) if following else ""


_BY_ITSELF = {
    b"URI": "opens an address by itself",
    b"SubmitForm": "sends a form by itself",
    b"ImportData": "imports data by itself",
    b"GoToE": "opens an attachment by itself",
}


def _dictionary(text: bytes, at: int) -> bytes:
    """The dictionary whose inside begins at a place, to its end or for 4 KiB."""
    depth, place, limit = 1, at, at + _NEAR
    for match in _BRACKETS.finditer(text, at, min(limit, len(text))):
        depth += 1 if match[0] == b"<<" else -1
        place = match.start()
        if not depth:
            return text[at:place]
    return text[at:limit]


_BRACKETS = re.compile(rb"<<|>>")

_Meaning = Callable[[_Document, _Part, re.Match[bytes]], str]

_MEANINGS: dict[bytes, _Meaning] = {
    b"JS": _javascript,
    b"Launch": _launch,
    b"RichMedia": _rich_media,
    b"XFA": _dynamic_form,
    b"EF": _attachment,
    b"GoToR": _remote,
    b"URI": _link,
    b"OpenAction": _on_opening,
    b"AA": _on_events,
}
"""What a name may mean."""

_WORDS = re.compile(rb"/(" + b"|".join(_MEANINGS) + rb")" + _END)
