"""The rule pack: load, lint, compile, match, place.

A rule says in its ``meta`` what a finding needs and where it looks. Rules trigger, validators
confirm: a rule with a ``validator`` yields a finding only for what the validator followed to its
end, and the finding's place is that, not the trigger's.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from dicomguard.bytestrings import ByteStrings
from dicomguard.dicom.layout import Sort, by_sort
from dicomguard.dicom.source import Source
from dicomguard.engine import (
    EXTERNALS,
    CompiledRules,
    Declared,
    Match,
    Part,
    RuleName,
    RulesTogether,
    RuleSyntaxError,
    ScanResult,
    code_of,
    compile_rules,
    default_engine,
)
from dicomguard.errors import DicomguardError
from dicomguard.gather import Gathered, Where
from dicomguard.model import Category, Confidence, Finding, FindingKind, Region, Severity
from dicomguard.packs import Pack, Trust, read_pack
from dicomguard.payloads.payload import Payload, Validator
from dicomguard.payloads.validators import VALIDATORS
from dicomguard.payloads.wrappings import BY_MAGIC, BY_PLAINTEXT, ZLIB
from dicomguard.policy import FINDINGS_PER_RULE
from dicomguard.prefilter import Prefiltered, without_comments
from dicomguard.regex import regex
from dicomguard.settings import NamedPack, RulesInUse

SECONDS_PER_SET = 60
"""Time one rule set may take over one file."""

SECONDS_PER_RULE = 10.0
"""Time for looking at the triggers of one rule in one file; beyond, the file is incomplete."""

_LARGE = 64 << 20
"""Bytes from which on a source is looked at by several threads."""

_HANDOVER = 0.0002
"""Seconds for which a thread keeps the interpreter from another that waits for it."""

_CLOCK_EVERY = 256

_NEEDED = ("id", "title", "category", "severity", "confidence", "where", "why")
_OPTIONAL = ("validator", "polyglot", "polyglot_severity", "not_in", "attack", "reference")


class Rule(Struct, frozen=True, kw_only=True):
    """What one YARA rule declares.

    Attributes:
        name: File and name.
        where: The bytes it looks at.
        kind: The finding it makes.
        polyglot: The finding it makes where the file as a whole is the payload; None if the same.
        validator: What must confirm a match; None if the match is the finding.
        not_in: The region where a match is honest.
    """

    name: RuleName
    where: Where
    kind: FindingKind
    polyglot: FindingKind | None = None
    validator: Validator | None = None
    not_in: Region | None = None


class Found(NamedTuple):
    """What the rules say of a source.

    Attributes:
        findings: Of all rules.
        limits: Why something may have been missed, in words.
        triggers: Where something may be wrapped; the rules are named as in `BY_MAGIC` and
            `BY_PLAINTEXT`.
    """

    findings: list[Finding]
    limits: list[str]
    triggers: list[Match]


def shipped_rules() -> Path:
    """The folder of the rules that come with dicomguard: in the wheel, or in a checkout."""
    here = Path(__file__).resolve()
    packaged = here.parent / "_rules"
    return packaged if packaged.is_dir() else here.parents[2] / "rules"


_NO_KEYS = Trust()


@cache
def shipped_pack() -> Pack:
    """The rules that come with dicomguard, vouched for by whatever vouches for the package.

    Raises:
        DicomguardError: They cannot be read.
    """
    return read_pack(shipped_rules(), _NO_KEYS)


class RulePack:
    """Rules that are ready to run.

    Args:
        folders: Folders whose ``*.yar`` and ``*.yara`` files are loaded beside the shipped ones.
        engine: A name of `dicomguard.engine.ENGINES`; None for the first that is installed.
        trust: Whose packs are used.

    Attributes:
        packs: The folders as they were read, the shipped one first.
        rules: Every public rule.
        sets: What runs over which class of values.

    Raises:
        DicomguardError: A folder holds no rule, its manifest or signature is wrong, or a rule does
            not compile or fails the lint. No pack is half loaded.
    """

    def __init__(
        self, folders: Sequence[Path] = (), engine: str | None = None, trust: Trust = _NO_KEYS
    ) -> None:
        self.engine = engine or default_engine()
        self.packs = [shipped_pack(), *(read_pack(folder, trust) for folder in folders)]
        sources = _sources(self.packs)
        shipped = {path.name for path in self.packs[0].sources}
        by_where: dict[tuple[Where | None, bool], dict[str, str]] = defaultdict(dict)
        for namespace, source in sources.items():
            where = _where(source)
            by_where[where, where is not None and namespace in shipped][namespace] = source
        magic = {name: each.triggers for name, each in BY_MAGIC.items()}
        by_where[Where.FILE, True][_WRAPPINGS] = _wrapping_rules(magic)
        self.rules: dict[RuleName, Rule] = {}
        self.sets: list[tuple[Where, CompiledRules]] = []
        self._plain: CompiledRules | None = None
        for is_shipped, group in _compiled_together(by_where):
            members_of = {where: by_where[where, is_shipped] for where in group}
            everything = {name: each for some in members_of.values() for name, each in some.items()}
            rules, compiled = compiled_rules(self.engine, everything, is_shipped=is_shipped)
            self.rules |= {rule.name: rule for rule in rules}
            for where, members in members_of.items():
                part: CompiledRules = Part(compiled, members) if len(group) > 1 else compiled
                if where is None:
                    self._plain = part
                elif is_shipped and where is Where.FILE:
                    part = Prefiltered(part, members.values(), _RARE_FORMS, ZLIB.headers)
                else:
                    part = Prefiltered(part, members.values())
                self.sets.append((where or Where.FILE, part))
        self.sets.append((Where.NONPIXEL, _CIPHERED))
        digest = hashlib.sha256()
        for namespace, source in sorted(sources.items()):
            digest.update(f"{namespace}\0{source}\0".encode())
        self.version = f"{len(self.rules)} rules, sha256 {digest.hexdigest()[:16]}"

    @property
    def in_use(self) -> RulesInUse:
        """What these rules are."""
        manifests = [pack.manifest for pack in self.packs if pack.manifest]
        return RulesInUse(
            version=self.version,
            engine=self.engine,
            packs=tuple(NamedPack(each.name, each.version, each.released) for each in manifests),
        )

    def prepare(self) -> None:
        """Compile what many files need and a few do not."""
        for _, rules in self.sets:
            rules.prepare()

    def find(
        self, gathered: Gathered, path: str = "", beside: Callable[[], None] | None = None
    ) -> Found:
        """Run every rule over a source that is, or was unwrapped from, the file of that path.

        Args:
            gathered: The source.
            path: Of the file.
            beside: What else to do with a large source while the engine looks at it.
        """
        externals = _OfFile(path)
        findings: list[Finding] = []
        limits: list[str] = []
        triggers: list[Match] = []
        for where, result in self._results(gathered, externals, beside):
            buffer = gathered[where]
            limits += result.limits
            if result.marks is not None:
                gathered.sought[ZLIB] = result.marks
            by_rule: dict[RuleName, list[Match]] = defaultdict(list)
            for match in result.matches:
                origin = buffer.origin(match.offset, match.length)
                if origin is None:
                    continue
                if match.rule.namespace == _WRAPPINGS:
                    triggers.append(match._replace(offset=origin))
                elif match.rule in self.rules:
                    by_rule[match.rule].append(match._replace(offset=origin))
            for name, matches in by_rule.items():
                confirmed, in_time = _confirmed(gathered.source, self.rules[name], matches)
                findings += confirmed
                if not in_time:
                    limits.append(
                        f"looking at {len(matches)} matches of the rule {name.name} took longer"
                        f" than {SECONDS_PER_RULE:.0f} s"
                    )
        return Found(findings, limits, triggers)

    def _results(
        self,
        gathered: Gathered,
        externals: Mapping[str, str],
        beside: Callable[[], None] | None,
    ) -> list[tuple[Where, ScanResult]]:
        """What each set matches; of a large source by several threads."""

        def scan(where: Where, rules: CompiledRules) -> tuple[Where, ScanResult]:
            data = gathered[where].data
            if not len(data):
                return where, ScanResult([], [])
            return where, rules.scan(data, SECONDS_PER_SET, externals)

        if len(gathered.source.data) < _LARGE:
            return [scan(where, rules) for where, rules in self.sets]
        # To search takes no interpreter, to gather does: two threads search while this one gathers.
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - few files are so large

        interval = sys.getswitchinterval()
        sys.setswitchinterval(_HANDOVER)
        try:
            with ThreadPoolExecutor(2) as threads:
                other = threads.submit(beside) if beside else None
                searches = [
                    threads.submit(scan, where, rules)
                    for where, rules in self.sets
                    if where is Where.FILE
                ]
                results = [scan(*each) for each in self.sets if each[0] is not Where.FILE]
                results += [each.result() for each in searches]
                if other:
                    other.result()
        finally:
            sys.setswitchinterval(interval)
        return results

    def find_inside(
        self, source: Source, found: Sequence[Finding], path: str = ""
    ) -> tuple[list[Finding], list[str]]:
        """Run the rules that know nothing of dicomguard over what lies in a source.

        Each payload that was found, and the encapsulated document, is to them a file of its own;
        the places are those in the source.

        Args:
            source: Where the payloads lie.
            found: What `find` found there.
            path: Of the file.

        Returns:
            Findings, and why some may be missing, in words.
        """
        if self._plain is None:
            return [], []
        externals = _OfFile(path)
        known = {
            (each.rule, source.extent(each.place)[0])
            for each in found
            if each.kind.id == THIRD_PARTY.id
        }
        findings: list[Finding] = []
        limits: list[str] = []
        deadline = time.monotonic() + SECONDS_PER_SET
        for (start, end), what in _files_within(source, found).items():
            seconds = int(deadline - time.monotonic())
            if seconds < 1:
                limits.append(f"the rules took longer than {SECONDS_PER_SET} s over the payloads")
                break
            result = self._plain.scan(source.data[start:end], seconds, externals)
            limits += result.limits
            for rule, at, length in _first_of_each(result.matches):
                if rule in self.rules and (rule.name, start + at) not in known:
                    place = (start + at, start + at + length) if length else (start, end)
                    findings.append(
                        source.finding(
                            self.rules[rule].kind, *place, detail=f"in: {what}", rule=rule.name
                        )
                    )
        return findings, limits


@by_sort
def _is_document(sort: Sort) -> bool:
    return sort.region is Region.DOCUMENT


def _files_within(source: Source, found: Sequence[Finding]) -> dict[tuple[int, int], str]:
    """Runs of bytes that would be files of their own elsewhere, and what they are.

    What begins where the source does has been looked at with it.
    """
    files = {
        (each.value, each.end): "the encapsulated document"
        for each in source.layout.values_of(_is_document)
    }
    for each in found:
        if each.kind.id != THIRD_PARTY.id:
            files.setdefault(source.extent(each.place), each.detail or each.kind.title)
    return {(start, end): what for (start, end), what in files.items() if start < end and start}


def _first_of_each(matches: Sequence[Match]) -> list[Match]:
    """The first match of each rule."""
    first: dict[RuleName, Match] = {}
    for match in matches:
        first.setdefault(match.rule, match)
    return list(first.values())


def _confirmed(source: Source, rule: Rule, matches: Sequence[Match]) -> tuple[list[Finding], bool]:
    """Findings for what the rule's validator confirms, each payload once; whether time sufficed.

    A payload whose end is a guess (a script's is that of its value) is listed only where it begins.
    """
    findings: list[Finding] = []
    seen: set[tuple[int, int]] = set()
    guessed_ends: set[int] = set()
    deadline = time.monotonic() + SECONDS_PER_RULE
    for index, match in enumerate(_likely_first(matches)):
        if index % _CLOCK_EVERY == 0 and time.monotonic() > deadline:
            return findings, False
        payload = _payload(source, rule, match)
        if payload is None or (payload.start, payload.end) in seen:
            continue
        if not payload.confirmed and rule.validator:
            if payload.end in guessed_ends:
                continue
            guessed_ends.add(payload.end)
        seen.add((payload.start, payload.end))
        kind = rule.kind
        if payload.whole_file and source.is_file and rule.polyglot:
            kind = rule.polyglot
        if payload.confirmed and rule.validator:
            kind = replace(kind, confidence=Confidence.CONFIRMED)
        findings.append(
            source.finding(
                kind, payload.start, payload.end, detail=payload.description, rule=rule.name.name
            )
        )
        if len(findings) == FINDINGS_PER_RULE:
            break
    return findings, True


def _likely_first(matches: Sequence[Match]) -> Iterator[Match]:
    """The last match before all others: an archive is found from its end, behind any decoys."""
    yield matches[-1]
    yield from matches[:-1]


def _payload(source: Source, rule: Rule, match: Match) -> Payload | None:
    span = source.layout.span_at(match.offset)
    if source.region_at(match.offset) is rule.not_in:
        return None
    if rule.validator:
        return rule.validator(source.data, match.offset, span.start, span.end)
    end = match.offset + match.length
    return Payload(start=match.offset, end=end, description="", confirmed=False)


# ---------------------------------------------------------------------- loading and lint

_WRAPPINGS = "wrappings"
"""Namespace of the rules that look for what is wrapped; those of others are names of files."""


_FORMS = {RuleName(_WRAPPINGS, name): each.forms for name, each in BY_PLAINTEXT.items()}
_CIPHERED = ByteStrings(_FORMS)
_RARE_FORMS = {RuleName(_WRAPPINGS, name): each.rare for name, each in BY_PLAINTEXT.items()}


def prepare() -> None:
    """Compile what many files need and is of no pack."""
    _CIPHERED.prepare()


def _wrapping_rules(wrappings: Mapping[str, tuple[str, ...]]) -> str:
    """A rule for each wrapping, to ride along with the rules that look at all bytes."""
    return "\n".join(
        f"rule {name} {{ strings: "
        + " ".join(f"$_{index} = {string}" for index, string in enumerate(triggers))
        + " condition: any of them }"
        for name, triggers in wrappings.items()
    )


def _sources(packs: Sequence[Pack]) -> dict[str, str]:
    """Rule sources by namespace: the file's name for shipped rules, its path for others."""
    shipped, *others = packs
    sources = {path.name: source for path, source in shipped.sources.items()}
    for pack in others:
        sources |= {namespace_of(path): source for path, source in pack.sources.items()}
    return sources


def namespace_of(path: Path) -> str:
    """A path as text for both engines, and never a bare name: those are of shipped rules."""
    text = _as_text(path)
    return text if os.sep in text else os.path.join(os.curdir, text)


def _as_text(path: str | Path) -> str:
    """Whatever bytes it is made of."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _OfFile(Mapping[str, str]):
    """What rules of third parties may ask of the file that is scanned; told when they do."""

    def __init__(self, path: str) -> None:
        self._path = path

    @cached_property
    def _told(self) -> Mapping[str, str]:
        folder, base = os.path.split(_as_text(self._path)) if self._path else ("", "")
        known = {"filename": base, "filepath": folder, "extension": os.path.splitext(base)[1]}
        return dict.fromkeys(EXTERNALS, "") | known

    def __getitem__(self, name: str) -> str:
        return self._told[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._told)

    def __len__(self) -> int:
        return len(self._told)


def _compiled_together(
    classes: Iterable[tuple[Where | None, bool]],
) -> list[tuple[bool, list[Where | None]]]:
    """What rules look at, in groups; whether it is a group of shipped ones comes first.

    Shipped rules that see a part of the bytes are one group.
    With others beside them those that see all bytes would be slower; and of others nobody knows.
    """
    groups: dict[tuple[Where | None, bool], list[Where | None]] = defaultdict(list)
    for where, is_shipped in classes:
        alone = where is Where.FILE or not is_shipped
        groups[where if alone else Where.PRINTABLE, is_shipped].append(where)
    return [(is_shipped, group) for (_, is_shipped), group in groups.items()]


_WHERE = regex(r'\bwhere\s*=\s*"(\w+)"')


def _where(source: str) -> Where | None:
    """What the rules of a file look at; None if they know nothing of dicomguard."""
    found = _WHERE.search(without_comments(source))
    return Where(found[1]) if found and found[1] in set(Where) else None


def compiled_rules(
    engine: str, sources: Mapping[str, str], *, is_shipped: bool = False
) -> tuple[list[Rule], RulesTogether]:
    """The public rules of files that look at the same, compiled.

    Args:
        engine: The YARA engine.
        sources: Files by namespace.
        is_shipped: Whether they come with dicomguard: then a test has held them to the lint.

    Raises:
        DicomguardError: One does not compile, or fails the lint.
    """
    try:
        compiled = compile_rules(engine, sources)
    except RuleSyntaxError as error:
        msg = f"a rule does not compile: {error}"
        raise DicomguardError(msg) from error
    by_namespace: dict[str, list[Declared]] = defaultdict(list)
    for each in compiled.declared():
        if not each.is_private and each.rule.namespace != _WRAPPINGS:
            by_namespace[each.rule.namespace].append(each)
    rules = []
    for namespace, declared in by_namespace.items():
        alike = [_rule(each.rule, each.meta) for each in declared]
        if len({rule.where for rule in alike}) > 1:
            msg = f"{namespace}: all rules of one file must have the same meta.where"
            raise DicomguardError(msg)
        if not is_shipped and any("where" in each.meta for each in declared):
            _lint(namespace, sources[namespace], alike[0].where)
        rules += alike
    return rules, compiled


def _rule(name: RuleName, meta: Mapping[str, Any]) -> Rule:
    """A rule from its meta; one without ``where`` is a third party's and looks at whole files."""
    if "where" not in meta:
        return Rule(name=name, where=Where.FILE, kind=_third_party(name, meta))
    problems = [f"meta.{key} is missing" for key in _NEEDED if not meta.get(key)]
    problems += [f"meta.{key} is unknown" for key in meta if key not in _NEEDED + _OPTIONAL]
    problems += [f"meta.{key} is no text" for key in meta if not isinstance(meta[key], str)]
    if problems:
        raise DicomguardError(f"{name.namespace}: rule {name.name}: {'; '.join(problems)}")
    try:
        kind = FindingKind(
            id=meta["id"],
            title=meta["title"],
            category=Category(meta["category"]),
            severity=Severity(meta["severity"]),
            confidence=Confidence(meta["confidence"]),
            why=meta["why"],
            reference=meta.get("reference", ""),
            attack=meta.get("attack", ""),
        )
        polyglot = None
        if "polyglot" in meta:
            polyglot = replace(
                kind,
                id=meta["polyglot"],
                title=f"The file itself is: {kind.title}",
                severity=Severity(meta.get("polyglot_severity", meta["severity"])),
            )
        return Rule(
            name=name,
            where=Where(meta["where"]),
            kind=kind,
            polyglot=polyglot,
            validator=VALIDATORS[meta["validator"]] if "validator" in meta else None,
            not_in=Region(meta["not_in"]) if "not_in" in meta else None,
        )
    except (ValueError, KeyError) as error:
        msg = f"{name.namespace}: rule {name.name}: meta has a value that is not known: {error}"
        raise DicomguardError(msg) from error


THIRD_PARTY = FindingKind(
    id="YARA",
    title="YARA rule of your own pack",
    category=Category.MALWARE,
    severity=Severity.HIGH,
    confidence=Confidence.STRONG,
    why="A rule of your own pack matched.",
)
"""What a rule that knows nothing of dicomguard finds: a hit is what its author hunts."""


_SCORES = ((75, Severity.HIGH), (60, Severity.MEDIUM))
"""What a ``score`` of 0 to 100 amounts to, as YARA-Forge and the scanners THOR and LOKI use it."""


def _severity(score: object) -> Severity:
    """How bad a hit is by the score of its rule; high if it has none."""
    if not isinstance(score, int):
        return THIRD_PARTY.severity
    return next((severity for least, severity in _SCORES if score >= least), Severity.LOW)


def _third_party(name: RuleName, meta: Mapping[str, Any]) -> FindingKind:
    return replace(
        THIRD_PARTY,
        title=f"YARA rule {name.name}",
        severity=_severity(meta.get("score")),
        why=str(meta.get("description", THIRD_PARTY.why)),
        reference=str(meta.get("reference", "")),
    )


_PLACE_BOUND = regex(
    r"\b(?:filesize|entrypoint|import)\b|\bu?int(?:8|16|32)(?:be)?\s*\(\s*[0-9a-fA-Fx]+\s*\)"
    r"|(?:[$#!@][\w*]*|\bthem|\))\s+(?:at|in)\b"
)
_SHORT_STRING = regex(
    r'(\$\w*)\s*=\s*(?:"((?:\\x[0-9a-fA-F]{2}|\\.|[^"\\\n]){1,3})"|\{((?:\s*[0-9a-fA-F?~]{2,3}){1,3}\s*)\})'
)


def _lint(namespace: str, source: str, where: Where) -> None:
    """Refuse what would make a rule slow or, in gathered values, wrong."""
    if where is not Where.FILE:
        bound = _PLACE_BOUND.search(code_of(source))
        if bound:
            msg = (
                f"{namespace}: `{bound.group().strip()}` means nothing in gathered values; only "
                'rules with where = "file" may use it'
            )
            raise DicomguardError(msg)
    short = _SHORT_STRING.search(source)
    if short:
        msg = (
            f"{namespace}: the string {short.group(1)} is shorter than four bytes and would match "
            "by chance; add bytes, and let a validator confirm"
        )
        raise DicomguardError(msg)
