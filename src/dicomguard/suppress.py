"""Findings that somebody has looked at and that do not count: suppressions and baselines.

Suppressed findings leave `Report.findings` for `Report.suppressed`, and the verdict is the policy's
for what remains. What could not be examined cannot be suppressed: such a file stays ``incomplete``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from dicomguard import policy
from dicomguard.errors import DicomguardError
from dicomguard.incomplete import INCOMPLETE
from dicomguard.model import Finding, Report, Suppressed
from dicomguard.version import VERSION

_LARGEST = 4 << 20
"""Bytes of a file of suppressions, which people write."""

_LARGEST_BASELINE = 512 << 20
"""Bytes of a baseline: about 100 a file that is not clean."""

_BASELINE_REASON = "in the baseline"

_Text = Annotated[str, Meta(min_length=1, max_length=1000)]
_Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Tag = Annotated[str, Meta(pattern=r"\A\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)\Z")]


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[suppress]]`` table. All that it names must agree for a finding to be suppressed.

    Creator, tag and folder are for senders to choose, so an entry names an id or a content hash as
    well: nobody gets a program past by writing it under a vendor's creator.

    Attributes:
        id: Finding id.
        sha256: Hash of the whole file, lower-case hex.
        private_creator: Creator of the innermost private element that holds the finding.
        tag: ``(gggg,eeee)`` of an element on the way to the finding.
        folder: Absolute; the file lies in it or below it.
        reason: Why the finding does not count.
        expires: The last day (UTC) on which it does not.
    """

    reason: _Text
    expires: date
    id: _Text | None = None
    sha256: _Sha256 | None = None
    private_creator: _Text | None = None
    tag: _Tag | None = None
    folder: _Text | None = None

    def __str__(self) -> str:
        named = (self.id, self.sha256, self.private_creator, self.tag, self.folder)
        return f"{', '.join(filter(None, named))}: {self.reason} (expired {self.expires})"

    @property
    def depends_on_place(self) -> bool:
        """Whether it holds for some places of a file and not for others."""
        return self.private_creator is not None or self.tag is not None

    def covers(self, finding: Finding, sha256: str | None, path: str) -> bool:
        """Whether a finding in a file is meant."""
        place = finding.place
        return (
            self.id in (None, finding.kind.id)
            and self.sha256 in (None, sha256)
            and self.private_creator in (None, place.private_creator)
            and (self.tag is None or _is_at(finding, self.tag))
            and (self.folder is None or _is_below(path, self.folder))
        )


class Suppressions(Struct, frozen=True, kw_only=True):
    """What does not count.

    Attributes:
        entries: Of the file of suppressions, expired ones included.
        baseline: Finding ids by the SHA-256 of the file they were found in.
    """

    entries: tuple[Entry, ...] = ()
    baseline: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def applied(self, report: Report, *, strict: bool = False, today: date | None = None) -> Report:
        """A report in which the findings that are meant no longer count.

        Args:
            report: As the scan made it.
            strict: As of `policy.verdict`.
            today: The day in UTC; the present one if None.
        """
        if not self.entries and not self.baseline:
            return report
        today = today or datetime.now(UTC).date()
        valid = [entry for entry in self.entries if entry.expires >= today]
        by_rule = Counter(finding.rule for finding in report.findings if finding.rule)
        # More of them may be in places that are not listed.
        crowded = {rule for rule, count in by_rule.items() if count >= policy.FINDINGS_PER_RULE}
        kept: list[Finding] = []
        suppressed: list[Suppressed] = []
        for finding in report.findings:
            entries = valid
            if finding.rule in crowded:
                entries = [entry for entry in valid if not entry.depends_on_place]
            found = self._suppressed(finding, report, entries)
            if found is None:
                kept.append(finding)
            else:
                suppressed.append(found)
        if not suppressed:
            return report
        return replace(
            report,
            verdict=policy.verdict(kept, complete=report.complete, strict=strict),
            findings=tuple(kept),
            suppressed=tuple(suppressed),
        )

    def _suppressed(
        self, finding: Finding, report: Report, entries: Iterable[Entry]
    ) -> Suppressed | None:
        if finding.kind.id == INCOMPLETE.id:
            return None
        for entry in entries:
            if entry.covers(finding, report.sha256, report.path):
                return Suppressed(
                    finding=finding, reason=entry.reason, expires=entry.expires.isoformat()
                )
        if report.sha256 and finding.kind.id in self.baseline.get(report.sha256, ()):
            return Suppressed(finding=finding, reason=_BASELINE_REASON)
        return None

    def expired(self, today: date | None = None) -> list[Entry]:
        """Entries that no longer apply."""
        today = today or datetime.now(UTC).date()
        return [entry for entry in self.entries if entry.expires < today]

    @property
    def version(self) -> str:
        """A hash by which two sets of suppressions can be told apart; empty if there are none.

        What has expired is no part of it.
        """
        if not self.entries and not self.baseline:
            return ""
        import hashlib  # noqa: PLC0415 - most runs suppress nothing
        import json  # noqa: PLC0415

        expired = self.expired()
        valid = [
            msgspec.json.encode(entry).decode() for entry in self.entries if entry not in expired
        ]
        known = sorted((sha256, sorted(ids)) for sha256, ids in self.baseline.items())
        return hashlib.sha256(json.dumps([valid, known]).encode()).hexdigest()[:16]


