"""Whether this machine is fit to run dicomguard, and what to do where it is not."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from dicomguard import naming, sandbox, selftest
from dicomguard.errors import DicomguardError
from dicomguard.model import Verdict
from dicomguard.scan import scan_bytes
from dicomguard.settings import ScanSettings
from dicomguard.version import VERSION
from dicomguard.watch.mounts import kind_of, remote_kind

_OLD_RULES_DAYS = 365
_FEW_WATCHES = 65_536
"""Less is no trouble for a flat folder, but for an archive by patient and study."""
_MOST_FOLDERS = 200_000
_INOTIFY = Path("/proc/sys/fs/inotify")


class State(StrEnum):
    """How it stands with something."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Line(NamedTuple):
    """One thing that was looked at.

    Attributes:
        state: Whether it is well; with ``fail`` dicomguard cannot be relied on.
        name: What was looked at.
        found: What was seen.
        remedy: What to do; empty where nothing needs to be done.
    """

    state: State
    name: str
    found: str
    remedy: str = ""


class _Vulnerability(NamedTuple):
    component: str
    fixed: str
    reference: str


VULNERABLE = (
    _Vulnerability("libyara", "4.2.3", "CVE-2021-45429"),
    _Vulnerability("libmagic", "5.38", "CVE-2019-18218"),
    _Vulnerability("libmagic", "5.43", "CVE-2022-48554"),
    _Vulnerability("pydicom", "3.0.2", "CVE-2026-32711"),
)
"""What is known of versions before ``fixed``; distributions also mend older ones."""


def examine(settings: ScanSettings, folder: Path | None = None) -> Iterator[Line]:
    """Look at everything.

    Args:
        settings: With the rules to look at.
        folder: One to be watched; None for none.
    """
    yield _python()
    yield Line(State.OK, "dicomguard", VERSION)
    yield from _engines()
    yield _libmagic()
    yield _package("pydicom")
    yield from _rules(settings)
    yield _confinement()
    yield from _inotify()
    if folder is not None:
        yield from _folder(folder)


def is_usable(lines: list[Line]) -> bool:
    """Whether nothing failed."""
    return all(line.state is not State.FAIL for line in lines)


def _python() -> Line:
    version = ".".join(map(str, sys.version_info[:3]))
    return Line(State.OK, "Python", f"{version}, {sys.implementation.name}")


def _versioned(component: str, version: str, label: str = "") -> Line:
    """A component whose version may be known to be vulnerable."""
    known = [
        each.reference
        for each in VULNERABLE
        if each.component == component and _numbers(version) < _numbers(each.fixed)
    ]
    if not known:
        return Line(State.OK, label or component, version)
    return Line(
        State.WARN,
        label or component,
        f"{version}: {', '.join(known)}",
        "upgrade it, unless your distribution has mended this version",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:4])


