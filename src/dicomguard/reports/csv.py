"""Reports as a table: one row a finding, one row for a file without any."""

from __future__ import annotations

import csv
import re
from typing import TextIO

import msgspec

from dicomguard.model import Instance
from dicomguard.reports import escape
from dicomguard.reports.model import FileRecord, FindingRecord, SummaryRecord
from dicomguard.reports.renderer import NORMAL, Detail, Renderer

_OF_FILE = tuple(
    name
    for name in FileRecord.__struct_fields__
    if name not in ("schema", "instance", "unexamined", "findings", "suppressed", "drawing")
)
_OF_INSTANCE = tuple(Instance.__struct_fields__)
_OF_FINDING = tuple(FindingRecord.__struct_fields__)

COLUMNS = (*_OF_FILE, *_OF_INSTANCE, *_OF_FINDING)

_FORMULA = re.compile(r"(^|[;,|])(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""What a spreadsheet may compute. Where it takes semicolons for separators a cell can also begin
within what was one here."""


class CsvTable(Renderer):
    """A table whose cells no spreadsheet takes for formulas."""

    def __init__(self, out: TextIO, detail: Detail = NORMAL) -> None:
        super().__init__(out, detail)
        self._table = csv.writer(out, lineterminator="\n")
        self._table.writerow(COLUMNS)

    def file(self, record: FileRecord, *, named: bool) -> None:  # noqa: ARG002 (every file is in it)
        """Write one file's rows."""
        values = msgspec.to_builtins(record)
        of_file = [cell(values[name]) for name in _OF_FILE]
        of_file += [cell(values["instance"][name]) for name in _OF_INSTANCE]
        for finding in values["findings"] or [{}]:
            self._table.writerow(of_file + [cell(finding.get(name)) for name in _OF_FINDING])

    def end(self, summary: SummaryRecord) -> None:
        """Write nothing: a table has no place for totals, they go to standard error."""


def cell(value: object) -> object:
    """A value as a cell: text is printable, and is text to a spreadsheet too.

    >>> cell("=1+1"), cell("a;-1"), cell(True), cell(-1), cell(("base64", "gzip"))
    ("'=1+1", "a;'-1", 'true', -1, 'base64 > gzip')
    """
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return cell(" > ".join(value))
        case str():
            return _FORMULA.sub(r"\1\2'", escape.printable(value))
        case _:
            return value
