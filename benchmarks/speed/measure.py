"""Whole commands by the clock, and what memory all their processes have."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Command:
    """Something to run.

    Attributes:
        words: The command; empty where what it needs is not installed.
        scale: What its time is multiplied by where it is given only a part of the files.
        codes: Exit codes that it may end with.
    """

    words: Sequence[str]
    scale: float = 1.0
    codes: tuple[int, ...] = (0,)


@dataclass(slots=True)
class Timed:
    """Runs of a command: seconds by the clock, and of all processors for all its processes."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """The median, by the clock."""
        return median(self.seconds)

    @property
    def middle_processor(self) -> float:
        """The median, of the processors; 0 where it was not measured."""
        return median(self.processor) if self.processor else 0.0


def time_once(command: Command, timed: Timed) -> None:
    """Run a command, its output thrown away, and note how long it took.

    Raises:
        SystemExit: It failed.
    """
    started, used = time.perf_counter(), _processor()
    done = subprocess.run(  # noqa: S603
        command.words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    seconds, processor = time.perf_counter() - started, _processor() - used
    if done.returncode not in command.codes:
        raise SystemExit(f"{command.words[0]} ended with {done.returncode}: {done.stderr!r:.500}")
    timed.seconds.append(seconds * command.scale)
    timed.processor.append(processor * command.scale)


def _processor() -> float:
    """Seconds that processes which have ended had of all processors."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def lines_by_time(command: Command) -> list[float]:
    """When each line of a command's output was read, in seconds after its start."""
    started = time.perf_counter()
    times: list[float] = []
    with subprocess.Popen(command.words, stdout=subprocess.PIPE) as process:  # noqa: S603
        assert process.stdout is not None
        while block := os.read(process.stdout.fileno(), 1 << 16):
            times += [time.perf_counter() - started] * block.count(b"\n")
    return times


def peak_anonymous(command: Command) -> int:
    """The most bytes of private (anonymous) memory that a command's processes had at one time."""
    peak = 0
    ended = threading.Event()
    with subprocess.Popen(command.words, stdout=subprocess.DEVNULL) as process:  # noqa: S603

        def sample() -> None:
            nonlocal peak
            while not ended.wait(0.02):
                family = _family(process.pid)
                peak = max(peak, sum(map(_anonymous, family)))

        sampler = threading.Thread(target=sample)
        sampler.start()
        process.wait()
        ended.set()
        sampler.join()
    return peak


def _family(first: int) -> set[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    family = {first}
    for _ in range(3):
        family |= {pid for pid, parent in parents.items() if parent in family}
    return family


def _anonymous(pid: int) -> int:
    """Bytes of a process's own anonymous pages; those that it shares count by its share."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    sizes = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return int(sizes["Pss_Anon"].split()[0]) << 10
