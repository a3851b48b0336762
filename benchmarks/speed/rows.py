"""What is measured against what, and by how much it may be slower."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import inputs
from .dying import EVERY
from .measure import Command, Timed, lines_by_time, peak_anonymous, time_once

_ROOT = Path(__file__).resolve().parents[2]
_ENGINES = ("yara", "yara-x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A row of the table: two figures and the bar that their ratio is held to."""

    work: str
    engine: str
    against: str
    bar: float | None
    own: float = 0.0
    peer: float = 0.0
    unit: str = "s"
    missing: str = ""
    processor: tuple[float, float] = (0.0, 0.0)
    """Seconds of all processors, of both."""

    @property
    def ratio(self) -> float:
        """Own figure by the other."""
        return self.own / self.peer


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        folder: Where inputs may be made.
        runs: How often each command runs.
        scale: Share of the full number of files.
        dicomlock: Its command; None where it is not installed.
    """

    folder: Path
    runs: int
    scale: float
    dicomlock: str | None

    def count(self, full: int) -> int:
        """Number of files of an input that has ``full`` of them."""
        return max(200, int(full * self.scale))


@dataclass(frozen=True, slots=True)
class Peer:
    """What dicomguard is held to, and the bar by engine; None where it is only compared."""

    name: str
    command: Command
    bars: dict[str, float] | dict[str, None]


def check(*words: str | Path, engine: str = "yara") -> Command:
    """``dicomguard check`` with two workers."""
    command = [sys.executable, "-m", "dicomguard", "check", "--format", "jsonl", "--workers", "2"]
    return Command([*command, "--engine", engine, *map(str, words)], codes=(0, 1, 3))


def _side_by_side(
    plan: Plan, work: str, own: dict[str, Command], peers: list[Peer]
) -> Iterator[Result]:
    """Run all commands in turn, so that what else the machine does falls on all of them."""
    timed: dict[str, Timed] = {}
    for _ in range(plan.runs):
        for name, command in (*own.items(), *((peer.name, peer.command) for peer in peers)):
            if command.words:
                time_once(command, timed.setdefault(name, Timed()))
    for peer in peers:
        for engine, bar in peer.bars.items():
            if not peer.command.words:
                yield Result(
                    work=work, engine=engine, against=peer.name, bar=bar, missing="not installed"
                )
                continue
            yield Result(
                work=work,
                engine=engine,
                against=peer.name,
                bar=bar,
                own=timed[engine].middle,
                peer=timed[peer.name].middle,
                processor=(timed[engine].middle_processor, timed[peer.name].middle_processor),
            )


def slices(plan: Plan) -> Iterator[Result]:
    """CT slices of 0.5 MB."""
    folder = plan.folder / "ct"
    count = plan.count(2000)
    inputs.ct_files(folder, count)
    few = plan.folder / "few"
    inputs.ct_files(few, 100)
    files = [str(path) for path in sorted(folder.rglob("*.dcm"))]
    rules = [str(path) for path in sorted((_ROOT / "rules").glob("*.yar"))]
    yara = ["yara", "-r", "-p", "2", *rules, str(folder)] if shutil.which("yara") else []
    dicomlock = [plan.dicomlock, str(few)] if plan.dicomlock else []
    yield from _side_by_side(
        plan,
        f"{count:,} CT files of 0.5 MB",
        {engine: check(folder, engine=engine) for engine in _ENGINES},
        [
            Peer("yara -r -p 2, own rules", Command(yara), {"yara": 1.0, "yara-x": 0.7}),
            Peer(
                "openssl dgst -sha256",
                Command(["openssl", "dgst", "-sha256", *files]),
                {"yara": 2.5, "yara-x": 1.5},
            ),
            Peer(
                "dicomlock (100 files, scaled)",
                Command(dicomlock, scale=count / 100, codes=(0, 1, 2)),
                {"yara": 0.05, "yara-x": 0.05},
            ),
        ],
    )


def honest(plan: Plan) -> Iterator[Result]:
    """Files of real scanners, which made-up ones flatter: their pixels are also letters."""
    work = "files of real scanners"
    nothing = dict.fromkeys(_ENGINES)
    corpus = os.environ.get("DICOMGUARD_HONEST_CORPUS")
    if not corpus:
        for engine in _ENGINES:
            missing = "DICOMGUARD_HONEST_CORPUS names no folder"
            yield Result(work=work, engine=engine, against="", bar=None, missing=missing)
        return
    files = sorted(str(path) for path in Path(corpus).rglob("*") if path.is_file())
    size = sum(os.path.getsize(path) for path in files)
    rules = [str(path) for path in sorted((_ROOT / "rules").glob("*.yar"))]
    yara = ["yara", "-r", "-p", "2", *rules, corpus] if shutil.which("yara") else []
    openssl = ["openssl", "dgst", "-sha256", *files]
    yield from _side_by_side(
        plan,
        f"{len(files):,} {work}, {size / 1e6:.0f} MB",
        {engine: check(corpus, engine=engine) for engine in _ENGINES},
        [
            Peer("yara -r -p 2, own rules", Command(yara), nothing),
            Peer("openssl dgst -sha256", Command(openssl), nothing),
        ],
    )


_PYDICOM_LOOP = """
import sys, pathlib, pydicom
for path in pathlib.Path(sys.argv[1]).rglob("*.dcm"):
    pydicom.dcmread(path, stop_before_pixels=True)
