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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, field

from dicomguard.payloads.memory import remembered
from dicomguard.payloads.payload import Data
from dicomguard.regex import regex

_WINDOW = 1 << 23
"""Bytes that are read at once."""
_NEAR = 1 << 12
"""Bytes of a dictionary that are looked at; windows overlap by as many."""
_STREAMS = 4096
"""Object streams that are inflated in one document."""
_INFLATED = 1 << 26
"""Bytes to which they are inflated, all together."""
_PIECE = 1 << 10
"""Compressed bytes fed at once."""
_OBJECT_MAX = 1 << 16
"""Bytes of one object that are looked at, its stream included."""
_VERSIONS = 4
"""Objects with one number: updates leave the old ones behind."""
_OBJECTS = 1 << 18
"""Objects whose place is known."""
_ASKED = 1 << 14
"""Places of one name that are looked at."""
_STEPS = 4
"""References that are followed from an action to the next."""
_STEPS_MAX = 1 << 13
"""Dictionaries and strings that are read of one document."""
_FOLLOWED = 64
"""Actions of one dictionary that are followed."""

_BLANK = rb"(?:[\0\t\n\f\r ]|%[^\r\n]{0,128}[\r\n]){0,64}"
_END = rb"(?=[\0\t\n\f\r ()<>\[\]{}/%]|\Z)"
_ESCAPE = regex(rb"#([0-9A-Fa-f]{2})")
_REFERENCE = rb"(\d{1,10})[\0\t\n\f\r ]{1,16}\d{1,5}[\0\t\n\f\r ]{1,16}R" + _END


class Activity(Struct, frozen=True):
    """What is known of a document.

    Attributes:
        actions: What it does by itself, in words; empty for an honest one.
        opaque: Why parts of it could not be read, in words; empty where all could.
    """

    actions: tuple[str, ...]
    opaque: str


