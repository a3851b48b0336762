"""Reports as one page that fetches nothing, and draws the files that are not clean.

Whatever comes from a file or a rule is made printable and escaped by the template engine, not by
whoever writes the template; the page's policy lets only its own style and script act.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import PurePath
from typing import Any, NamedTuple, TextIO

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from dicomguard.model import Category, Drawing, Region, Verdict
from dicomguard.reports import escape
from dicomguard.reports.model import FileRecord, FindingRecord, SummaryRecord
from dicomguard.reports.renderer import NORMAL, Detail, Renderer
from dicomguard.reports.spool import Spool
from dicomguard.reports.text import ADVICE, duration, size, where

_WORST_FIRST = (Verdict.MALICIOUS, Verdict.SUSPICIOUS, Verdict.INCOMPLETE)
_DRAWN = 200
"""Files of one verdict that are written out; those after them are a line each."""
_LISTED = 5_000
"""Files of one verdict that are on the page at all."""
_FINDINGS = 100
"""Findings of one file that are on the page."""
_MARKS = 40
_LANES = (10, 27)
"""Heights of the marks above the strip, so that near ones do not hide each other."""
_NEAR = 0.018
_GROUPS = 10_000
"""Folders and days that are counted by themselves."""
_FOLDERS = 15
_TIMES = 40


class HtmlPage(Renderer):
    """One page; its files wait on the disk until the totals that go before them are known."""

    def __init__(self, out: TextIO, detail: Detail = NORMAL) -> None:
        super().__init__(out, detail)
        self._spools = {verdict: Spool() for verdict in (*_WORST_FIRST, Verdict.CLEAN)}
        self._folders: dict[str, Counter[Verdict]] = {}
        self._days: dict[str, Counter[Verdict]] = {}
        self._seen: Counter[Verdict] = Counter()

    def file(self, record: FileRecord, *, named: bool) -> None:
        """Write one file, if it is not clean or was named and drawn."""
        if record.verdict is Verdict.CLEAN and not (named and record.drawing):
            return
        self._seen[record.verdict] += 1
        _count(self._folders, str(PurePath(record.path).parent), record.verdict)
        _count(self._days, (record.modified or "not known")[:10], record.verdict)
        seen = self._seen[record.verdict]
        if seen <= _DRAWN:
            self._spools[record.verdict].add(_article(record, self._seen.total()))
        elif seen <= _LISTED:
            self._spools[record.verdict].add(_macro("row")(record))

    def end(self, summary: SummaryRecord) -> None:
        """Write the page."""
        style, script = _asset("report.css"), _asset("report.js")
        policy = (
            f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}';"
            " base-uri 'none'; form-action 'none'"
        )
        write = self._out.write
        write(_macro("head")("dicomguard report", Markup(style), policy))  # noqa: S704 - our own
        write(_macro("summary")(summary, self._charts()))
        for spool in self._spools.values():
            spool.write_to(self._out)
        write(_macro("end_of_files")(list(self._left_out())))
        write(_macro("foot")(Markup(script)))  # noqa: S704 - our own

    def close(self) -> None:
        """Give the disk space back."""
        for spool in self._spools.values():
            spool.close()

    def _left_out(self) -> Iterable[str]:
        for verdict in _WORST_FIRST:
            left = self._seen[verdict] - _LISTED
            if left > 0:
                yield f"… and {left} more {verdict} files, which the other formats list"

    def _charts(self) -> dict[str, Any]:
        folders = _bars(self._folders)
        by_time = {
            unit: _by_beginning(self._days, characters)
            for unit, characters in (("day", 10), ("month", 7), ("year", 4))
        }
        unit = next((unit for unit, days in by_time.items() if len(days) <= _TIMES), "year")
        times = sorted(_bars(by_time[unit]), key=lambda each: each.name)[-_TIMES:]
        return {
            "folders": folders[:_FOLDERS],
            "folders_left": max(0, len(folders) - _FOLDERS),
            "most_in_folder": max((each.total for each in folders), default=0),
            "unit": unit,
            "times": times,
            "most_at_once": max((each.total for each in times), default=0),
        }


class _Bar(NamedTuple):
    name: str
    total: int
    counts: dict[Verdict, int]


def _count(groups: dict[str, Counter[Verdict]], name: str, verdict: Verdict) -> None:
    name = name if name in groups or len(groups) < _GROUPS else "others"
    groups.setdefault(name, Counter())[verdict] += 1


def _bars(groups: dict[str, Counter[Verdict]]) -> list[_Bar]:
    """A bar for each group, longest first."""
    made = [
        _Bar(name, counts.total(), {each: counts[each] for each in _WORST_FIRST})
        for name, counts in groups.items()
    ]
    return sorted(made, key=lambda each: (-each.total, each.name))


def _by_beginning(
    groups: dict[str, Counter[Verdict]], characters: int
) -> dict[str, Counter[Verdict]]:
    merged: dict[str, Counter[Verdict]] = {}
    for name, counts in groups.items():
        known = name if not name[:1].isdigit() else name[:characters]
        merged.setdefault(known, Counter()).update(counts)
    return merged


# ---------------------------------------------------------------------- one file


class _Mark(NamedTuple):
    number: int
    finding: FindingRecord
    y: int


class _Share(NamedTuple):
    region: Region
    bytes: int
    lo: int
    hi: int


class _Strip(NamedTuple):
    stretches: Sequence[Any]
    entropy: Sequence[float]
    legend: Sequence[_Share]


class _HexLine(NamedTuple):
    hex: str
    text: str


def _article(record: FileRecord, number: int) -> str:
    findings = record.findings[:_FINDINGS]
    threats = [each for each in findings if each.is_threat]
    others = [each for each in findings if not each.is_threat]
    strip = None
    if isinstance(record.drawing, Drawing) and record.size:
        strip = _strip(record.drawing)
    marks = list(_marks(threats[:_MARKS], record.size)) if strip else []
    made: str = _macro("file")(record, number, strip, marks, threats, others)
    return made


def _strip(drawing: Drawing) -> _Strip:
    by_region = sorted(drawing.stretches, key=lambda each: list(Region).index(each.region))
    legend = []
    for region, group in groupby(by_region, key=lambda each: each.region):
        stretches = list(group)
        legend.append(
            _Share(
                region=region,
                bytes=sum(each.length for each in stretches),
                lo=min(each.offset for each in stretches),
                hi=max(each.offset + each.length for each in stretches),
            )
        )
    return _Strip(drawing.stretches, drawing.entropy, legend)


def _marks(findings: Sequence[FindingRecord], file_size: int) -> Iterable[_Mark]:
    """Marks in order of offset, numbered as the findings are listed."""
    last: dict[int, float] = {}
    numbered = sorted(enumerate(findings, 1), key=lambda each: each[1].offset)
    for number, finding in numbered:
        at = finding.offset / file_size
        lane = next((y for y in _LANES if at - last.get(y, -1.0) > _NEAR), _LANES[-1])
        last[lane] = at
        yield _Mark(number, finding, lane)


def _hexdump(evidence: str) -> list[_HexLine]:
    raw = escape.raw(evidence)
    return [
        _HexLine(
            raw[at : at + 16].hex(" ").ljust(47),
            "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in raw[at : at + 16]),
        )
        for at in range(0, len(raw), 16)
    ]


def _area(entropy: Sequence[float]) -> str:
    """A path under the entropy, one unit a part; 0 is below and 8 above."""
    points = " ".join(f"L{at} {8.2 - value:g}H{at + 1}" for at, value in enumerate(entropy))
    return f"M0 8.4 {points} L{len(entropy)} 8.4Z"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.4f}" if whole else "0"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# ---------------------------------------------------------------------- the template


def _asset(name: str) -> str:
    return (files("dicomguard.reports") / "page" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _finalized(value: Any) -> Any:
    """What the template shows: text without anything unprintable, unless it is the template's."""
    if isinstance(value, Markup):
        return value
    return escape.printable(value if isinstance(value, str) else str(value))


@cache
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
    )
    environment.globals |= {
        "advice": ADVICE | {Verdict.CLEAN: ""},
        "area": _area,
        "counted": _counted,
        "duration": duration,
        "hexdump": _hexdump,
        "share": _share,
        "size": size,
        "threats": (Category.MALWARE, Category.EXPLOIT),
        "verdicts": [str(verdict) for verdict in (*_WORST_FIRST, Verdict.CLEAN)],
        "where": where,
    }
    return environment.get_template("report.html.jinja")


def _macro(name: str) -> Any:
    return getattr(_template().module, name)