"""


def headers(plan: Plan) -> Iterator[Result]:
    """Files without pixels."""
    folder = plan.folder / "headers"
    count = plan.count(20_000)
    inputs.header_files(folder, count)
    peer = Command([sys.executable, "-c", _PYDICOM_LOOP, str(folder)])
    yield from _side_by_side(
        plan,
        f"{count:,} header-only files of 5 to 30 KB",
        {engine: check(folder, engine=engine) for engine in _ENGINES},
        [Peer("a loop of pydicom.dcmread", peer, dict.fromkeys(_ENGINES, 0.33))],
    )


def parts(plan: Plan) -> Iterator[Result]:
    """What is left where less is done: the bars that are below it are out of reach."""
    slices_of, headers_of = plan.folder / "ct", plan.folder / "headers"
    inputs.ct_files(slices_of, plan.count(2000))
    inputs.header_files(headers_of, plan.count(20_000))
    for name, folder, some in (
        ("CT files", slices_of, ("read", "pass")),
        ("header-only files", headers_of, ("read", "walk")),
    ):
        whole = check(folder)
        partial = str(Path(__file__).with_name("partial.py"))
        own = {part: Command([sys.executable, partial, part, *whole.words[3:]]) for part in some}
        work = f"{sum(1 for _ in folder.rglob('*.dcm')):,} {name}: a part of it"
        peer = Peer("all of it", whole, dict.fromkeys(some))
        yield from _side_by_side(plan, work, own, [peer])


def cold(plan: Plan) -> Iterator[Result]:
    """One small file."""
    inputs.small_files(plan.folder / "one", 1)
    path = next((plan.folder / "one").rglob("*.dcm"))
    peer = Command([sys.executable, "-c", "import pydicom"])
    yield from _side_by_side(
        Plan(plan.folder, 3 * plan.runs, plan.scale, None),
        "one small file, cold",
        {
            engine: Command(
                [sys.executable, "-m", "dicomguard", "check", "--engine", engine, str(path)]
            )
            for engine in _ENGINES
        },
        [Peer("python -c 'import pydicom'", peer, dict.fromkeys(_ENGINES, 1.0))],
    )


def frames(plan: Plan) -> Iterator[Result]:
    """One large file."""
    path = plan.folder / "frames.dcm"
    inputs.multi_frame(path, int((2 << 30) * min(1.0, plan.scale)))
    work = f"one multi-frame file of {path.stat().st_size / (1 << 30):.1f} GB"
    own = {engine: check(path, engine=engine) for engine in _ENGINES}
    peer = Command(["openssl", "dgst", "-sha256", str(path)])
    bars = {"yara": 2.5, "yara-x": 1.5}
    yield from _side_by_side(plan, work, own, [Peer("openssl dgst -sha256", peer, bars)])
    for engine, command in own.items():
        yield Result(
            work=work,
            engine=engine,
            against="250 MB of private memory",
            bar=1.0,
            own=peak_anonymous(command) / 1e6,
            peer=250,
            unit="MB",
        )


def marginal(plan: Plan) -> Iterator[Result]:
    """Whether the run over many files slows down."""
    folder = plan.folder / "small"
    count = plan.count(100_000)
    inputs.small_files(folder, count)
    part = count // 10
    first, last = Timed(), Timed()
    for _ in range(plan.runs):
        times = lines_by_time(check(folder))
        first.seconds.append(times[part] - times[0])
        last.seconds.append(times[count - 1] - times[count - 1 - part])
    yield Result(
        work=f"the last {part:,} of {count:,} small files",
        engine="yara",
        against=f"the first {part:,}",
        bar=1.1,
        own=last.middle,
        peer=first.middle,
    )


def deaths(plan: Plan) -> Iterator[Result]:
    """Whether workers that die cost more than the file in their hand."""
    folder = plan.folder / "deaths"
    count = plan.count(5_000)
    inputs.header_files(folder, count)
    alive = check(folder)
    dying = Command(
        [sys.executable, str(Path(__file__).with_name("dying.py")), *alive.words[3:]],
        codes=(0, 1, 3),
    )
    work = f"{count:,} files, each {EVERY}th of which kills its worker"
    yield from _side_by_side(plan, work, {"yara": dying}, [Peer("none does", alive, {"yara": 1.5})])
    without, with_ = _verdicts(alive), _verdicts(dying)
    wrong = [
        path
        for path, verdict in without.items()
        if with_.get(path)
        != ("incomplete" if int(Path(path).stem) % EVERY == EVERY - 1 else verdict)
    ]
    if wrong:
        raise SystemExit(f"verdicts changed: {wrong[:5]}")


def _verdicts(command: Command) -> dict[str, str]:
    done = subprocess.run(command.words, stdout=subprocess.PIPE, check=False)  # noqa: S603
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["path"]: line["verdict"] for line in lines if "path" in line}


ROWS: dict[str, Callable[[Plan], Iterator[Result]]] = {
    "cold": cold,
    "ct": slices,
    "honest": honest,
    "headers": headers,
    "parts": parts,
    "frames": frames,
    "marginal": marginal,
    "deaths": deaths,
}
"""What can be measured, by the name for ``--only``."""
