"""Kills the daemon again and again while files come in, and counts what became of each of them.

``python tests/crash/harness.py --kills 500 --deliver`` prints what was done and what was found; the
exit code is 1 if a file was lost, delivered unscanned or had two outcomes.

A writer makes files all the time, in every way that files arrive: written at once, in pieces, in
pieces under the name of an unfinished upload, renamed in, in new folders. The daemon is killed with
SIGKILL at random moments, alone or with all its processes, while it starts, recovers and works.
After each death, before the next start:

* every file is in the ingest folder, in the vault or delivered, with the bytes that were written;
* nothing bad is delivered.

At the end the daemon runs until nothing is left to do, and then:

* each bad file has one record, its object decodes to its bytes, and it is nowhere else;
* each clean file is delivered once, or is where it was if nothing is delivered;
* no outcome was announced twice;
* the whole vault verifies, and nothing is left in its ``pending``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dicomguard.quarantine import Vault

FIXTURES = Path(__file__).parents[1] / "fixtures"
BAD = (FIXTURES / "malicious" / "pe-nested.dcm").read_bytes()
CLEAN = (FIXTURES / "clean" / "tiff.dcm").read_bytes()
DATE = b"20040826185059"
"""Part of the UIDs of both; another number makes another file of the same verdict."""

OUTCOME = re.compile(
    r"Z (?P<outcome>[a-z ]+?)(?: \d{8}T\S+ \S*| \S*before the restart)?: (?P<path>\S+)$"
)
PATIENCE = 120.0
"""Seconds that anything may take before it has failed."""


@dataclass
class Stream:
    """Makes files until it is told to stop.

    Attributes:
        ingest: Where they go.
        outside: A folder on the same file system to rename files from.
        rate: Files a second.
        most: Files that may be waiting for their outcome; the writer waits meanwhile.
    """

    ingest: Path
    outside: Path
    rate: float = 60.0
    most: int = 150
    contents: dict[str, bytes] = field(default_factory=dict)
    waiting: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Makes one file after the other."""
        number = 0
        while not self.stopped.wait(1 / self.rate):
            if self.waiting < self.most:
                self.make(number)
                self.waiting += 1
                number += 1

    def is_bad(self, path: str) -> bool:
        """Whether a file must not be delivered."""
        return self.contents[path].startswith(BAD[:132]) and self.contents[path][:2] == BAD[:2]

    def make(self, number: int) -> None:
        """Makes one file; the number says which, where and how."""
        bad = number % 3 == 0
        content = (BAD if bad else CLEAN).replace(DATE, b"2%013d" % number)
        kind = "bad" if bad else "clean"
        folder = self.ingest
        if number % 7 == 0:
            folder = self.ingest / f"study{number // 70}" / f"series{number // 7 % 3}"
            folder.mkdir(parents=True, exist_ok=True)
        name = f"{kind}{number}"
        path = folder / name
        # Before the file is complete: from the moment it has its name it must not be lost.
        self.contents[str(path.relative_to(self.ingest))] = content
        way = number % 5
        if way == 0:
            (self.outside / name).write_bytes(content)
            (self.outside / name).rename(path)
        elif way == 1:
            with path.open("wb", buffering=0) as target:
                for start in range(0, len(content), 4000):
                    target.write(content[start : start + 4000])
                    time.sleep(0.005)
        elif way == 2:
            part = path.with_name(f"{name}.part")
            part.write_bytes(content)
            part.rename(path)
        else:
            path.write_bytes(content)


