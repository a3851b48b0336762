"""A burst: many files at once, more than the kernel's queue of events holds.

``python -m benchmarks.daemon burst --files 100000`` prints what became of them and what memory the
daemon took at its peak, with all its processes. The daemon is stopped (SIGSTOP) while the files
are written, so that ``fs.inotify.max_queued_events`` is exceeded for sure. The exit code is 1 if a
file has no outcome or another than it must have, or if the memory is above the bar.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import click
from benchmarks.daemon.measure import Daemon, numbered

MOST_MEMORY = 400 << 20
BAD_ONE_IN = 500
PER_FOLDER = 5000
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


def burst(root: Path, files: int, *, deliver: bool) -> int:
    """One burst; the exit code."""
    where = ["--deliver", str(root / "delivered")] if deliver else []
    daemon = Daemon(root, "--settle", "0.1", *where)
    daemon.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    expected = {}
    for number in range(files):
        # Half of them in one folder, half in many.
        name = f"IM{number}"
        if number % 2:
            name = f"{number // PER_FOLDER}/{name}"
            (daemon.ingest / name).parent.mkdir(exist_ok=True)
        bad = number % BAD_ONE_IN == 0
        (daemon.ingest / name).write_bytes(numbered(number, bad=bad))
        expected[name] = bad
    written = time.monotonic() - started
    daemon.process.send_signal(signal.SIGCONT)
    started, before = time.monotonic(), 0
    progressed = started
    while len(daemon.outcomes()) < files and time.monotonic() - progressed < 120:
        if len(daemon.outcomes()) > before:
            before, progressed = len(daemon.outcomes()), time.monotonic()
        time.sleep(0.5)
    lasted = time.monotonic() - started
    daemon.stop()
    clean = "clean-delivered" if deliver else "clean"
    outcomes = daemon.outcomes()
    wrong = [
        name
        for name, bad in expected.items()
        if outcomes.get(name, ("",))[0] != ("malicious-quarantined" if bad else clean)
    ]
    peak = daemon.peak
    counts = Counter(outcome for outcome, _ in outcomes.values())
    click.echo(f"files      {files}, written in {written:.1f} s to a daemon that was stopped")
    click.echo(f"queue      {QUEUE.read_text().strip()} events")
    click.echo(f"outcomes   {dict(counts)}, {len(wrong)} missing or wrong")
    click.echo(f"time       {lasted:.1f} s, {files / lasted:.0f} files/s")
    click.echo(f"memory     {peak['Pss'] >> 20} MB PSS, {peak['Rss'] >> 20} MB RSS at the peak")
    return bool(wrong) or peak["Pss"] > MOST_MEMORY
