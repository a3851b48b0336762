"""What is told of payloads that were taken out, as it stands in ``manifest.json``."""

from __future__ import annotations

import msgspec

from dicomguard.model import Finding
from dicomguard.version import VERSION

SCHEMA_VERSION = 1
"""Version of the manifest; raised by every change that can break a reader."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A finding whose payload it is; as in a report, but that nothing of the file is quoted.

    Attributes:
        offset: Bytes from the start of the file; of the outermost wrapping where there is one.
        length: Bytes of the payload as it was found.
        inner_offset: Bytes from the start of the unwrapped or inflated data; null outside such.
        chain: The wrappings that were undone, outermost first.
    """

    id: str
    title: str
    category: str
    severity: str
    confidence: str
    detail: str
    rule: str
    region: str
    tag_path: str
    offset: int
    length: int
    inner_offset: int | None
    chain: tuple[str, ...]

    @classmethod
    def of(cls, finding: Finding) -> Found:
        """What the manifest tells of a finding."""
        kind, place = finding.kind, finding.place
        return cls(
            id=kind.id,
            title=kind.title,
            category=str(kind.category),
            severity=str(kind.severity),
            confidence=str(kind.confidence),
            detail=finding.detail,
            rule=finding.rule,
            region=str(place.region),
            tag_path=place.tag_path,
            offset=place.offset,
            length=place.length,
            inner_offset=place.inner_offset,
            chain=place.chain,
        )


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """One payload, however many findings lead to it.

    Attributes:
        size: Bytes of the payload itself.
        sha256: Of the payload itself, whatever form it is written in.
        findings: The worst first.
        name: Of its file beside the manifest.
    """

    size: int
    sha256: str
    findings: tuple[Found, ...]
    name: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that was taken out of one file.

    Attributes:
        dicomguard: Version that wrote it.
        path: The file, as given; bytes that are not UTF-8 are escaped.
        size: Bytes of the file.
        sha256: Of the file; empty where it could not be read.
        verdict: What the scan made of the file.
        unexamined: Why something may be missing, one reason each.
        payloads: In the order in which they lie in the file.
        neutralised: Whether the payloads are in CaRT form; else they are the bytes themselves.
    """

    schema: int = SCHEMA_VERSION
    dicomguard: str = VERSION
    path: str
    size: int
    sha256: str
    verdict: str
    unexamined: tuple[str, ...]
    payloads: tuple[Payload, ...]
    neutralised: bool = True