class _Document(Struct):
    """What can be read of a document, and where its objects begin.

    Attributes:
        inflated: The content of its object streams.
        opaque: What could not be read, in words.
        excess: Which limit was exceeded, in words.
        objects: Where the objects of one number begin: in the data, or in what was inflated.
    """

    data: Data
    start: int
    end: int
    opaque: str = ""
    excess: str = ""
    inflated: list[bytes] = field(default_factory=list)
    objects: dict[int, list[tuple[Data, int]]] = field(default_factory=dict)
    known: dict[re.Pattern[bytes], bool] = field(default_factory=dict)
    steps: int = 0

    def spend(self) -> bool:
        """Whether one more dictionary or string may be read."""
        self.steps += 1
        if self.steps > _STEPS_MAX:
            self.excess = "more actions than are read"
        return self.steps <= _STEPS_MAX

    def windows(self) -> Iterator[tuple[int, bytes]]:
        """The document piece by piece, as it is stored."""
        for at in range(self.start, self.end, _WINDOW):
            yield at, self.data[at : min(at + _WINDOW + _NEAR, self.end)]

    def texts(self) -> Iterator[bytes]:
        """All that can be read, with the escapes of names undone."""
        for _, raw in self.windows():
            yield _unescaped(raw)
        for content in self.inflated:
            yield _unescaped(content)

    def note(self, holder: Data, objects: Iterable[tuple[int, int]]) -> None:
        """Remember where objects begin; of many with one number the first and the last ones."""
        for number, at in objects:
            if number not in self.objects and len(self.objects) >= _OBJECTS:
                self.opaque = "more objects than are read"
                continue
            places = self.objects.setdefault(number, [])
            del places[_VERSIONS - 1 :]
            places.append((holder, at))

    def bodies(self, number: bytes) -> Iterator[bytes]:
        """The beginnings of the objects of a number, as they are stored."""
        for holder, at in self.objects.get(int(number), ()):
            yield holder[at : at + _OBJECT_MAX]

    def has(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether a pattern stands anywhere."""
        if pattern not in self.known:
            self.known[pattern] = any(map(pattern.search, self.texts()))
        return self.known[pattern]


@remembered
def activity(data: Data, start: int, end: int) -> Activity:
    """What the PDF in ``[start, end)`` does by itself.

    Forms, links, destinations and attachments that are no programs are honest, and so is
    JavaScript that only formats the fields of a form or prints.
    """
    document = _read(data, start, end)
    seen: dict[str, None] = {}
    asked: Counter[bytes] = Counter()
    for text in document.texts():
        for match in _WORDS.finditer(text):
            word = match[1]
            asked[word] += 1
            if asked[word] > _ASKED:
                document.excess = "more actions than are read"
                continue
            said = _MEANINGS[word](document, text, match)
            if said:
                seen[said] = None
    # No report comes near the limits: what exceeds them means to hide behind them.
    return Activity((*seen, *filter(None, [document.excess])), document.opaque)


# ---------------------------------------------------------------------- reading

_STREAM = regex(rb"stream(?:\r\n|\n|\r)")
_OBJECT_STREAM = regex(rb"/First" + _END)
_ENCRYPTED = regex(rb"/Encrypt" + _BLANK + rb"(?:<<|\d)")
_FILTERS = regex(rb"/(ASCIIHexDecode|AHx|ASCII85Decode|A85)" + _END)
_PREDICTOR = regex(rb"/Predictor" + _BLANK + rb"(?:[2-9]|1\d)")
_OBJECT = regex(rb"(?<!\d)(\d{1,10})[\0\t\n\f\r ]{1,16}\d{1,5}[\0\t\n\f\r ]{1,16}\Z")
_OBJECT_HEAD = 48
_PAIR = regex(rb"[\0\t\n\f\r ]*(\d{1,10})[\0\t\n\f\r ]+(\d{1,10})[\0\t\n\f\r ]*")
_PAIRS = 1 << 10
"""Objects of one stream; writers put some hundred into one."""


def _read(data: Data, start: int, end: int) -> _Document:
    document = _Document(data, start, end)
    left, streams = _INFLATED, 0
    for at, raw in document.windows():
        document.note(data, ((number, at + offset) for number, offset in _objects_of_file(raw)))
        for match in _STREAM.finditer(raw):
            head = raw[max(0, match.start() - _NEAR) : match.start()]
            if head.endswith(b"end") or not _OBJECT_STREAM.search(head := _unescaped(head)):
                continue
            streams += 1
            if streams > _STREAMS or left <= 0:
                document.excess = "more object streams than are read"
                break
            content = _undone(data, at + match.end(), end, head, left)
            left -= len(content)
            if not _PAIR.match(content):
                content = b""
            if content:
                document.inflated.append(content)
                document.note(content, _objects_of_stream(content))
            # The head of another stream may be near; only this one's own makes it opaque.
            own = head[head.rfind(b"obj") + 3 :]
            if _OBJECT_STREAM.search(own) and (not content or _PREDICTOR.search(own)):
                document.opaque = "object streams that cannot be read"
    if document.has(_ENCRYPTED):
        document.opaque = "encrypted"
    return document


def _unescaped(raw: bytes) -> bytes:
    """With the escapes of names undone; those of strings as well, which nobody would miss."""
    if b"#" not in raw:
        return raw
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw)


def _undone(data: Data, start: int, end: int, head: bytes, room: int) -> bytes:
    """The content of a stream with its filters undone as far as possible; empty if not.

    That it is deflated is told by its own first bytes, whatever its dictionary says.
    """
    until = data.find(b"endstream", start, min(start + room, end))
    content: bytes = data[start : until if until >= 0 else min(start + room, end)]
    if not _is_zlib(content):
        for name in _FILTERS.findall(head):
            try:
                content = _UNDO[name](content)
            except (ValueError, binascii.Error):
                return b""
    return _inflated(content, room) if _is_zlib(content) else content


def _is_zlib(content: bytes) -> bool:
    """Whether a zlib header stands here (RFC 1950 section 2.2)."""
    return len(content) > 2 and content[0] & 0x8F == 8 and (content[0] << 8 | content[1]) % 31 == 0


def _inflated(content: bytes, room: int) -> bytes:
    """What a damaged stream held up to the damage counts as well, to the byte in a short one."""
    made, is_whole = _fed(content, room, _PIECE)
    return made if is_whole or len(content) > _OBJECT_MAX else _fed(content, room, 1)[0]


def _fed(content: bytes, room: int, piece: int) -> tuple[bytes, bool]:
    """What a stream gives that is fed piece by piece, and whether it came to its end unharmed."""
    stream, made = zlib.decompressobj(), bytearray()
    for at in range(0, len(content), piece):
        try:
            made += stream.decompress(content[at : at + piece], max(room - len(made), 1))
        except zlib.error:
            return bytes(made), False
        if stream.eof or len(made) >= room:
            break
    return bytes(made), True


def _hex(content: bytes) -> bytes:
    digits = re.sub(rb"[^0-9A-Fa-f]", b"", content.partition(b">")[0])
    return bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode())


def _ascii85(content: bytes) -> bytes:
    return base64.a85decode(content.strip().removeprefix(b"<~").partition(b"~")[0])


_UNDO: dict[bytes, Callable[[bytes], bytes]] = {
    b"ASCIIHexDecode": _hex,
    b"AHx": _hex,
    b"ASCII85Decode": _ascii85,
    b"A85": _ascii85,
}


def _objects_of_file(raw: bytes) -> Iterator[tuple[int, int]]:
    """Numbers of objects and where they begin, behind the word that is looked for first."""
    at = raw.find(b"obj")
    while at >= 0:
        head = _OBJECT.search(raw, max(0, at - _OBJECT_HEAD), at)
        if head:
            yield int(head[1]), at + len(b"obj")
        at = raw.find(b"obj", at + 1)


def _objects_of_stream(content: bytes) -> Iterator[tuple[int, int]]:
    """Numbers of objects and where they begin; the head of the stream is such pairs."""
    pairs: list[tuple[int, int]] = []
    at = 0
    while len(pairs) < _PAIRS and (match := _PAIR.match(content, at)):
        pairs.append((int(match[1]), int(match[2])))
        at = match.end()
    return ((number, at + offset) for number, offset in pairs)


# ---------------------------------------------------------------------- meaning

_VALUE = regex(_BLANK + rb"(?:(\()|(<)(?!<)|" + _REFERENCE + rb"|(<<)|(\[))")
_AUTOMATIC = regex(
    _BLANK
    + rb"/(?P<event>O|C|PO|PC|PV|PI|WC|WS|WP|DS|DP)"
    + _BLANK
    + rb"(?:"
    + _REFERENCE
    + rb"|<<)"
)
_KIND = regex(rb"/S" + _BLANK + rb"/(URI|SubmitForm|ImportData|GoToE|JavaScript|Launch)" + _END)
_NEXT = regex(rb"/Next" + _BLANK + rb"\[?" + _BLANK + _REFERENCE)
_KIND_OF = regex(rb"(?:/S|obj)" + _BLANK + rb"\Z")
_PROGRAM = regex(
    rb"\.(?:exe|dll|scr|com|bat|cmd|pif|cpl|msi|ps1|vb[se]|jse?|ws[fh]?|hta|lnk|jar|chm|reg|url|sct"
    rb"|application|iso|img|vhdx?|doc[m]|xls[mb]|ppt[m]|sh|py|apk|settingcontent-ms)\Z",
    re.IGNORECASE,
)
_RUNS = regex(
    _PROGRAM.pattern
    + rb"|\A(?:cmd|command|powershell|pwsh|mshta|[cw]script|rundll32|regsvr32|msiexec|certutil)\b"
    rb"|\A/(?:usr/)?(?:local/)?s?bin/|\A(?:\\\\|//|smb:|https?:)",
    re.IGNORECASE,
)
_STRING = regex(rb"\(((?:[^()\\]|\\.){1,512})\)|<([0-9A-Fa-f\s]{2,1024})>", re.DOTALL)
_SHARE = regex(rb"\(\\\\\\\\|<\s*5[cC]\s*5[cC]|\(\\134\\134|\(//")
_HARMLESS = regex(
    rb"(?:\s|;|AF[A-Za-z_]{2,32}\s*\((?:[^()`]|new\s+Array\s*\([^()`]*\))*\)"
    rb"|(?:this\.)?print\s*\([^()`]*\))*"
)


def _javascript(document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    """``/JS``: what it may do; fields of forms compute and check with it."""
    if not document.spend():
        return ""
    code = _code(document, text[match.start() : match.start() + _NEAR])
    return "JavaScript" if _REACHES_OUT.search(code) else ""


def _code(document: _Document, body: bytes) -> bytes:
    """The JavaScript of an action: a string, or a stream somewhere else."""
    key = _JS.search(body)
    value = _VALUE.match(body, key.end()) if key else None
    if value is None:
        return b""
    if not value[3]:
        return _literal(body, value.end() - 1) if value[1] or value[2] else b""
    return b"\n".join(_stored_code(stored) for stored in document.bodies(value[3]))


def _stored_code(stored: bytes) -> bytes:
    """The JavaScript that an object is: a string or a stream."""
    value = _VALUE.match(stored)
    if value and (value[1] or value[2]):
        return _literal(stored, value.end() - 1)
    stream = _STREAM.search(stored)
    if stream is None:
        return b""
    head = _unescaped(stored[: stream.start()])
    return _undone(stored, stream.end(), len(stored), head, _OBJECT_MAX)


def _on_loading(document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    """``/JavaScript`` as a key: scripts that run as soon as the document is open.

    Acrobat adds its own to forms and to documents with attachments.
    """
    value = _VALUE.match(text, match.end())
    if value is None or not (value[3] or value[4]):
        return ""
    if document.has(_ACROBAT):
        return ""  # whatever reaches out is found by its own words
    return "JavaScript on opening"


_JS = regex(rb"/JS" + _END)
_ACROBAT = regex(rb"\(!ADBE::|AttachmentsCompatibility", re.IGNORECASE)
_REACHES_OUT = regex(
    rb"\b(?:launchURL|getURL|submitForm|mailDoc|mailForm|mailMsg|exportDataObject|importDataObject"
    rb"|openDoc|openDataObject|newPlayer|customDictionaryOpen|getIcon|collectEmailInfo|printSeps"
    rb"|unescape|fromCharCode|byteToChar|eval|heap|setTimeOut|setInterval|ADBC|SOAP|Net\.HTTP"
    rb"|importAnFDF|importXFAData|importTextData|saveAs|execMenuItem|trustedFunction|addScript"
    rb"|createDataObject|Collab|spell\.|app\.media)\b"
)
"""Words of JavaScript for Acrobat that reach beyond the document, or that exploits are made of."""


def _literal(text: bytes, at: int) -> bytes:
    """The string at a place, of at most 64 KiB."""
    if text[at : at + 1] == b"<":
        digits = text[at + 1 : at + _OBJECT_MAX].partition(b">")[0]
        return _plain(_hex(digits))
    depth, made = 0, bytearray()
    for token in _TOKEN.finditer(text, at, min(at + _OBJECT_MAX, len(text))):
        part = token[0]
        if part == b"(":
            depth += 1
            part = part if depth > 1 else b""
        elif part == b")":
            depth -= 1
            if not depth:
                break
        elif part[:1] == b"\\":
            part = _character(part[1:])
        made += part
    return _plain(bytes(made))


_TOKEN = regex(rb"[^()\\]+|[()]|\\(?:[0-7]{1,3}|\r\n|.)?", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"", b"f": b"", b"\n": b"", b"\r\n": b""}


def _character(escape: bytes) -> bytes:
    """What stands behind a backslash (ISO 32000-2 table 3)."""
    if escape[:1].isdigit() and escape[:1] < b"8":
        return bytes([int(escape, 8) & 0xFF])
    return _CONTROLS.get(escape, escape)


def _plain(string: bytes) -> bytes:
    """A string without what UTF-16 adds to ASCII."""
    return string.replace(b"\0", b"").removeprefix(b"\xfe\xff")


def _launch(document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    """``/Launch``: starts what it names. Links to other documents beside this one are honest."""
    if not _is_kind(text, match):
        return ""
    around = text[max(0, match.start() - 256) : match.end() + 512]
    for reference in list(_FILE.finditer(around))[:_STEPS]:
        for stored in document.bodies(reference[1]):
            around += b" " + _unescaped(stored[:512])
    names = list(_strings(around))
    return "starts a program" if any(map(_RUNS.search, names)) else ""


_FILE = regex(rb"/(?:F|UF|Win|Unix|Mac)" + _BLANK + _REFERENCE)


def _is_kind(text: bytes, match: re.Match[bytes]) -> bool:
    """Whether a name says what kind of action a dictionary is, or may be referred to for that."""
    before = text[max(0, match.start() - 256) : match.start()]
    return _KIND_OF.search(before) is not None


def _rich_media(_document: _Document, _text: bytes, _match: re.Match[bytes]) -> str:
    return "rich media"


def _dynamic_form(_document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    value = _VALUE.match(text, match.end())
    return "XFA form" if value and (value[3] or value[5]) else ""


def _attachment(_document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    """``/EF``: files in the document, by the names around."""
    value = _VALUE.match(text, match.end())
    if value is None or not (value[3] or value[4]):
        return ""
    around = text[max(0, match.start() - 512) : match.end() + 512]
    return "program attached" if any(map(_PROGRAM.search, _strings(around))) else ""


def _strings(text: bytes) -> Iterator[bytes]:
    for match in _STRING.finditer(text):
        string = match[1] if match[1] is not None else _hex(match[2])
        yield string.replace(b"\0", b"").strip()


def _remote(_document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    """``/GoToR``: another document; honest unless it is on somebody's server."""
    around = text[max(0, match.start() - 512) : match.end() + 512]
    share = _is_kind(text, match) and _SHARE.search(around)
    return "opens a document on a network share" if share else ""


def _link(_document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    """``/URI`` that is no address."""
    return "link that is a script" if _SCRIPT_LINK.match(text, match.end()) else ""


_SCRIPT_LINK = regex(_BLANK + rb"\(\s*(?:javascript|vbscript|data:text/html)", re.IGNORECASE)


def _on_opening(document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    """``/OpenAction``: a destination or an action."""
    value = _VALUE.match(text, match.end())
    if value is None or not (value[3] or value[4]):
        return ""
    body = _inside(document, value[3]) if value[3] else _dictionary(document, text, value.end())
    return _automatic(document, body, _STEPS)


def _on_events(document: _Document, text: bytes, match: re.Match[bytes]) -> str:
    """``/AA``: actions by event; those of opening, closing and printing count."""
    value = _VALUE.match(text, match.end())
    if value is None or not (value[3] or value[4]):
        return ""
    body = _inside(document, value[3]) if value[3] else _dictionary(document, text, value.end())
    for event in list(_AUTOMATIC.finditer(body))[:_FOLLOWED]:
        inside = _dictionary(document, body, event.end())
        said = _automatic(document, _inside(document, event[2]) if event[2] else inside, _STEPS)
        # Closing a page and computing a field have the same letter.
        if said and not (event["event"] == b"C" and said == _BY_ITSELF[b"JavaScript"]):
            return said
    return ""


def _inside(document: _Document, number: bytes) -> bytes:
    """The inside of the dictionaries that objects of a number are; empty if they are none."""
    insides = []
    for stored in document.bodies(number):
        text = _unescaped(stored)
        opening = _OPENING.match(text)
        insides.append(_dictionary(document, text, opening.end()) if opening else b"")
    return b" ".join(insides)


_OPENING = regex(_BLANK + rb"<<")


def _automatic(document: _Document, body: bytes, steps: int) -> str:
    """What an action does that nobody asked for, or the next one after it."""
    kind = _KIND.search(body)
    if kind and not (kind[1] == b"JavaScript" and _is_harmless(_code(document, body))):
        return _BY_ITSELF[kind[1]]
    following = _NEXT.search(body) if steps else None
    return _automatic(document, _inside(document, following[1]), steps - 1) if following else ""


def _is_harmless(code: bytes) -> bool:
    """Whether code only formats fields or prints; what cannot be read is not."""
    return bool(code.strip()) and _HARMLESS.fullmatch(code) is not None


_BY_ITSELF = {
    b"URI": "opens an address by itself",
    b"SubmitForm": "sends a form by itself",
    b"ImportData": "imports data by itself",
    b"GoToE": "opens an attachment by itself",
    b"JavaScript": "JavaScript on opening",
    b"Launch": "starts a program",
}


def _dictionary(document: _Document, text: bytes, at: int) -> bytes:
    """The dictionary whose inside begins at a place, to its end or for 4 KiB."""
    if not document.spend():
        return b""
    depth, place, limit = 1, at, at + _NEAR
    for match in _BRACKETS.finditer(text, at, min(limit, len(text))):
        depth += 1 if match[0] == b"<<" else -1
        place = match.start()
        if not depth:
            return text[at:place]
    return text[at:limit]


_BRACKETS = regex(rb"<<|>>")

_Meaning = Callable[[_Document, bytes, re.Match[bytes]], str]

_MEANINGS: dict[bytes, _Meaning] = {
    b"JS": _javascript,
    b"JavaScript": _on_loading,
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

_WORDS = regex(rb"/(" + b"|".join(_MEANINGS) + rb")" + _END)
