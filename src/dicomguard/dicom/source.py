"""A piece of data with its layout, and where on disk it lies."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from dicomguard.dicom.layout import (
    Data,
    Element,
    Inflated,
    Item,
    Layout,
    Owner,
    Span,
    private_creator,
    tag_path,
)
from dicomguard.dicom.vr import TEXT_VRS
from dicomguard.model import EVIDENCE_BYTES, Finding, FindingKind, Place, Region


class Origin(Struct, frozen=True, kw_only=True):
    """Where unwrapped data came from.

    Attributes:
        place: The outermost wrapped run.
        chain: The wrappings undone on the way, outermost first.
    """

    place: Place
    chain: tuple[str, ...]


class Source(Struct, frozen=True, kw_only=True):
    """What rules and detectors look at: a file, the data set inflated from it, or unwrapped data.

    Attributes:
        data: The bytes.
        layout: Their layout.
        file: The layout of the file on disk, the same as ``layout`` for the file itself.
        container: The deflated data set that ``data`` is; None if it is none.
        origin: Where unwrapped data came from; None if it is none.
    """

    data: Data
    layout: Layout
    file: Layout
    container: Inflated | None = None
    origin: Origin | None = None

    @property
    def is_file(self) -> bool:
        """Whether offsets in ``data`` are offsets in the file."""
        return self.container is None and self.origin is None

    @property
    def chain(self) -> tuple[str, ...]:
        """The wrappings around ``data``, outermost first."""
        return self.origin.chain if self.origin else ()

    def region_at(self, offset: int) -> Region:
        """The region of the byte at ``offset``; of unwrapped data that of its outermost wrapping.

        Raises:
            IndexError: The offset is outside the data.
        """
        return self.origin.place.region if self.origin else self.layout.span_at(offset).region

    def place(
        self, start: int, end: int, *, region: Region | None = None, owner: Owner = None
    ) -> Place:
        """The place of ``[start, end)``; region and owner are those of its first byte if not given.

        Raises:
            IndexError: ``start`` is outside the data and no region is given.
        """
        if self.origin is not None:
            return replace(
                self.origin.place, length=end - start, inner_offset=start, chain=self.origin.chain
            )
        if region is None:
            span = self.layout.span_at(start)
            region, owner = span.region, owner or span.owner
        length = end - start
        path, creator = tag_path(owner), private_creator(owner)
        if self.container is None:
            return Place(
                region=region, offset=start, length=length, tag_path=path, private_creator=creator
            )
        return Place(
            region=region,
            offset=self.container.offset,
            length=length,
            tag_path=path,
            inner_offset=start,
            private_creator=creator,
        )

    def extent(self, place: Place) -> tuple[int, int]:
        """Where in ``data`` a place of this source begins and ends."""
        start = place.offset if place.inner_offset is None else place.inner_offset
        return start, start + place.length

    def finding(
        self,
        kind: FindingKind,
        start: int,
        end: int,
        *,
        detail: str = "",
        rule: str = "",
        region: Region | None = None,
        owner: Owner = None,
        count: int = 1,
        one_creator: bool = False,
    ) -> Finding:
        """A finding of ``[start, end)`` with its place and evidence.

        Where it stands for several places (``count``) it has a private creator only if they all
        have it (``one_creator``).

        Raises:
            IndexError: As `place` does.
        """
        place = self.place(start, end, region=region, owner=owner)
        if count > 1 and not one_creator:
            place = replace(place, private_creator="")
        return Finding(
            kind=kind,
            place=place,
            detail=detail,
            evidence=bytes(self.data[start : min(end, start + EVIDENCE_BYTES)]),
            masked=self._shows_text(start, min(end, start + EVIDENCE_BYTES), named=bool(rule)),
            rule=rule,
            count=count,
        )

    def _shows_text(self, start: int, end: int, *, named: bool) -> bool:
        """Whether a byte of ``[start, end)`` may be text of a value, so of a patient.

        What nobody could read as elements may hold such text as well, unless a rule has ``named``
        what it is. Of unwrapped data it is whatever looks like text.
        """
        if self.origin is not None:
            return self.data[start:end].isascii()
        while start < min(end, self.layout.size):
            span = self.layout.span_at(start)
            if self._is_text(span) or (span.region in _UNREAD and not named):
                return True
            start = span.end
        return False

    def _is_text(self, span: Span) -> bool:
        owner = span.owner.container if isinstance(span.owner, Item) else span.owner
        if not isinstance(owner, Element) or not span.is_value:
            return False
        return owner.vr in TEXT_VRS or (
            owner.vr == "UN" and self.data[span.start : span.start + EVIDENCE_BYTES].isascii()
        )


_UNREAD = (Region.TAIL, Region.GAP, Region.META)
