"""The formats a report can have, by name."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import PurePath
from typing import TextIO

from msgspec import Struct

from dicomguard.regex import regex
from dicomguard.reports.renderer import NORMAL, Detail, Renderer


class Format(Struct, frozen=True, kw_only=True):
    """One format.

    Attributes:
        renderer: Module and class; loaded only when a report has this format.
        suffixes: Of files that have it.
        begins: How such a report begins: what does not may not be overwritten by one.
        has_totals: Whether the totals are in it, so that they need not be said elsewhere.
        draws: Whether it draws the layout of files.
    """

    renderer: str
    suffixes: tuple[str, ...]
    begins: re.Pattern[bytes]
    has_totals: bool = True
    draws: bool = False

    def load(self) -> type[Renderer]:
        """Its renderer, loaded."""
        module, _, name = self.renderer.partition(":")
        renderer: type[Renderer] = getattr(import_module(module), name)
        return renderer

    def open(self, out: TextIO, detail: Detail = NORMAL) -> Renderer:
        """A renderer that writes to ``out``."""
        return self.load()(out, detail)


FORMATS = {
    "text": Format(
        renderer="dicomguard.reports.text:TextReport",
        suffixes=(".txt",),
        begins=regex(rb"(malicious|suspicious|incomplete|clean) +|\d+ files?, |interrupted: "),
    ),
    "json": Format(
        renderer="dicomguard.reports.jsonl:JsonDocument",
        suffixes=(".json",),
        begins=regex(rb'\{"type": ?"report"'),
    ),
    "jsonl": Format(
        renderer="dicomguard.reports.jsonl:JsonLines",
        suffixes=(".jsonl", ".ndjson"),
        begins=regex(rb'\{"type": ?"(file|summary)"'),
    ),
    "sarif": Format(
        renderer="dicomguard.reports.sarif:SarifLog",
        suffixes=(".sarif", ".sarif.json"),
        begins=regex(rb'\{"\$schema": "[^"]*sarif'),
    ),
    "csv": Format(
        renderer="dicomguard.reports.csv:CsvTable",
        suffixes=(".csv",),
        begins=regex(rb"path,verdict,"),
        has_totals=False,
    ),
    "html": Format(
        renderer="dicomguard.reports.html:HtmlPage",
        suffixes=(".html", ".htm"),
        begins=regex(rb"<!doctype html>\n<!-- dicomguard report -->"),
        draws=True,
    ),
}


def of_name(name: str) -> str | None:
    """The format that the suffix of a file's name says, None if it says nothing.

    >>> of_name("out/scan.sarif.json"), of_name("scan.JSON"), of_name("scan")
    ('sarif', 'json', None)
    """
    name = PurePath(name).name.lower()
    fitting = [
        (len(suffix), format_)
        for format_, each in FORMATS.items()
        for suffix in each.suffixes
        if name.endswith(suffix)
    ]
    return max(fitting)[1] if fitting else None


def is_report(head: bytes) -> bool:
    """Whether a file that begins like this is a report."""
    return any(each.begins.match(head) for each in FORMATS.values())
