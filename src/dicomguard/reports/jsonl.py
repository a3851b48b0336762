r"""Reports as JSON: a line a file and a line for the summary, or one document.

The output is ASCII: every other character is an escape, bytes of a path that are not UTF-8 are
``\udcXX``, so that no file name reaches a terminal as it is.
"""

from __future__ import annotations

from dicomguard.model import SCHEMA_VERSION
from dicomguard.reports.model import FileRecord, SummaryRecord, to_line
from dicomguard.reports.renderer import Renderer


class JsonLines(Renderer):
    """One object a file, then one summary object."""

    def file(self, record: FileRecord, *, named: bool) -> None:  # noqa: ARG002 (every file is a line)
        """Write one file's line."""
        self._out.write(to_line(record) + "\n")

    def end(self, summary: SummaryRecord) -> None:
        """Write the summary's line."""
        self._out.write(to_line(summary) + "\n")


class JsonDocument(Renderer):
    """One object for the whole run, a line a file within it."""

    _separator = f'{{"type":"report","schema":{SCHEMA_VERSION},"files":[\n'

    def file(self, record: FileRecord, *, named: bool) -> None:  # noqa: ARG002 (every file is in it)
        """Write one file's object."""
        self._out.write(self._separator + to_line(record))
        self._separator = ",\n"

    def end(self, summary: SummaryRecord) -> None:
        """Write the summary, and close the document."""
        begin = "" if self._separator == ",\n" else self._separator
        self._out.write(f'{begin}\n],"summary":{to_line(summary)}}}\n')
