"""Latency: how long after a file was closed it is where it belongs, and the journal knows.

``python -m benchmarks.daemon latency`` writes 50 files of 0.5 MB a second for a minute, one in
twenty of them bad, with the settle time at its minimum, and prints the time from the close of each
file to the line of log that says what was done with it. The exit code is 1 if the 99th percentile
is above the bar.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
from benchmarks.daemon.measure import Daemon, numbered, percentile

BAR = 0.5
SIZE = 500_000
BAD_ONE_IN = 20


def latency(root: Path, rate: float, seconds: float, *, deliver: bool) -> int:
    """One run; the exit code."""
    where = ["--deliver", str(root / "delivered")] if deliver else []
    daemon = Daemon(root, "--settle", "0.1", *where)
    closed: dict[str, float] = {}
    contents = {bad: numbered(0, bad=bad, size=SIZE) for bad in (False, True)}
    started = time.monotonic()
    number = 0
    while time.monotonic() - started < seconds:
        bad = number % BAD_ONE_IN == 0
        name = f"IM{number}"
        (daemon.ingest / name).write_bytes(contents[bad])
        closed[name] = time.time()
        number += 1
        time.sleep(max(0.0, started + number / rate - time.monotonic()))
    deadline = time.monotonic() + 120
    while len(daemon.outcomes()) < number and time.monotonic() < deadline:
        time.sleep(0.2)
    daemon.stop()
    outcomes = daemon.outcomes()
    click.echo(f"files    {number} of {SIZE / 1e6:g} MB, {number / seconds:.1f} a second")
    click.echo(f"memory   {daemon.peak['Pss'] >> 20} MB PSS at the peak")
    click.echo(f"{'outcome':<24}{'files':>7}{'p50':>8}{'p90':>8}{'p99':>8}{'max':>8}  seconds")
    by_outcome: dict[str, list[float]] = {"all": []}
    for name, (outcome, at) in outcomes.items():
        by_outcome.setdefault(outcome, []).append(at - closed[name])
        by_outcome["all"].append(at - closed[name])
    for outcome, times in sorted(by_outcome.items()):
        figures = (percentile(times, share) for share in (0.5, 0.9, 0.99, 1.0))
        told = "".join(f"{each:>8.3f}" for each in figures)
        click.echo(f"{outcome:<24}{len(times):>7}{told}")
    return len(outcomes) < number or percentile(by_outcome["all"], 0.99) > BAR
