"""Text that waits on the disk until it is its turn in a report."""

from __future__ import annotations

import shutil
import tempfile
from typing import TextIO

_IN_MEMORY = 1 << 18


class Spool:
    """Parts of a report, in order, in a file without a name once they are large."""

    def __init__(self) -> None:
        # It lives as long as the report.
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            _IN_MEMORY, "w+", encoding="utf-8", errors="backslashreplace", newline="\n"
        )
        self.parts = 0

    def add(self, part: str, separator: str = "") -> None:
        """Add a part, after the separator if it is not the first."""
        self._file.write((separator if self.parts else "") + part)
        self.parts += 1

    def write_to(self, out: TextIO) -> None:
        """Write all parts."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, out)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()