def _package(name: str) -> Line:
    try:
        return _versioned(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Line(State.FAIL, name, "not installed", f"pip install {name}")


def _engines() -> Iterator[Line]:
    found = []
    try:
        import yara  # noqa: PLC0415 - may be missing
    except ImportError:
        pass
    else:
        found.append(_versioned("libyara", yara.YARA_VERSION))
    try:
        found.append(_versioned("yara-x", metadata.version("yara-x")))
    except metadata.PackageNotFoundError:
        found.append(Line(State.OK, "yara-x", "not installed; it is not needed beside libyara"))
        if len(found) == 1:
            found = [Line(State.FAIL, "YARA", "no engine is installed", "pip install yara-python")]
    yield from found


def _libmagic() -> Line:
    version = naming.version()
    if version is None:
        return Line(
            State.WARN,
            "libmagic",
            "not installed: formats that no rule knows go unnamed; verdicts are the same",
            "Debian, Ubuntu: apt install libmagic1",
        )
    return _versioned("libmagic", version)


def _rules(settings: ScanSettings) -> Iterator[Line]:
    try:
        pack = settings.pack
    except DicomguardError as error:
        yield Line(State.FAIL, "rules", str(error), "mend them: `dicomguard rules lint` says more")
        return
    yield Line(State.OK, "rules", f"{pack.version}, engine {pack.engine}")
    today = datetime.now(UTC).date()
    for part in pack.packs:
        if part.manifest is None or part.manifest.released is None:
            yield Line(State.OK, "pack", f"{part.folder}: of unknown age, {part.standing}")
            continue
        days = (today - part.manifest.released).days
        told = f"{part.manifest.name} {part.manifest.version}, {days} days old"
        if days > _OLD_RULES_DAYS:
            yield Line(State.WARN, "pack", told, "look for a newer one")
        else:
            yield Line(State.OK, "pack", told)
    report = scan_bytes(selftest.eicar(), "", settings)
    if report.verdict is Verdict.MALICIOUS:
        yield Line(State.OK, "self-test", "the EICAR test file is found in a private element")
    else:
        yield Line(
            State.FAIL,
            "self-test",
            f"the EICAR test file is {report.verdict}",
            "the rules do not work: install dicomguard anew",
        )


def _confinement() -> Line:
    able = sandbox.abilities()
    told = (
        f"Landlock version {able.landlock}" if able.landlock else "no Landlock",
        "seccomp" if able.seccomp else "no libseccomp",
    )
    missing = []
    if not able.landlock:
        missing.append("a kernel from 5.13 on with Landlock among its security modules")
    if not able.seccomp:
        missing.append("libseccomp (Debian, Ubuntu: apt install libseccomp2)")
    remedy = f"workers would be confined by {' and '.join(missing)}" if missing else ""
    return Line(State.WARN if missing else State.OK, "sandbox", ", ".join(told), remedy)


def _inotify() -> Iterator[Line]:
    watches = _limit("max_user_watches")
    if watches is None:
        yield Line(
            State.WARN,
            "inotify",
            "its limits cannot be read",
            "without inotify `watch` finds files by its scan, every `reconcile` seconds",
        )
        return
    told = f"{watches} watches, {_limit('max_queued_events')} queued events"
    if watches < _FEW_WATCHES:
        remedy = "sysctl fs.inotify.max_user_watches=1048576, if the ingest has many folders"
        yield Line(State.WARN, "inotify", told, remedy)
    else:
        yield Line(State.OK, "inotify", told)


def _limit(name: str) -> int | None:
    try:
        return int((_INOTIFY / name).read_text())
    except (OSError, ValueError):
        return None


def _folder(folder: Path) -> Iterator[Line]:
    try:
        kind = kind_of(str(folder)) or "not listed"
        remote = remote_kind(str(folder))
    except OSError as error:
        yield Line(State.FAIL, "folder", f"{folder}: {error.strerror}", "name one that there is")
        return
    told = f"{folder}: {kind}"
    if remote:
        remedy = "no events come from there: `watch` scans it; set `settle` to the senders' pauses"
        yield Line(State.WARN, "folder", told, remedy)
    else:
        yield Line(State.OK, "folder", told)
    for right, word in ((os.R_OK, "read"), (os.W_OK, "written to")):
        if not os.access(folder, right):
            remedy = f"run `watch` as a user who may, or chmod {folder}"
            yield Line(State.FAIL, "folder", f"{folder} cannot be {word}", remedy)
    watches = _limit("max_user_watches")
    count = _folders_below(folder)
    if watches is not None and count > watches:
        remedy = f"sysctl fs.inotify.max_user_watches={2 * count}"
        yield Line(State.WARN, "folder", f"{count} folders or more, {watches} watches", remedy)


def _folders_below(folder: Path) -> int:
    """Folders in a folder, itself included, counted up to a bound."""
    count = 0
    for _ in os.walk(folder):
        count += 1
        if count == _MOST_FOLDERS:
            break
    return count
