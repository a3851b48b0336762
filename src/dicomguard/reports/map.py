"""A file as text: a strip to scale, its entropy, its elements, the findings marked in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from dicomguard.model import Drawing, DrawnElement, Region, Stretch
from dicomguard.reports import escape
from dicomguard.reports.model import FileRecord, FindingRecord, SummaryRecord
from dicomguard.reports.renderer import NORMAL, Detail, Renderer
from dicomguard.reports.text import SEVERITY_STYLE, VERDICT_STYLE, size, where

_LETTERS = {
    Region.PREAMBLE: ("p", "white on #8c564b"),
    Region.PREFIX: ("P", "white on #555b63"),
    Region.META: ("m", "black on #e69f00"),
    Region.DATASET: ("d", "black on #56b4e9"),
    Region.PRIVATE: ("v", "white on #aa4499"),
    Region.DOCUMENT: ("o", "black on #44aa99"),
    Region.PIXELS: ("x", "black on #b8c4d6"),
    Region.PADDING: ("-", "black on #ddd7c3"),
    Region.TAIL: ("t", "black on #d3c21f"),
    Region.GAP: ("?", "white on #7d858f"),
}
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = " .:-=+*#@"
_WIDEST, _NARROWEST, _NO_TERMINAL = 160, 40, 100
"""Columns of a picture; the last where there is no terminal."""
_NAME = 44


class TextMap(Renderer):
    """Draws every file it is given.

    Args:
        out: Where to; the caller opens and closes it.
        detail: Verbose marks conformance and inventory too.
        depth: Sequences down to which elements are listed.
        most: Elements that are listed; those that hold a finding always are.
    """

    def __init__(
        self, out: TextIO, detail: Detail = NORMAL, *, depth: int = 8, most: int = 200
    ) -> None:
        super().__init__(out, detail)
        self._depth = depth
        self._most = most
        self._console = Console(
            file=out, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        width = self._console.width if self._console.is_terminal else _NO_TERMINAL
        self._width = min(_WIDEST, max(_NARROWEST, width))
        self._blocks = _BLOCKS if _can_show(_BLOCKS, out) else _ASCII_BLOCKS

    def file(self, record: FileRecord, *, named: bool) -> None:  # noqa: ARG002 (each is drawn)
        """Draw one file."""
        out = self._console
        out.print(
            Text.assemble(
                (f"{record.verdict!s:<10}", VERDICT_STYLE[record.verdict]),
                "  ",
                (escape.printable(record.path), "bold"),
                (f"  {size(record.size)}{'' if record.is_dicom else ', not DICOM'}", "dim"),
            )
        )
        for reason in record.unexamined:
            out.print(f"not examined: {escape.printable(reason)}")
        marked = [each for each in record.findings if each.is_threat or self._detail.verbose]
        drawing = record.drawing
        if isinstance(drawing, Drawing) and record.size:
            out.print()
            self._strip(drawing, record.size, marked)
        out.print()
        for number, finding in enumerate(marked, 1):
            self._finding(number, finding)
        rest = len(record.findings) - len(marked)
        if rest:
            out.print(Text(f"{rest} of conformance and inventory: -v marks them too", "dim"))
        if isinstance(drawing, Drawing) and drawing.elements:
            out.print()
            self._elements(drawing, marked)

    def end(self, summary: SummaryRecord) -> None:
        """Write nothing: one file needs no totals."""

    def _strip(self, drawing: Drawing, file_size: int, marked: Sequence[FindingRecord]) -> None:
        width = min(self._width, file_size)
        marks = [" "] * width
        for number, finding in enumerate(marked, 1):
            column = min(width - 1, finding.offset * width // file_size)
            free = marks[column] == " "
            marks[column] = (str(number) if number < 10 else "*") if free else "+"
        if marked:
            self._console.print(Text("".join(marks).rstrip(), "bold red"))
        strip = Text()
        for region in _columns(drawing.stretches, file_size, width):
            strip.append(*_LETTERS[region])
        self._console.print(strip)
        self._console.print(Text(self._sparkline(drawing.entropy, width), "dim"))
        end = size(file_size)
        self._console.print(Text(f"0{end:>{max(len(end) + 1, width - 1)}}", "dim"))
        legend = Text()
        for region, (letter, style) in _LETTERS.items():
            count = sum(each.length for each in drawing.stretches if each.region is region)
            if count:
                legend.append("   " if legend else "")
                legend.append(letter, style)
                legend.append(f" {region} {size(count)}")
        self._console.print(legend)
        self._console.print(Text("below the strip: byte entropy, 0 to 8 bits", "dim"))

    def _sparkline(self, entropy: Sequence[float], width: int) -> str:
        bins = len(entropy)
        return "".join(
            self._blocks[round(entropy[column * bins // width])] for column in range(width)
        )

    def _finding(self, number: int, finding: FindingRecord) -> None:
        self._console.print(
            Text.assemble(
                (f"{number:>3}  ", "bold red"),
                (f"{finding.severity!s:<8}", SEVERITY_STYLE[finding.severity]),
                "  ",
                (escape.printable(finding.id), "bold"),
                f"  {escape.printable(finding.title)}",
                (f"  {escape.printable(where(finding))}", "dim"),
            )
        )

    def _elements(self, drawing: Drawing, marked: Sequence[FindingRecord]) -> None:
        around, innermost = _holding(drawing.elements, marked)
        out = self._console
        out.print(Text(f"{'offset':>12} {'length':>11}  VR  element", "dim"))
        listed = 0
        for index, element in enumerate(drawing.elements):
            is_more = listed >= self._most or element.depth > self._depth
            if is_more and index not in around:
                continue
            listed += 1
            numbers = ", ".join(map(str, innermost.get(index, ())))
            out.print(_line(element, numbers))
        left = drawing.elements_in_file - listed
        if left:
            out.print(Text(f"… and {left} more elements (--elements, --depth)", "dim"))


def _line(element: DrawnElement, numbers: str) -> Text:
    name = element.name or ("?" if element.creator or not element.vr else "")
    item = "" if element.item is None else f"[{element.item}] "
    creator = f"  [{escape.printable(element.creator)}]" if element.creator else ""
    offset = f"{'~' if element.inflated else ''}{element.offset}"
    return Text.assemble(
        (f"{offset:>12} {element.length:>11}  ", "dim"),
        f"{escape.printable(element.vr):<2}  ",
        "  " * element.depth,
        (item, "dim"),
        escape.printable(element.tag),
        f" {escape.printable(name)[:_NAME]}",
        (creator, "dim"),
        (f"  <= {numbers}" if numbers else "", "bold red"),
    )


def _holding(
    elements: Sequence[DrawnElement], marked: Sequence[FindingRecord]
) -> tuple[set[int], dict[int, list[int]]]:
    """Indices of the elements that hold a finding; numbers of findings by that of the innermost."""
    around: set[int] = set()
    innermost: dict[int, list[int]] = {}
    for number, finding in enumerate(marked, 1):
        inner = finding.inner_offset if not finding.chain else None
        at = finding.offset if inner is None else inner
        holding = [
            index
            for index, element in enumerate(elements)
            if element.inflated == (inner is not None)
            and element.offset <= at < element.offset + element.length
        ]
        around.update(holding)
        if holding:
            innermost.setdefault(holding[-1], []).append(number)
    return around, innermost


def _columns(stretches: Sequence[Stretch], file_size: int, width: int) -> Iterator[Region]:
    """The region that has most of each column's bytes."""
    at = 0
    for column in range(width):
        start, end = file_size * column // width, file_size * (column + 1) // width
        shares: dict[Region, int] = {}
        while True:
            stretch = stretches[at]
            stop = stretch.offset + stretch.length
            shares[stretch.region] = shares.get(stretch.region, 0) + (
                min(end, stop) - max(start, stretch.offset)
            )
            if stop >= end:
                break
            at += 1
        yield max(shares, key=lambda region: shares[region])
        if stop == end and at + 1 < len(stretches):
            at += 1


def _can_show(text: str, out: TextIO) -> bool:
    try:
        text.encode(getattr(out, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
