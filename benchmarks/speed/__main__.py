"""Run the benchmark: ``python benchmarks/speed --help``."""

from __future__ import annotations

import compileall
import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

_ROOT = Path(__file__).resolve().parents[2]
# Run as a folder, it must find its own package and what its inputs are made by.
sys.path[:0] = [str(_ROOT / "tests"), str(_ROOT / "benchmarks")]

from speed.rows import ROWS, Plan, Result  # noqa: E402 - the path above comes first


@click.command()
@click.option("--only", type=click.Choice(list(ROWS)), multiple=True, help="Some rows only.")
@click.option("--runs", default=5, show_default=True, help="Runs of each command; medians count.")
@click.option("--scale", default=1.0, show_default=True, help="Share of the files.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where inputs are made and removed."
)
@click.option(
    "--dicomlock",
    default=lambda: shutil.which("dicomlock"),
    help="Command of dicomlock; the one on the path if not given.",
)
def main(
    only: tuple[str, ...], runs: int, scale: float, folder: Path | None, dicomlock: str | None
) -> None:
    """Measure how long dicomguard takes beside what people would otherwise run.

    Medians by the clock, and in brackets the seconds of all processors.
    """
    # A checkout is measured whether it is installed or not, with the bytecode that installers make.
    compileall.compile_dir(_ROOT / "src", quiet=1)
    os.environ["PYTHONPATH"] = os.pathsep.join((str(_ROOT / "src"), *sys.path[:2]))
    click.echo("| work | engine | against | dicomguard | peer | ratio | at most | |")
    click.echo("|---|---|---|---:|---:|---:|---:|---|")
    for name in only or ROWS:
        with tempfile.TemporaryDirectory(prefix="dicomguard-speed-", dir=folder) as made:
            for result in ROWS[name](Plan(Path(made), runs, scale, dicomlock)):
                click.echo(_line(result))


def _line(result: Result) -> str:
    start = f"| {result.work} | {result.engine} | {result.against} |"
    bar = "" if result.bar is None else f"{result.bar:g}"
    if result.missing:
        return f"{start} | {result.missing} | | {bar} | |"
    holds = ""
    if result.bar is not None:
        holds = "holds" if result.ratio <= result.bar else "falls short"
    own, peer = f"{result.own:.3g} {result.unit}", f"{result.peer:.3g} {result.unit}"
    if any(result.processor):
        own += f" ({result.processor[0]:.3g})"
        peer += f" ({result.processor[1]:.3g})"
    return f"{start} {own} | {peer} | {result.ratio:.2f} | {bar} | {holds} |"


main()
