"""What the tests of the vault share: files as a scan has just seen them, and looks into a vault."""

import contextlib
import hashlib
import os
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest

from dicomguard.files import ScannedFile, identity_of, opened_folder
from dicomguard.model import (
    Category,
    Confidence,
    Finding,
    FindingKind,
    Instance,
    Place,
    Region,
    Report,
    Severity,
    Verdict,
)
from dicomguard.quarantine import Entry, Vault, VaultWriter, Verification

CONTENT = b"MZ" + bytes(range(256)) * 1000
KIND = FindingKind(
    id="EMB-PE",
    title="Windows executable",
    category=Category.MALWARE,
    severity=Severity.CRITICAL,
    confidence=Confidence.CONFIRMED,
    why="It can be run.",
)
WEEK = timedelta(days=7)


def sha256_of(content):
    return hashlib.sha256(content).hexdigest()


def put(path, content=CONTENT, mode=0o644):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def writer(vault_path, kind=VaultWriter):
    return kind(str(vault_path), rules_version="r1")


def report_of(path, content=CONTENT, **changes):
    values = {
        "path": str(path),
        "size": len(content),
        "verdict": Verdict.MALICIOUS,
        "findings": (
            Finding(kind=KIND, place=Place(region=Region.GAP, offset=0, length=len(content))),
        ),
        "instance": Instance(study_instance_uid="1.2.3", modality="CT"),
        "sha256": sha256_of(content),
    }
    return Report(**values | changes)


@contextlib.contextmanager
def scanned(path):
    """The file as a scan has just seen it."""
    path = Path(path)
    with opened_folder(str(path.parent)) as folder:
        yield ScannedFile(
            folder=folder, name=path.name, path=str(path), identity=identity_of(path.lstat())
        )


def store(vault, path, content=CONTENT, **changes):
    with scanned(path) as file:
        return vault.store(file, report_of(path, content, **changes))


def leftovers(vault_path):
    return sorted(entry.name for entry in (vault_path / "pending").iterdir())


def contents_of(vault_path):
    """Record ids and object names, as they lie in the folders."""
    return (
        sorted(entry.stem for entry in (vault_path / "records").iterdir()),
        sorted(entry.stem for entry in (vault_path / "objects").iterdir()),
    )


def trail_of(vault_path):
    """The lines of the audit trail."""
    return [
        Entry.from_line(line)
        for line in (vault_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    ]


def actions_of(vault_path):
    return [str(entry.action) for entry in trail_of(vault_path)]


def problems_of(vault_path):
    """What `verify` says: text by path, notes in brackets."""
    with Vault(str(vault_path)) as vault:
        return [
            (each.path, each.what if each.is_damage else f"({each.what})")
            for each in Verification(vault).problems()
        ]


@contextlib.contextmanager
def other_file_system():
    """A folder on another file system than the tests'; they are skipped where there is none."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == Path(gettempdir()).stat().st_dev:
        pytest.skip("needs a second file system to write to")
    with TemporaryDirectory(prefix="dicomguard-test-", dir=memory) as folder:
        yield Path(folder)
