"""XML and its kin that reach outside or run something.

Nothing is parsed, so nothing expands: declarations and instructions are regular (XML 1.0 sections
2.6 and 4.2) and read at their trigger; what elements do is told by words that stand in the same
value as the name of their language. UTF-16 is unwrapped before it comes here.
"""

from __future__ import annotations

import base64
import binascii
import re
from itertools import islice

from msgspec import Struct

from dicomguard.payloads.memory import remembered
from dicomguard.payloads.payload import Data, Payload
from dicomguard.payloads.words import Words, first
from dicomguard.regex import regex

_AWAY = rb"[a-z][a-z0-9+.-]{1,15}:|[\\/]|\.\.[\\/]"
"""How an address begins that leaves the folder of the document."""
_STANDARDS = rb"https?://(?:[\w.-]{1,64}\.)?(?:w3|oasis-open|hl7)\.org/"

# --- Entities: XML 1.0 section 4.2 ----------------------------------------------------------------

_DOCUMENT_TYPE = regex(rb"<!DOCTYPE\s")
_NAME = rb"[^\s<>&'\"%;]{1,256}"
_EXTERNAL = regex(
    rb"<!ENTITY\s+(?:%\s+)?"
    + _NAME
    + rb"\s+(?:SYSTEM|PUBLIC\s+(?:\"[^\"]{0,1024}\"|'[^']{0,1024}'))"
    rb"\s*[\"']\s*(?!" + _STANDARDS + rb")(?P<away>" + _AWAY + rb")[^\"'<>]{0,2048}[\"']"
    rb"(?P<picture>\s+NDATA\s)?",
    re.IGNORECASE,
)  # fmt: skip
_INTERNAL = regex(
    rb"<!ENTITY\s+(" + _NAME + rb")\s+(?:\"([^\"]{0,1048576})\"|'([^']{0,1048576})')\s*>"
)
_REFERENCE = regex(rb"&([^\s<>&'\"%;#]{1,256});")
_ENTITIES = 4096
_BODY = 1 << 24
"""Bytes of a document in which references are counted."""
_PASSES = 64
_EXPANDED = 1 << 22
"""Bytes to which the entities of an honest document may expand."""


