"""What decides the outcome of a scan, besides the file; loading it loads nothing that scans."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from dicomguard.dicom.budgets import Budgets
from dicomguard.model import Verdict
from dicomguard.packs import Trust
from dicomguard.suppress import Suppressions

if TYPE_CHECKING:
    from dicomguard.rules import RulePack


class NamedPack(msgspec.Struct, frozen=True):
    """A pack of rules that says what it is, and when it was made."""

    name: str
    version: str
    released: date | None


class RulesInUse(msgspec.Struct, frozen=True, kw_only=True):
    """What runs over the files.

    Attributes:
        version: Number and hash of the rules.
        engine: What they run in.
        packs: Where they come from.
    """

    version: str
    engine: str
    packs: tuple[NamedPack, ...]


class ScanSettings(Struct, frozen=True, kw_only=True):
    """What decides the outcome of a scan, besides the file.

    Attributes:
        rule_folders: Folders of rules beside the shipped ones.
        engine: YARA engine, None for the first that is installed.
        strict: Whether one medium finding makes a file suspicious.
        budgets: How much work one file may cause.
        suppressions: What was looked at and does not count.
        draw: The verdicts of files whose layout is put into the report.
        hash_clean: Whether the report of a clean file has its SHA-256 too.
        trust: Whose packs of rules are used.
        known_clean: SHA-256 of content that was clean under the same settings; it is not examined,
            and its report has no lesser findings.
    """

    rule_folders: tuple[Path, ...] = ()
    engine: str | None = None
    strict: bool = False
    budgets: Budgets = field(default_factory=Budgets)
    suppressions: Suppressions = field(default_factory=Suppressions)
    draw: frozenset[Verdict] = frozenset()
    hash_clean: bool = False
    trust: Trust = field(default_factory=Trust)
    known_clean: frozenset[str] = frozenset()

    @property
    def pack(self) -> RulePack:
        """The rules, loaded once in a process.

        Raises:
            DicomguardError: They cannot be loaded.
        """
        return _pack(self.rule_folders, self.engine, self.trust)

    @property
    def rules_version(self) -> str:
        """Number and hash of the rules.

        Raises:
            DicomguardError: They cannot be loaded.
        """
        return self.pack.version


@lru_cache(maxsize=4)
def _pack(folders: tuple[Path, ...], engine: str | None, trust: Trust) -> RulePack:
    from dicomguard.rules import RulePack  # noqa: PLC0415 - it brings all validators

    return RulePack(folders, engine, trust)
