"""Every finding id with its explanation.

What a finding says of itself (title, severity, why) is declared where it is found; what people
need beyond that stands in one TOML file a family beside this module. A test holds the two together.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable

import msgspec
from msgspec import Struct

from dicomguard.detectors import DETECTORS
from dicomguard.errors import DicomguardError
from dicomguard.incomplete import INCOMPLETE
from dicomguard.model import FindingKind
from dicomguard.rules import THIRD_PARTY
from dicomguard.settings import ScanSettings
from dicomguard.unwrap import KINDS as UNWRAPPED
from dicomguard.watch.studies import HELD

_SUGGESTED = 12


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told of one id.

    Attributes:
        meaning: What it is.
        example: What such a file may look like.
        look_alikes: Honest things that resemble it, and what becomes of them.
        next: What to do, in order; that of the family if empty.
        limits: What it cannot tell; that of the family if empty.
        references: Where to read on, beside the reference that the finding carries.
        grades: When severity or category differ from what is declared; empty if they never do.
        fires: Names of test files that have the finding.
        near_miss: Names of honest test files that look like it and have it not.
    """

    meaning: str
    example: str
    look_alikes: tuple[str, ...]
    next: tuple[str, ...] = ()
    limits: str = ""
    references: tuple[str, ...] = ()
    grades: str = ""
    fires: tuple[str, ...] = ()
    near_miss: tuple[str, ...] = ()


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ids with one first word: one TOML file.

    Attributes:
        title: What they have in common.
        about: The same in a paragraph.
        next: What to do about any of them.
        limits: What none of them can tell.
        findings: By id.
    """

    title: str
    about: str
    next: tuple[str, ...]
    limits: str
    findings: dict[str, Entry]


class Explanation(Struct, frozen=True, kw_only=True):
    """All that is known of one id.

    Attributes:
        kinds: Everything that is declared under the id, the worst first.
        entry: What is told of it; None for an id of somebody else's rules.
    """

    kinds: tuple[FindingKind, ...]
    entry: Entry | None

    @property
    def kind(self) -> FindingKind:
        """The worst of what is declared under the id."""
        return self.kinds[0]

    @property
    def id(self) -> str:
        """The id."""
        return self.kind.id


@lru_cache(maxsize=1)
def families() -> Mapping[str, Family]:
    """Every family by its word, in order.

    Raises:
        DicomguardError: A file of the catalogue is not what it must be.
    """
    files = (each for each in resources.files(__package__).iterdir() if _is_family(each))
    return {each.name.removesuffix(".toml"): _read(each) for each in sorted(files, key=_name)}


def _name(file: Traversable) -> str:
    return file.name


def _is_family(file: Traversable) -> bool:
    return file.name.endswith(".toml")


def _read(file: Traversable) -> Family:
    """A family, what its entries leave out filled in from it."""
    try:
        family = msgspec.toml.decode(file.read_bytes(), type=Family)
    except (OSError, msgspec.DecodeError) as error:
        msg = f"the catalogue of findings is broken: {file.name}: {error}; install dicomguard again"
        raise DicomguardError(msg) from error
    complete = {
        id_: msgspec.structs.replace(
            entry, next=entry.next or family.next, limits=entry.limits or family.limits
        )
        for id_, entry in family.findings.items()
    }
    return msgspec.structs.replace(family, findings=complete)


def declared(settings: ScanSettings | None = None) -> Iterator[FindingKind]:
    """Every kind that this dicomguard can report, with the rules of the settings.

    Raises:
        DicomguardError: The rules cannot be loaded.
    """
    for detector in DETECTORS:
        yield from detector.kinds
    for rule in (settings or ScanSettings()).pack.rules.values():
        yield rule.kind
        if rule.polyglot:
            yield rule.polyglot
    yield from UNWRAPPED
    yield from (INCOMPLETE, HELD, THIRD_PARTY)


def explanations(settings: ScanSettings | None = None) -> dict[str, Explanation]:
    """Every id with its explanation, sorted by id.

    Raises:
        DicomguardError: The rules or the catalogue cannot be loaded.
    """
    kinds: dict[str, list[FindingKind]] = defaultdict(list)
    for kind in declared(settings):
        if kind not in kinds[kind.id]:
            kinds[kind.id].append(kind)
    entries = {id_: each for family in families().values() for id_, each in family.findings.items()}
    return {
        id_: Explanation(kinds=tuple(sorted(kinds[id_], key=_worst_first)), entry=entries.get(id_))
        for id_ in sorted(kinds)
    }


def _worst_first(kind: FindingKind) -> tuple[int, str]:
    return -kind.severity.rank, kind.title


def suggestions(word: str, ids: Iterable[str]) -> list[str]:
    """Ids that may have been meant by a word that is none: of its family, or spelled alike."""
    word, ids = word.upper(), list(ids)
    family = [id_ for id_ in ids if id_.partition("-")[0] == word]
    return (family or difflib.get_close_matches(word, ids, n=4, cutoff=0.5))[:_SUGGESTED]