def external_entity(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """XML with an entity that is read from a file or an address; ``hit`` is at its declaration.

    Honest are references to document types alone, the standards' own entities, files beside the
    document, and entities that only name a picture (``NDATA``).
    """
    match = _EXTERNAL.match(data, hit, min(high, len(data)))
    if match is None or match["picture"]:
        return None
    if not 0 <= first(data, _DOCUMENT_TYPE, low, high) < hit:
        return None
    return Payload(start=hit, end=match.end(), description="XML with an entity read from elsewhere")


def entity_bomb(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """XML whose entities expand to megabytes; ``hit`` is at a declaration of one."""
    start = first(data, _DOCUMENT_TYPE, low, high)
    if not 0 <= start < hit or hit != first(data, _INTERNAL, start, high):
        return None
    size = _expanded(data, start, min(high, len(data)))
    if size <= _EXPANDED:
        return None
    return Payload(
        start=start,
        end=min(high, len(data)),
        description=f"XML whose entities expand to {size >> 20} MiB or more",
        whole_file=start == 0,
    )


@remembered
def _expanded(data: Data, start: int, high: int) -> int:
    """The size of the largest entity, or of all that the document refers to."""
    values = {
        match[1]: match[2] if match[2] is not None else match[3]
        for match in islice(_INTERNAL.finditer(data, start, high), _ENTITIES)
    }
    inner = {name: _REFERENCE.findall(value) for name, value in values.items()}
    sizes = {name: len(value) for name, value in values.items()}
    for _ in range(_PASSES):
        grown = {
            name: min(len(values[name]) + sum(sizes.get(each, 0) for each in inner[name]), 1 << 60)
            for name in values
        }
        if grown == sizes:
            break
        sizes = grown
    body = min(high, start + _BODY)
    used = sum(sizes.get(match[1], 0) for match in _REFERENCE.finditer(data, start, body))
    return max(used, *sizes.values()) if sizes else 0


# --- Stylesheets: Associating Style Sheets with XML documents 1.0 ---------------------------------

_STYLESHEET = regex(
    rb"<\?xml-stylesheet\s(?=[^<>]{0,1024}?\btype\s*=\s*[\"'](?P<type>[^\"'<>]{0,64}))?"
    rb"[^<>]{0,1024}?\bhref\s*=\s*[\"']\s*(?!" + _STANDARDS + rb")"
    rb"(?:(?P<script>(?:java|vb)script:|data:)|(?P<share>\\\\|//|file:|smb:|ftp:)|(?P<remote>https?:))"
    rb"[^\"'<>]{0,2048}",
    re.IGNORECASE,
)  # fmt: skip


def stylesheet(data: Data, hit: int, _low: int, high: int) -> Payload | None:
    """XML whose stylesheet is a script or comes from elsewhere; ``hit`` is at the instruction.

    A stylesheet beside the document is what nearly every CDA has. One in CSS cannot do more than
    load.
    """
    match = _STYLESHEET.match(data, hit, min(high, len(data)))
    if match is None or (match["remote"] and b"css" in (match["type"] or b"").lower()):
        return None
    source = "that is a script" if match["script"] else "from elsewhere"
    return Payload(start=hit, end=match.end(), description=f"XML with a stylesheet {source}")


# --- What a language's own words say --------------------------------------------------------------


class _Language(Struct, frozen=True):
    """Text by the name of its language, and what of it is active.

    Attributes:
        name: For people.
        mark: What only that language holds.
        words: Active ones, before or behind the mark.
    """

    name: str
    mark: re.Pattern[bytes]
    words: Words

    def find(self, data: Data, hit: int, low: int, high: int) -> Payload | None:
        """The text with the mark at ``hit``; a value is one text, from its first mark on.

        The mark must be all that a trigger is, or its beginning.
        """
        high = min(high, len(data))
        said = self.words.behind(data, low, low, high)
        if not said or hit != first(data, self.mark, low, high):
            return None
        return Payload(start=hit, end=high, description=f"{self.name}: {', '.join(said)}")


def _language(name: str, mark: bytes, **words: bytes) -> _Language:
    meanings = {
        meaning.replace("_", " "): regex(pattern, re.IGNORECASE)
        for meaning, pattern in words.items()
    }
    return _Language(name, regex(mark), Words(meanings))


_SCRIPT_ELEMENT = rb"<(?:[\w-]{1,32}:)?script(?:\s[^<>]{0,512})?>"
_HANDLER = rb"<[a-z][^<>]{0,512}\son[a-z]{3,20}\s{0,8}=\s{0,8}[\"']?[^\"'<>(]{0,256}\("
_SCRIPT_LINK = rb"\b(?:href|src|value|action|data)\s{0,8}=\s{0,8}[\"']?\s{0,8}(?:java|vb)script:"

XINCLUDE = _language(
    "XML",
    rb"http://www\.w3\.org/200[13]/XInclude",
    includes_a_file=rb"<(?:[\w.-]{1,64}:)?include\s(?:[^<>]{0,1024}\s)?href\s{0,8}=\s{0,8}"
    rb"[\"']\s{0,8}(?:" + _AWAY + rb")",
)  # fmt: skip
XSLT = _language(
    "XSLT stylesheet",
    rb"http://www\.w3\.org/(?:1999/XSL/Transform|TR/WD-xsl)",
    script=rb"<[\w.-]{1,64}:script\s[^<>]{0,512}\blanguage\s{0,8}=",
    calls_Java=rb"(?:xalan/java|xslt/java|xalan:/|java:|java-type)[/:]{0,2}"
    rb"(?:java\.lang\.(?:Runtime|ProcessBuilder|System|Class|Thread)|javax\.script|java\.net\.URL"
    rb"|java\.io\.File|javax\.naming)",
    calls_PHP=rb"\bphp:function(?:String)?\s{0,8}\(",
    writes_files=rb"<(?:exsl|redirect|saxon|xalan|lxslt):(?:document|write|output)\s[^<>]{0,512}"
    rb"\b(?:href|file|select)\s{0,8}=",
    reads_files=rb"\b(?:document|doc|unparsed-text)\s{0,8}\(\s{0,8}(?:[\"']|&quot;|&apos;)\s{0,8}"
    rb"(?:file:|[\\/]|https?:)",
)  # fmt: skip
_XAML = _language(
    "XAML",
    rb"<(?:[\w-]{1,32}:)?ObjectDataProvider\b|\bx:FactoryMethod\b",
    starts_a_process=rb"clr-namespace:System\.Diagnostics\s{0,8};\s{0,8}assembly=(?!WindowsBase)"
    rb"|\bProcessStartInfo\b|\{x:Type\s{1,8}[\w.]{1,32}:Process\s{0,8}\}",
    loads_code=rb"\{x:Type\s{1,8}[\w.]{1,32}:(?:XamlReader|Assembly|AppDomain|Activator|PowerShell"
    rb"|RunspaceFactory)\s{0,8}\}|clr-namespace:System\.(?:Reflection|Management\.Automation)\b",
)  # fmt: skip
PAGE = _language(
    "web page or drawing",
    rb"http://www\.w3\.org/(?:2000/svg|1999/xhtml)",
    script=_SCRIPT_ELEMENT,
    event_handler=_HANDLER,
    script_for_a_link=_SCRIPT_LINK,
)
WEB_ARCHIVE = _language(
    "web archive",
    rb"(?i:MIME-Version:[ \t]*1\.0[^\0]{0,2048}?Content-Type:[ \t]*"
    rb"(?:text/html|multipart/related|application/xhtml))",
    script=_SCRIPT_ELEMENT,
    event_handler=_HANDLER,
)


_MARK = 64
"""Bytes that the mark of XAML takes at most: a trigger may be at any word of it."""


def xaml(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """XAML that calls methods of the system; ``hit`` is at the word that calls.

    Siemens keeps XAML in private elements, and a list of choices calls ``GetValues``: the class
    called is what matters.
    """
    place = first(data, _XAML.mark, low, min(high, len(data)))
    return _XAML.find(data, place, low, high) if 0 <= place <= hit < place + _MARK else None


# --- Clinical documents: HL7 CDA Release 2 --------------------------------------------------------

_CDA = _language(
    "clinical document",
    rb"urn:hl7-org:v3",
    script=_SCRIPT_ELEMENT,
    event_handler=_HANDLER,
    script_for_a_link=_SCRIPT_LINK,
    stylesheet_from_elsewhere=_STYLESHEET.pattern,
    entity_from_elsewhere=_EXTERNAL.pattern,
)
_CDA_ROOT = regex(rb"<(?:[\w.-]{1,64}:)?ClinicalDocument[\s>]")
_BODY_TYPE = regex(
    rb"<(?:[\w.-]{1,64}:)?nonXMLBody\b[^\0]{0,1024}?<(?:[\w.-]{1,64}:)?text\s"
    rb"(?=[^<>]{0,512}\brepresentation\s{0,8}=\s{0,8}[\"']B64)(?![^<>]{0,512}\bcompression)"
    rb"[^<>]{0,512}\bmediaType\s{0,8}=\s{0,8}[\"']([\w.+-]{1,64}/[\w.+-]{1,64})[\"'][^<>]{0,512}>"
    rb"([\sA-Za-z0-9+/=]{16,2048})"
)
_TYPES = {
    b"application/pdf": regex(rb"[^\0]{0,1019}%PDF-", re.DOTALL),
    b"image/jpeg": regex(rb"\xff\xd8\xff"),
    b"image/jpg": regex(rb"\xff\xd8\xff"),
    b"image/png": regex(rb"\x89PNG"),
    b"image/gif": regex(rb"GIF8"),
    b"image/tiff": regex(rb"II[*+]\0|MM\0[*+]"),
    b"text/rtf": regex(rb"\s*\{\\rt"),
    b"application/rtf": regex(rb"\s*\{\\rt"),
    b"application/dicom": regex(rb".{128}DICM", re.DOTALL),
}


def clinical_document(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A CDA with something active in it, or a body that is not what it says; ``hit`` is at ``urn``.

    The narrative of a CDA is shown by stylesheets that pass on what they do not know.
    """
    high = min(high, len(data))
    if first(data, _CDA_ROOT, low, high) < 0 or hit != first(data, _CDA.mark, low, high):
        return None
    body = _false_body(data, low, high)
    found = _CDA.find(data, hit, low, high)
    if found is None and not body:
        return None
    start = max(first(data, _CDA_ROOT, low, high), low)
    description = ", ".join(filter(None, (found.description if found else _CDA.name, body)))
    return Payload(start=min(start, hit), end=high, description=description)


@remembered
def _false_body(data: Data, low: int, high: int) -> str:
    """What is wrong with the type of the body, in words."""
    match = _BODY_TYPE.search(data, low, high)
    expected = _TYPES.get(match[1].lower()) if match else None
    if match is None or expected is None:
        return ""
    encoded = re.sub(rb"\s", b"", match[2])
    try:
        content = base64.b64decode(encoded[: len(encoded) & ~3])
    except binascii.Error:
        return ""
    return "" if expected.match(content) else f"its body is no {match[1].decode('ascii')}"