@dataclass
class Crashes:
    """One run of the harness.

    Attributes:
        root: A folder of its own.
        deliver: Whether clean files are moved on.
        seed: Of the random moments; any where None.
    """

    root: Path
    deliver: bool
    seed: int | None
    problems: list[str] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)
    kills: int = 0

    def __post_init__(self) -> None:
        self.ingest, self.vault = self.root / "ingest", self.root / "vault"
        self.delivered = self.root / "delivered"
        self.outside = self.root / "outside"
        for folder in (self.ingest, self.outside):
            folder.mkdir()
        if self.seed is None:
            self.seed = random.randrange(1 << 32)
        self.random = random.Random(self.seed)
        self.stream = Stream(self.ingest, self.outside)
        self.settled: set[str] = set()
        self.announced: Counter[str] = Counter()
        self.groups: list[int] = []
        self.paths: dict[str, str] = {}
        self.strays = 0

    def run(self, kills: int, seconds: float = float("inf")) -> None:
        """Kills the daemon so many times, or until the time is over, and then sees to the end."""
        writer = threading.Thread(target=self.stream.run)
        writer.start()
        end = time.monotonic() + seconds
        try:
            while self.kills < kills and time.monotonic() < end:
                self._start_and_kill()
                self._check_after_death()
        finally:
            self.stream.stopped.set()
            writer.join()
        self._let_finish()
        self._check_at_the_end()
        self._await_end_of_groups()

    def run_steps(self, steps: Iterable[int]) -> None:
        """Has the daemon die at a step that changes a disk, then at another, and so on.

        Each time there is a new bad and a new clean file, and what the last death left. Ends when
        the daemon has no such step to die at.

        Args:
            steps: Which, counted from 1 at each start; in order.
        """
        for turn, step in enumerate(steps, 1):
            for number in (3 * step, 3 * step + 1):
                self.stream.make(number)
            if self._die_at(step):
                self._check_after_death()
            else:
                break
            if turn % 4 == 0:
                # A file that was in hand at many deaths in a row would be blamed for them.
                self._let_finish()
        self._let_finish()
        self._check_at_the_end()
        self._await_end_of_groups()

    def _die_at(self, step: int) -> bool:
        """Whether the daemon died; else it was killed when it had nothing left to do."""
        process, log = self._start(Path(__file__).with_name("at_step.py"), str(step))
        end = time.monotonic() + PATIENCE
        while process.poll() is None and self._open_files() and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(0.2)  # for what comes after the last file
        died = process.poll() == -signal.SIGKILL
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.kills += 1
        self.moments["at a step" if died else "after the last step"] += 1
        self.groups.append(process.pid)
        self._read(log)
        return died

    def report(self) -> str:
        """What was done and found."""
        contents = self.stream.contents
        bad = sum(map(self.stream.is_bad, contents))
        doubles = sum(count > 1 for count in self.announced.values())
        lines = [
            f"seed              {self.seed}, {'delivering' if self.deliver else 'in place'}",
            f"kills             {self.kills}, {dict(self.moments)}",
            f"files             {len(contents)}, {bad} of them bad",
            f"outcomes          {len(self.announced)} announced, {doubles} more than once",
            f"processes left    {self.strays}",
            f"problems          {len(self.problems)}",
            *(f"                  {problem}" for problem in self.problems[:20]),
        ]
        return "\n".join(lines)

    def _start(self, *program: str | Path) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.root / f"log{self.kills}"
        command = [sys.executable, *map(str, program or ("-m", "dicomguard"))]
        command += ["watch", str(self.ingest)]
        command += ["--quarantine", str(self.vault), "--log", "text"]
        command += ["--settle", "0.1", "--reconcile", "0.5"]
        if self.deliver:
            command += ["--deliver", str(self.delivered)]
        with log.open("wb") as target:
            process = subprocess.Popen(command, stderr=target, start_new_session=True)
        return process, log

    def _start_and_kill(self) -> None:
        process, log = self._start()
        if self.random.random() < 0.15:
            moment = "at the start"
            self._sleep(process, self.random.uniform(0, 1.0))
        else:
            moment = "at work"
            self._await(process, log, "watching")
            self._sleep(process, self.random.uniform(0, 0.6))
        if process.poll() is not None:
            self.problems.append(f"it ended by itself: {log.read_text()[-1000:]}")
        if self.random.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
            self.moments[f"{moment}, with its workers"] += 1
        else:
            process.kill()
            self.moments[f"{moment}, alone"] += 1
        process.wait()
        self.kills += 1
        self.groups.append(process.pid)
        self._read(log)

    def _let_finish(self) -> None:
        process, log = self._start()
        self._await(process, log, "watching")
        end = time.monotonic() + PATIENCE
        while self._open_files():
            if time.monotonic() > end:
                self.problems.append(f"never dealt with: {self._open_files()[:5]}")
                break
            time.sleep(0.2)
        process.terminate()
        if process.wait(PATIENCE) != 0:
            self.problems.append(f"it ended with {process.returncode}")
        self._read(log)

    def _open_files(self) -> list[str]:
        """What must leave the ingest folder and has not."""
        return [
            path
            for path in self.stream.contents
            if (self.deliver or self.stream.is_bad(path)) and (self.ingest / path).exists()
        ]

    def _check_after_death(self) -> None:
        """Whether each file is somewhere, and nowhere it must not be."""
        recorded = self._recorded()
        waiting = 0
        for path, content in list(self.stream.contents.items()):
            if path in self.settled:
                continue
            bad = self.stream.is_bad(path)
            delivered = _read(self.delivered / path)
            if bad and delivered is not None:
                self.problems.append(f"delivered though bad: {path}")
            if delivered is not None and delivered != content:
                self.problems.append(f"other bytes delivered: {path}")
            here = _read(self.ingest / path)
            found = here is not None or delivered is not None or path in recorded
            if not found and not self._is_parked(content) and not self._is_being_made(path):
                self.problems.append(f"lost: {path}")
            if here is None:
                self.settled.add(path)
            else:
                waiting += self.deliver or bad
        self.stream.waiting = waiting

    def _is_being_made(self, path: str) -> bool:
        """Whether the writer was about to give a file its name; it is there a moment later."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            if (self.ingest / path).exists():
                return True
            time.sleep(0.01)
        return False

    def _is_parked(self, content: bytes) -> bool:
        """Whether the vault was about to delete the original, whose record is committed."""
        pending = self.vault / "pending"
        return pending.exists() and any(
            _read(parked) == content for parked in pending.glob("*.original")
        )

    def _recorded(self) -> Counter[str]:
        if not (self.vault / "lock").exists() or not (self.vault / "pending").exists():
            return Counter()
        with Vault(str(self.vault)) as vault:
            ids = vault.ids()
            for record_id in ids:
                if record_id not in self.paths:
                    original = vault.read_record(record_id).original_path
                    self.paths[record_id] = os.path.relpath(original, self.ingest)
        return Counter(self.paths[record_id] for record_id in ids)

    def _check_at_the_end(self) -> None:
        recorded = self._recorded()
        delivered = {
            str(path.relative_to(self.delivered))
            for path in self.delivered.rglob("*")
            if path.is_file()
        }
        for path, content in self.stream.contents.items():
            bad = self.stream.is_bad(path)
            here = _read(self.ingest / path)
            if recorded[path] != bad:
                self.problems.append(f"{recorded[path]} records of {path}")
            if (path in delivered) != (self.deliver and not bad):
                self.problems.append(f"delivered or not: {path}")
            if here != (None if bad or self.deliver else content):
                self.problems.append(f"in the ingest folder or not: {path}")
            if path in delivered and _read(self.delivered / path) != content:
                self.problems.append(f"other bytes delivered: {path}")
        with Vault(str(self.vault)) as vault:
            for record_id in vault.ids():
                record = vault.read_record(record_id)
                vault.verify(record)
                content = self.stream.contents[os.path.relpath(record.original_path, self.ingest)]
                if hashlib.sha256(content).hexdigest() != record.sha256:
                    self.problems.append(f"another hash: {record.original_path}")
        if leftovers := list((self.vault / "pending").iterdir()):
            self.problems.append(f"left in pending: {leftovers}")
        self.problems += [
            f"announced {count} times: {path}"
            for path, count in self.announced.items()
            if count > 1
        ]

    def _read(self, log: Path) -> None:
        """Counts the outcomes that were announced; a last line may have been cut short."""
        for line in log.read_text(encoding="utf-8").splitlines():
            if found := OUTCOME.search(line):
                self.announced[found["path"]] += 1
        log.unlink()

    def _await(self, process: subprocess.Popen[bytes], log: Path, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text not in log.read_text(encoding="utf-8"):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the daemon does not start: {log.read_text()[-2000:]}")
            time.sleep(0.005)

    @staticmethod
    def _sleep(process: subprocess.Popen[bytes], seconds: float) -> None:
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(min(0.005, max(0.0, end - time.monotonic())))

    def _await_end_of_groups(self) -> None:
        """Waits for the workers of daemons that are gone: they must not stay behind."""
        end = time.monotonic() + 20
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, 0)
                while time.monotonic() < end:
                    time.sleep(0.05)
                    os.killpg(group, 0)
                os.killpg(group, signal.SIGKILL)
                self.strays += 1


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def main() -> int:
    """Runs the harness and prints the report."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=500)
    options.add_argument("--deliver", action="store_true", help="move clean files on")
    options.add_argument("--seed", type=int)
    options.add_argument("--folder", help="where to work; a temporary folder if not given")
    options.add_argument("--steps", type=int, help="die at the first so many steps instead")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        crashes = Crashes(Path(folder), chosen.deliver, chosen.seed)
        started = time.monotonic()
        if chosen.steps:
            crashes.run_steps(range(1, chosen.steps + 1))
        else:
            crashes.run(chosen.kills)
        lasted = time.monotonic() - started
    print(crashes.report())  # noqa: T201 - a script
    print(f"time              {lasted:.0f} s")  # noqa: T201
    return bool(crashes.problems or crashes.strays)


if __name__ == "__main__":
    sys.exit(main())
