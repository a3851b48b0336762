"""The values everything speaks: places, findings, verdicts and the report of one file.

Nothing here reads a file or knows a format. The JSON that ``dicomguard check --format jsonl``
prints is `Report` field by field, so a change here is a change of the versioned schema
(`SCHEMA_VERSION`).
"""

from __future__ import annotations

from enum import Enum, StrEnum

from msgspec import Struct, field

SCHEMA_VERSION = 1
"""Version of the JSON written for a report; raised by every change that can break a reader."""

EVIDENCE_BYTES = 64
"""The most bytes of a file that a finding quotes."""


class Region(StrEnum):
    """What a byte of a file belongs to. Every byte has exactly one region."""

    PREAMBLE = "preamble"
    """The 128 bytes before ``DICM`` (PS3.10 section 7.1)."""
    PREFIX = "prefix"
    """The four bytes ``DICM``."""
    META = "meta"
    """File Meta Information, group 0002."""
    DATASET = "dataset"
    """Public (even-group) elements."""
    PRIVATE = "private"
    """Private (odd-group) elements and everything nested in them."""
    DOCUMENT = "document"
    """Encapsulated Document (0042,0011)."""
    PIXELS = "pixels"
    """Group 7FE0: native pixel data, and encapsulated fragments with their offset table."""
    PADDING = "padding"
    """Data Set Trailing Padding (FFFC,FFFC)."""
    TAIL = "tail"
    """Bytes after the end of the data set."""
    GAP = "gap"
    """Bytes that no structure explains; the whole of a file that is not DICOM."""


class Category(StrEnum):
    """What kind of fact a finding is; only the first two can change a verdict."""

    MALWARE = "malware"
    EXPLOIT = "exploit"
    CONFORMANCE = "conformance"
    INVENTORY = "inventory"


class _Ranked(Enum):
    """A string enumeration whose members compare by the order in which they are listed."""

    @property
    def rank(self) -> int:
        """Position in the listing, 0 for the least."""
        return list(type(self)).index(self)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self.rank < other.rank

    def __le__(self, other: object) -> bool:
        return self == other or self < other

    def __str__(self) -> str:
        return str(self.value)


class Severity(_Ranked):
    """How bad it is if the finding is true, least first."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Confidence(_Ranked):
    """How sure the finding is, least first.

    ``weak`` is a short magic or a keyword and never changes a verdict; ``strong`` a long magic with
    one field that agrees; ``confirmed`` a structure followed to a second, independent check.
    """

    WEAK = "weak"
    STRONG = "strong"
    CONFIRMED = "confirmed"


class Verdict(_Ranked):
    """The answer for one file, best first."""

    CLEAN = "clean"
    INCOMPLETE = "incomplete"
    SUSPICIOUS = "suspicious"
    MALICIOUS = "malicious"


class FindingKind(Struct, frozen=True, kw_only=True):
    """What a detector can find: the declaration that every finding of that id repeats.

    Attributes:
        id: Stable name, ``FAMILY-WORD``; users script against it.
        title: One line for people, without a full stop.
        why: One or two sentences: why it matters, and what to do about it.
        reference: CVE, PS3.x section or paper; empty where there is none.
        attack: MITRE ATT&CK technique id; empty where none fits.
    """

    id: str
    title: str
    category: Category
    severity: Severity
    confidence: Confidence
    why: str
    reference: str = ""
    attack: str = ""

    @property
    def family(self) -> str:
        """The part of the id before its first hyphen; mediums of two families make a verdict."""
        return self.id.partition("-")[0]


class Place(Struct, frozen=True, kw_only=True):
    """Where in a file something lies.

    Attributes:
        region: The region of the first byte.
        offset: Bytes from the start of the file on disk.
        length: Bytes on disk, or within the unwrapped data where ``inner_offset`` is set.
        tag_path: ``(0040,A730)[2] > (0029,1010)``; empty outside data elements.
        inner_offset: Bytes from the start of the unwrapped data (an inflated data set, or what the
            last wrapping of the chain held), or None.
        chain: The wrappings around the payload, outermost first: ``("base64", "gzip")``; empty
            where there is none, and for an inflated data set. Region, tag path and offset are those
            of the outermost wrapping.
        private_creator: Creator of the innermost private element that holds it, as the file has it;
            empty where there is none, and where the finding stands for places that differ in it.
    """

    region: Region
    offset: int
    length: int
    tag_path: str = ""
    inner_offset: int | None = None
    chain: tuple[str, ...] = ()
    private_creator: str = ""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing found at one place.

    Attributes:
        kind: What was found.
        place: Where it lies.
        detail: What exactly was seen, safe to show: never the text of a patient's value.
        evidence: At most `EVIDENCE_BYTES` raw bytes from the place; reports escape them.
        masked: Whether the evidence is the text of a data element's value, which reports hide
            unless they are asked for values.
        rule: Name of the YARA rule; empty for a detector's finding.
        count: Places alike; more than one where the finding stands for others beside the first.
    """

    kind: FindingKind
    place: Place
    detail: str = ""
    evidence: bytes = b""
    masked: bool = False
    rule: str = ""
    count: int = 1


