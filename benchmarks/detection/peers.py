"""The same files through other scanners: plain YARA with the same rules, ClamAV, dicomlock."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicomguard.engine import compile_rules
from dicomguard.rules import shipped_rules

from .case import Bar, Case

_SECONDS = 600


@dataclass(slots=True)
class Peer:
    """What another scanner alarmed at: the names of the cases, and the time it took."""

    name: str
    alarms: set[str] = field(default_factory=set)
    seconds: float = 0.0


class PlainYara:
    """The shipped rules over whole files, as ``yara`` runs them: no places, no validators."""

    def __init__(self, engine: str) -> None:
        sources = {path.name: path.read_text("utf-8") for path in shipped_rules().glob("*.yar")}
        self._rules = compile_rules(engine, sources)
        self.peer = Peer(f"plain {engine}, same rules")

    def look(self, case: Case) -> None:
        """Scan one file."""
        start = time.perf_counter()
        if self._rules.scan(case.data, 60).matches:
            self.peer.alarms.add(case.name)
        self.peer.seconds += time.perf_counter() - start


class Folder:
    """Scanners that are programs: they get the files in a folder, in batches."""

    def __init__(self) -> None:
        self.peers = {
            name: Peer(name) for name in ("clamscan", "dicomlock") if shutil.which(name) is not None
        }
        self._held: dict[str, bytes] = {}

    def look(self, case: Case) -> None:
        """Keep a file for the next batch."""
        if self.peers:
            self._held[case.name] = case.data
            if sum(map(len, self._held.values())) > 1 << 26:
                self.finish()

    def finish(self) -> None:
        """Scan what is held."""
        if not self._held:
            return
        with tempfile.TemporaryDirectory() as folder:
            for peer in self.peers.values():
                own = Path(folder, peer.name)
                own.mkdir()
                names = dict(_written(own, self._held))
                start = time.perf_counter()
                alarms = _RUN[peer.name](own)
                peer.seconds += time.perf_counter() - start
                peer.alarms |= {names[stem] for stem in alarms if stem in names}
        self._held.clear()


def _written(folder: Path, files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    for number, (name, data) in enumerate(files.items()):
        stem = f"{number:05}"
        (folder / f"{stem}.dcm").write_bytes(data)
        yield stem, name


def _output(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - two known programs, found on PATH, without a shell
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


def _clamscan(folder: Path) -> set[str]:
    lines = _output("clamscan", "--infected", "--no-summary", "-r", str(folder)).splitlines()
    return {Path(line.partition(": ")[0]).stem for line in lines if line.endswith(" FOUND")}


def _dicomlock(folder: Path) -> set[str]:
    """Files that it reports a failure or something critical of.

    One file that it cannot read ends its run over a folder without a report; each is then
    scanned by itself.
    """
    alarms: set[str] = set()
    for number, start in enumerate(range(0, len(files := sorted(folder.glob("*.dcm"))), _BATCH)):
        batch = folder / f"batch-{number}"
        batch.mkdir()
        for path in files[start : start + _BATCH]:
            path.rename(batch / path.name)
        _output("dicomlock", str(batch))
        report = batch / "dicomlock_report.json"
        if report.is_file():
            alarms |= _severe(json.loads(report.read_text("utf-8")))
            continue
        for path in sorted(batch.glob("*.dcm")):
            _output("dicomlock", str(path))
            own = path.with_name(f"{path.stem}_report.json")
            if own.is_file():
                alarms |= _severe([json.loads(own.read_text("utf-8"))])
    return alarms


_BATCH = 25
_SEVERE = ("fail", "critical")


def _severe(reports: list[dict[str, Any]]) -> set[str]:
    return {
        Path(report["filename"]).stem
        for report in reports
        if any(finding["severity"] in _SEVERE for finding in report["findings"])
    }


_RUN = {"clamscan": _clamscan, "dicomlock": _dicomlock}


def is_attack(case: Case) -> bool:
    """Whether another scanner is held to alarm at this file."""
    return case.bar in (Bar.MALICIOUS, Bar.ALARM)
