"""What the vault knows of one file."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from dicomguard.files import ScannedFile
from dicomguard.model import FileIdentity, Instance, Report, Verdict
from dicomguard.reports.model import FindingRecord, to_json
from dicomguard.version import VERSION

RECORD_VERSION = 1
"""Version of a record's JSON; raised by every change that can break a reader."""

MOST_FINDINGS = 1000
"""Findings that a record keeps, the worst; a hostile file can cause far more."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What happened to one quarantined file.

    Attributes:
        id: Generated, unique and sortable by time.
        original_path: Absolute; bytes that are not UTF-8 are surrogate escapes.
        sha256: Of the original bytes, lower-case hex.
        identity: Of the original: device, inode, size in bytes, times in nanoseconds.
        mode: Permission bits of the original.
        uid: Owner of the original.
        gid: Group of the original.
        quarantined_at: ISO 8601, UTC.
        findings: As ``dicomguard check --format jsonl`` gives them, values masked: the first
            `MOST_FINDINGS`.
        findings_total: How many there were.
    """

    id: str
    original_path: str
    sha256: str
    identity: FileIdentity
    mode: int
    uid: int
    gid: int
    quarantined_at: str
    verdict: Verdict
    instance: Instance
    findings: tuple[dict[str, Any], ...]
    findings_total: int
    unexamined: tuple[str, ...]
    rules_version: str
    dicomguard_version: str

    @classmethod
    def of(
        cls,
        record_id: str,
        file: ScannedFile,
        info: os.stat_result,
        report: Report,
        *,
        rules_version: str,
    ) -> Self:
        """The record of a file that is being quarantined now.

        Args:
            record_id: Its id.
            file: Which.
            info: ``fstat`` of it.
            report: What was found in it; the SHA-256 must be known.
            rules_version: By which rules.
        """
        assert report.sha256 is not None
        return cls(
            id=record_id,
            original_path=file.path,
            sha256=report.sha256,
            identity=file.identity,
            mode=stat.S_IMODE(info.st_mode),
            uid=info.st_uid,
            gid=info.st_gid,
            quarantined_at=datetime.now(UTC).isoformat(timespec="microseconds"),
            verdict=report.verdict,
            instance=report.instance,
            findings=tuple(
                to_json(FindingRecord.of(each)) for each in report.findings[:MOST_FINDINGS]
            ),
            findings_total=len(report.findings),
            unexamined=report.unexamined[:MOST_FINDINGS],
            rules_version=rules_version,
            dicomguard_version=VERSION,
        )

    @property
    def age(self) -> timedelta:
        """How long the file has been in quarantine."""
        return datetime.now(UTC) - datetime.fromisoformat(self.quarantined_at)

    def to_bytes(self) -> bytes:
        """The record as it is written."""
        return json.dumps(self.to_json(), indent=2).encode("ascii") + b"\n"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, times as ISO 8601 beside their nanoseconds."""
        return {
            "schema_version": RECORD_VERSION,
            "id": self.id,
            "original_path": self.original_path,
            "sha256": self.sha256,
            "size": self.identity.size,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "gid": self.gid,
            "device": self.identity.device,
            "inode": self.identity.inode,
            "mtime": _iso_time(self.identity.mtime_ns),
            "mtime_ns": self.identity.mtime_ns,
            "ctime": _iso_time(self.identity.ctime_ns),
            "ctime_ns": self.identity.ctime_ns,
            "quarantined_at": self.quarantined_at,
            "verdict": str(self.verdict),
            "study_instance_uid": self.instance.study_instance_uid,
            "series_instance_uid": self.instance.series_instance_uid,
            "sop_instance_uid": self.instance.sop_instance_uid,
            "modality": self.instance.modality,
            "findings": list(self.findings),
            "findings_total": self.findings_total,
            "unexamined": list(self.unexamined),
            "rules_version": self.rules_version,
            "dicomguard_version": self.dicomguard_version,
        }

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: The text is no record of a version known here.
        """
        try:
            values = json.loads(text)
            if values["schema_version"] != RECORD_VERSION:
                raise ValueError(f"record of version {values['schema_version']!r}")
            if not _SHA256.fullmatch(values["sha256"]):
                raise ValueError("no SHA-256")
            if datetime.fromisoformat(values["quarantined_at"]).tzinfo is None:
                raise ValueError("a time without its zone")
            return cls(
                id=str(values["id"]),
                original_path=str(values["original_path"]),
                sha256=values["sha256"],
                identity=FileIdentity(
                    device=int(values["device"]),
                    inode=int(values["inode"]),
                    size=int(values["size"]),
                    mtime_ns=int(values["mtime_ns"]),
                    ctime_ns=int(values["ctime_ns"]),
                ),
                mode=int(values["mode"], 8),
                uid=int(values["uid"]),
                gid=int(values["gid"]),
                quarantined_at=str(values["quarantined_at"]),
                verdict=Verdict(values["verdict"]),
                instance=Instance(
                    study_instance_uid=str(values["study_instance_uid"]),
                    series_instance_uid=str(values["series_instance_uid"]),
                    sop_instance_uid=str(values["sop_instance_uid"]),
                    modality=str(values["modality"]),
                ),
                findings=tuple(dict(finding) for finding in values["findings"]),
                findings_total=int(values.get("findings_total", len(values["findings"]))),
                unexamined=tuple(str(reason) for reason in values["unexamined"]),
                rules_version=str(values["rules_version"]),
                dicomguard_version=str(values["dicomguard_version"]),
            )
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError("not a record") from error


def _iso_time(nanoseconds: int) -> str:
    """UTC, cut to the microsecond; empty for a time that no calendar holds."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return ""
    return moment.isoformat(timespec="microseconds")
