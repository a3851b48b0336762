"""The runner: every case through the scan, held to what it declares, and the tables."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from dicomguard.engine import ENGINES, default_engine
from dicomguard.model import Report, Verdict
from dicomguard.scan import scan_bytes, scan_file
from dicomguard.settings import ScanSettings

from .bombs import Cost, costs
from .case import Bar, Case, Outcome, judge
from .corpus import cases
from .peers import Folder, Peer, PlainYara, is_attack


@dataclass(frozen=True, slots=True)
class Result:
    """One case and how it went, without its bytes."""

    case: Case
    outcome: Outcome
    report: Report
    seconds: float


@dataclass(slots=True)
class Run:
    """All results, and the alarms of other scanners."""

    results: list[Result] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)


def run(
    corpus: Iterable[Case], settings: ScanSettings, *, peers: bool = False, keep: Path | None = None
) -> Run:
    """Scan and judge every case.

    Args:
        corpus: The cases.
        settings: How to scan.
        peers: Whether the other scanners see the files, too.
        keep: Folder that gets a copy of every file, in a sub-folder for each class.
    """
    yara, folder = PlainYara(settings.engine or default_engine()), Folder()
    done = Run()
    for number, case in enumerate(corpus):
        start = time.perf_counter()
        report = scan_bytes(case.data, case.name, settings)
        seconds = time.perf_counter() - start
        if peers:
            yara.look(case)
            folder.look(case)
        if keep:
            target = keep / case.family
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{number:05}.dcm").write_bytes(case.data)
        slim = _without_data(case)
        done.results.append(Result(slim, judge(case, report), report, seconds))
    if peers:
        folder.finish()
        done.peers = [yara.peer, *folder.peers.values()]
    return done


def _without_data(case: Case) -> Case:
    return replace(case, data=b"")


def selected(corpus: Iterable[Case], only: Sequence[str], every: int) -> Iterable[Case]:
    """The cases of the classes, kinds, places or encodings named, and of those each n-th."""
    chosen = (
        case
        for case in corpus
        if not only or {case.family, case.kind, case.place, case.encoding} & set(only)
    )
    return (case for number, case in enumerate(chosen) if number % every == 0)


# ---------------------------------------------------------------------- tables


def attacks(results: Iterable[Result]) -> list[Result]:
    """The results of files that are no hard negatives."""
    return [result for result in results if result.case.bar is not Bar.CLEAN]


def table(
    title: str, results: Iterable[Result], key: Callable[[Case], str], *, noted: bool = False
) -> str:
    """A Markdown table: one row for each value of ``key``, the worst first.

    ``noted`` is for what needs only be named: the verdict's column then counts those above clean.
    """
    rows: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        rows[key(result.case)].append(result)
    verdict = "above clean" if noted else "verdict"
    lines = [
        f"| {title} | files | {verdict} | id | place | found | rate |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, members in sorted(rows.items(), key=lambda row: (_rate(row[1]), row[0])):
        lines.append(f"| {name} | {_counts(members, noted)} |")
    every = [result for members in rows.values() for result in members]
    if every:
        lines.append(f"| **all** | {_counts(every, noted)} |")
    return "\n".join(lines)


def _rate(results: Sequence[Result]) -> float:
    return sum(result.outcome.found for result in results) / len(results)


def _counts(results: Sequence[Result], noted: bool) -> str:
    outcomes = [result.outcome for result in results]
    raised = sum(result.report.verdict > Verdict.CLEAN for result in results)
    parts = [
        len(outcomes), raised if noted else sum(each.verdict for each in outcomes),
        sum(each.id for each in outcomes),
        sum(each.place for each in outcomes), sum(each.found for each in outcomes),
    ]  # fmt: skip
    return " | ".join(map(str, parts)) + f" | {_percent(_rate(results))}"


def _percent(rate: float) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{int(rate * 1000) / 10:.1f} %"


def tables(done: Run) -> str:
    """Every table of a run."""
    wrong = attacks(done.results)
    judged = [result for result in wrong if result.case.bar is not Bar.REPORT]
    noted = [result for result in wrong if result.case.bar is Bar.REPORT]
    plain = [result for result in judged if result.case.encoding == "plain"]
    wrapped = [result for result in judged if result.case.encoding != "plain"]
    parts = [
        "## Attacks that must raise the verdict, by class\n\n"
        + table("class", judged, lambda case: case.family),
        "## By bar\n\n" + table("bar", wrong, lambda case: case.bar.value),
        "## Payloads, by kind\n\n"
        + table("kind", [r for r in plain if r.case.family in PAYLOADS], lambda case: case.kind),
        "## Payloads, by place\n\n"
        + table("place", [r for r in plain if r.case.family in PAYLOADS], lambda case: case.place),
        "## Payloads, by encoding\n\n" + table("encoding", wrapped, lambda case: case.encoding),
        "## Polyglots, exploits and text, by id\n\n"
        + table(
            "class and id",
            [r for r in plain if r.case.family not in PAYLOADS],
            lambda case: f"{case.family}: {case.kind}",
        ),
        "## Mediums and conformance damage, reported only\n\n"
        + table("class and kind", noted, lambda case: f"{case.family}: {case.kind}", noted=True),
        "## Hard negatives\n\n" + _negatives(done.results),
        "## Other scanners\n\n" + _others(done),
        "## Time\n\n" + _times(done.results),
    ]
    return "\n\n".join(parts) + "\n"


PAYLOADS = ("program", "archive", "script", "web-xml", "document", "serialised", "medium")


def _negatives(results: Iterable[Result]) -> str:
    honest = [result for result in results if result.case.bar is Bar.CLEAN]
    verdicts = Counter(str(result.report.verdict) for result in honest)
    listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    return f"{len(honest)} files: {listed or 'none'}."


def _others(done: Run) -> str:
    """How many of the attacks that must raise the verdict each scanner alarms at."""
    hostile = [result for result in done.results if is_attack(result.case)]
    honest = [result for result in done.results if result.case.bar is Bar.CLEAN]
    own = Peer(
        "dicomguard",
        {each.case.name for each in done.results if each.report.verdict > Verdict.INCOMPLETE},
        sum(each.seconds for each in done.results),
    )
    lines = [
        "| scanner | alarms at attacks | rate | alarms at hard negatives | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for peer in (own, *done.peers):
        hits = sum(result.case.name in peer.alarms for result in hostile)
        false = sum(result.case.name in peer.alarms for result in honest)
        rate = _percent(hits / len(hostile)) if hostile else "-"
        lines.append(
            f"| {peer.name} | {hits} of {len(hostile)} | {rate} | {false} of {len(honest)} "
            f"| {peer.seconds:.0f} |"
        )
    return "\n".join(lines)


def _times(results: Sequence[Result]) -> str:
    if not results:
        return "Nothing was scanned."
    slowest = sorted(results, key=lambda result: -result.seconds)
    each = sorted(result.seconds for result in results)
    return (
        f"{len(results)} files, {sum(each):.1f} s; median {each[len(each) // 2] * 1000:.1f} ms, "
        "slowest "
        + ", ".join(f"{result.case.name} {result.seconds:.2f} s" for result in slowest[:5])
        + "."
    )


def misses(results: Iterable[Result]) -> str:
    """One line for each file that is not right: bar, class, name, what is wrong, what was said."""
    lines = ["bar\tclass\tkind\tplace\tencoding\tname\twrong\tverdict\twanted\tfindings"]
    for result in results:
        if result.outcome.found:
            continue
        case = result.case
        said = " ".join(
            f"{finding.kind.id}@{finding.place.tag_path or finding.place.region}"
            f"+{finding.place.offset}"
            for finding in result.report.findings[:8]
        )
        wanted = (
            "/".join(sorted(case.ids))
            + f" at {'/'.join(sorted(case.target.paths)) or 'any'}+{case.target.start}"
        )
        lines.append(
            "\t".join(
                (case.bar.value, case.family, case.kind, case.place, case.encoding, case.name,
                 result.outcome.wrong, str(result.report.verdict), wanted, said)
            )
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def bomb_table(found: Iterable[Cost]) -> str:
    """Time and memory of each bomb."""
    lines = ["| bomb | KiB | verdict | seconds | MiB |", "|---|---:|---|---:|---:|"]
    lines += [
        f"| {cost.name} | {cost.size / 1024:.0f} | {cost.verdict} | {cost.seconds:.1f} "
        f"| {cost.mebibytes:.0f} |"
        for cost in found
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------- honest folders


def false_positives(folder: Path, settings: ScanSettings) -> str:
    """What is said of a folder of honest files."""
    start = time.perf_counter()
    reports = [
        scan_file(Path(top, name), settings)
        for top, _, names in os.walk(folder)
        for name in sorted(names)
    ]
    seconds = time.perf_counter() - start
    verdicts = Counter(str(report.verdict) for report in reports)
    listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    lines = [f"`{folder}`: {len(reports)} files in {seconds:.1f} s: {listed or 'none'}"]
    for report in reports:
        if report.verdict is not Verdict.CLEAN:
            ids = " ".join(dict.fromkeys(finding.kind.id for finding in report.findings))
            lines.append(f"- {report.verdict} {report.path}: {ids}")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--engine", type=click.Choice(sorted(ENGINES)), help="YARA engine.")
@click.option("--seed", default=0, show_default=True, help="Changes what is drawn by chance.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("detection-results"),
    show_default=True, help="Folder for table.md and misses.tsv.",
)  # fmt: skip
@click.option("--only", multiple=True, metavar="CLASS", help="A class, kind, place or encoding.")
@click.option("--every", default=1, type=click.IntRange(1), help="Only each n-th file.")
@click.option(
    "--benign", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of honest files; repeatable.",
)  # fmt: skip
@click.option("--peers/--no-peers", default=True, help="Run the other scanners, too.")
@click.option("--bombs/--no-bombs", default=True, help="Measure time and memory of bombs.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Write the corpus.")
def main(
    *, engine: str | None, seed: int, out: Path, only: tuple[str, ...], every: int,
    benign: tuple[Path, ...], peers: bool, bombs: bool, keep: Path | None,
) -> None:  # fmt: skip
    """Measure what is found of a generated corpus of attacks and honest look-alikes."""
    settings = ScanSettings(engine=engine)
    done = run(selected(cases(seed), only, every), settings, peers=peers, keep=keep)
    text = tables(done)
    if bombs:
        text += "\n## Bombs\n\n" + bomb_table(costs(cases(seed))) + "\n"
    if benign:
        parts = (false_positives(folder, settings) for folder in benign)
        text += "\n## Honest files\n\n" + "\n\n".join(parts) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(text, encoding="utf-8")
    (out / "misses.tsv").write_text(misses(done.results), encoding="utf-8")
    click.echo(text)
    click.echo(f"Misses are named in {out / 'misses.tsv'}.")