class Suppressed(Struct, frozen=True, kw_only=True):
    """A finding that somebody has looked at and that does not count.

    Attributes:
        finding: What was found.
        reason: Why it does not count, in the words of whoever decided that.
        expires: The last day on which it does not, ``2027-01-31``; empty for a baseline, which has
            no end.
    """

    finding: Finding
    reason: str
    expires: str = ""


class FileIdentity(Struct, frozen=True, kw_only=True):
    """Which content was scanned, by ``fstat`` of the descriptor it was read from."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Instance(Struct, frozen=True, kw_only=True):
    """What identifies a DICOM object (PS3.3 C.7, C.12.1); each empty where absent.

    The values are bounded to 64 characters and hold only printable ASCII.
    """

    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    modality: str = ""


class Stretch(Struct, frozen=True, kw_only=True):
    """A run of bytes of one region, of one element or of many.

    Attributes:
        offset: Bytes from the start of the file.
        length: Bytes; short neighbours of other regions may be among them.
    """

    region: Region
    offset: int
    length: int


class DrawnElement(Struct, frozen=True, kw_only=True):
    """One data element as pictures show it; never its value.

    Attributes:
        tag: ``(0028,0010)``.
        vr: As written, or from the dictionaries in implicit VR.
        name: From the dictionaries; empty where they have none.
        creator: Private creator as the file has it; empty if public or without one.
        depth: Sequences around it.
        item: Its item's number within the innermost of these; None in the data set itself.
        offset: Bytes from the start of the file, or of the inflated data set.
        length: Bytes, with header, items and delimiters.
        inflated: Whether it lies in the inflated data set.
    """

    tag: str
    vr: str
    name: str
    creator: str
    depth: int
    item: int | None
    offset: int
    length: int
    region: Region
    inflated: bool


class Drawing(Struct, frozen=True, kw_only=True):
    """What a picture of a file needs: bounded, whatever the file.

    Attributes:
        stretches: All of the file, in order.
        entropy: Bits per byte (0 to 8) of equal parts of the file, in order.
        elements: In order; the deepest are left out first, never those that hold a finding.
        elements_in_file: How many there are.
    """

    stretches: tuple[Stretch, ...]
    entropy: tuple[float, ...]
    elements: tuple[DrawnElement, ...]
    elements_in_file: int


class Report(Struct, frozen=True, kw_only=True):
    """All that is known of one file after its scan.

    Attributes:
        path: As given; bytes that are not UTF-8 are surrogate escapes.
        size: Bytes of the file.
        verdict: What the policy makes of the findings.
        unexamined: Why something in the file could not be examined, one reason each; empty when
            every byte was.
        findings: Worst first.
        is_dicom: Whether a DICOM structure was recognised.
        transfer_syntax: UID by which the data set was read; empty where unknown.
        instance: The object's identifiers.
        sha256: Lower-case hex digest; None where it was not computed (a clean file's seldom is).
        identity: None where the file could not be opened or did not come from a file.
        suppressed: What was found and does not count towards the verdict, worst first.
        drawing: Its layout, if it was asked for.
    """

    path: str
    size: int
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    unexamined: tuple[str, ...] = ()
    is_dicom: bool = False
    transfer_syntax: str = ""
    instance: Instance = field(default_factory=Instance)
    sha256: str | None = None
    identity: FileIdentity | None = None
    suppressed: tuple[Suppressed, ...] = ()
    drawing: Drawing | None = None

    @property
    def complete(self) -> bool:
        """Whether every byte of the file was examined."""
        return not self.unexamined
