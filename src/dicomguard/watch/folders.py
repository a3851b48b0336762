"""Which folder is what, and which of them may not lie in another."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dicomguard.errors import DicomguardError
from dicomguard.reports.escape import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """The folders of a daemon, absolute and without symbolic links.

    Attributes:
        ingest: Watched; exists.
        vault: Takes what must not stay.
        deliver: Takes what is clean; None where that stays in ``ingest``.
        state: Holds the journal.
    """

    ingest: Path
    vault: Path
    deliver: Path | None
    state: Path

    @classmethod
    def resolve(cls, ingest: str, vault: str, deliver: str | None, state: str | None) -> Self:
        """The folders as the user named them; the state is in the vault unless it has a name.

        Raises:
            DicomguardError: The ingest folder is none, or what the daemon writes would be found
                by its own scan, or by whoever takes clean files from ``deliver``.
        """
        root = Path(os.path.realpath(ingest))
        if not root.is_dir():
            raise DicomguardError(f"{printable(ingest)} is not a folder")
        vault_path = Path(os.path.realpath(vault))
        folders = cls(
            ingest=root,
            vault=vault_path,
            deliver=None if deliver is None else Path(os.path.realpath(deliver)),
            state=vault_path / "state" if state is None else Path(os.path.realpath(state)),
        )
        folders._require_apart()
        return folders

    def _require_apart(self) -> None:
        """The ingest and deliver folders lie in nothing of the daemon's, nor it in them."""
        forbidden = [
            ("the vault", self.vault, "the ingest folder", self.ingest),
            ("the ingest folder", self.ingest, "the vault", self.vault),
            ("the state folder", self.state, "the ingest folder", self.ingest),
        ]
        if self.deliver is not None:
            deliver = ("the deliver folder", self.deliver)
            forbidden += [
                (*deliver, "the ingest folder", self.ingest),
                ("the ingest folder", self.ingest, *deliver),
                (*deliver, "the vault", self.vault),
                ("the vault", self.vault, *deliver),
                ("the state folder", self.state, *deliver),
            ]
        for inner_name, inner, outer_name, outer in forbidden:
            if _lies_in(inner, outer):
                raise DicomguardError(
                    f"{inner_name} {printable(str(inner))} must not lie in "
                    f"{outer_name} {printable(str(outer))}"
                )


def _lies_in(inner: Path, outer: Path) -> bool:
    """Whether a folder is, or is somewhere in, another, by name or by another mount of it."""
    ancestors = (inner, *inner.parents)
    return outer in ancestors or any(
        outer.samefile(ancestor) for ancestor in ancestors if outer.exists() and ancestor.exists()
    )