def _is_at(finding: Finding, tag: str) -> bool:
    """Whether an element is on the way to all that a finding stands for."""
    return finding.count == 1 and tag.upper() in finding.place.tag_path


def _is_below(path: str, folder: str) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(folder)


# ---------------------------------------------------------------------- reading and writing


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    suppress: tuple[Entry, ...] = ()


class _Baseline(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of a baseline: which findings were known, of which content."""

    type: str
    schema: int
    dicomguard: str
    written: datetime
    findings: dict[_Sha256, tuple[_Text, ...]]


_BASELINE_TYPE = "dicomguard-baseline"
_BASELINE_SCHEMA = 1


def load_suppressions(path: Path) -> tuple[Entry, ...]:
    """The ``[[suppress]]`` tables of a TOML file.

    Raises:
        DicomguardError: It cannot be read, or an entry lacks a reason, an end, or what it means.
    """
    import tomllib  # noqa: PLC0415 - most runs suppress nothing

    try:
        values: dict[str, Any] = tomllib.loads(_read(path, _LARGEST).decode("utf-8"))
        entries = msgspec.convert(values, _File).suppress
    except (OSError, ValueError, RecursionError) as error:
        raise DicomguardError(f"cannot read the suppressions in {path}: {_told(error)}") from error
    for number, entry in enumerate(entries, 1):
        problem = _problem(entry)
        if problem:
            raise DicomguardError(f"{path}: suppression {number}: {problem}")
    return entries


def _problem(entry: Entry) -> str:
    if entry.id is None and entry.sha256 is None:
        return "name an id or a sha256; creator, tag and folder only narrow it down"
    if entry.id == INCOMPLETE.id:
        return f"{INCOMPLETE.id} cannot be suppressed: what was not examined is never called clean"
    if not entry.reason.strip():
        return "the reason is empty"
    if entry.folder is not None and not os.path.isabs(entry.folder):
        return "the folder must be an absolute path"
    return ""


def load_baseline(path: Path) -> Mapping[str, frozenset[str]]:
    """Finding ids by the SHA-256 of the file they were found in, as `Baseline` wrote them.

    Raises:
        DicomguardError: It cannot be read or is no baseline.
    """
    try:
        said = msgspec.json.decode(_read(path, _LARGEST_BASELINE), type=_Baseline)
        if (said.type, said.schema) != (_BASELINE_TYPE, _BASELINE_SCHEMA):
            msg = f"it is no {_BASELINE_TYPE} of schema {_BASELINE_SCHEMA}"
            raise ValueError(msg)  # noqa: TRY301 - one message
    except (OSError, ValueError, RecursionError) as error:
        raise DicomguardError(f"cannot read the baseline {path}: {_told(error)}") from error
    return {sha256: frozenset(ids) for sha256, ids in said.findings.items()}


def _read(path: Path, largest: int) -> bytes:
    with path.open("rb") as source:
        content = source.read(largest + 1)
    if len(content) > largest:
        msg = f"it is larger than {largest} bytes"
        raise ValueError(msg)
    return content


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class Baseline:
    """Collects what is known of an archive.

    Only files with a hash are taken, which all that are not clean have. What is suppressed
    otherwise does not need to be known twice.
    """

    def __init__(self) -> None:
        self._found: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, report: Report) -> None:
        """Take what was found in a file, and can change a verdict, as known."""
        ids = {each.kind.id for each in report.findings if each.kind.category in policy.THREATS}
        if report.sha256 and ids:
            self._found.setdefault(report.sha256, set()).update(ids)

    def write(self, path: Path) -> None:
        """Write it, as a whole or not at all.

        Raises:
            DicomguardError: It cannot be written.
        """
        import tempfile  # noqa: PLC0415 - few runs write one

        content = msgspec.json.encode(
            _Baseline(
                type=_BASELINE_TYPE,
                schema=_BASELINE_SCHEMA,
                dicomguard=VERSION,
                written=datetime.now(UTC),
                findings={key: tuple(sorted(ids)) for key, ids in sorted(self._found.items())},
            )
        )
        part = None
        try:
            descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            with open(descriptor, "wb") as stream:
                stream.write(msgspec.json.format(content) + b"\n")
                stream.flush()
                os.fsync(descriptor)
            os.replace(part, path)
        except OSError as error:
            if part is not None:
                with suppress(OSError):
                    os.unlink(part)
            raise DicomguardError(f"cannot write the baseline {path}: {_told(error)}") from error
