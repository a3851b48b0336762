"""Lines of text: in colour where somebody looks, plain where not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_ASKS_FOR_COLOUR = ("FORCE_COLOR", "TTY_COMPATIBLE")
"""Variables of the environment by which rich may take anything for a terminal."""

_WIDTH = 80
"""Of what has no width."""

Part = str | tuple[str, str]
"""Text, or text with its style."""


class Lines:
    """Writes lines, none of which is wrapped.

    Args:
        out: Where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._console: Console | None = None
        if out.isatty() or any(name in os.environ for name in _ASKS_FOR_COLOUR):
            from rich.console import Console  # noqa: PLC0415 - slow to load, for colours alone

            self._console = Console(
                file=out, highlight=False, markup=False, emoji=False, soft_wrap=True
            )

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks."""
        return self._console is not None and self._console.is_terminal

    @property
    def width(self) -> int:
        """Characters that a line has room for."""
        return self._console.width if self._console else _WIDTH

    def write(self, *parts: Part) -> None:
        """Write one line."""
        if self._console is None:
            text = "".join(part if isinstance(part, str) else part[0] for part in parts)
            self._out.write(f"{text}\n")
            self._out.flush()
            return
        from rich.text import Text  # noqa: PLC0415 - as above

        self._console.print(Text.assemble(*parts))
