"""One small interface over the two YARA engines: yara-python (libyara) and YARA-X.

Both answer the same matches for the same rules; a test holds them to it.
"""

from __future__ import annotations

import importlib
import importlib.util
import mmap
import re
import threading
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from dicomguard.errors import DicomguardError
from dicomguard.regex import regex

ENGINES = {"yara": "yara", "yara-x": "yara_x"}
"""Engine names as users give them, with the module that serves each."""

MATCH_LIMIT = 1_000_000
"""Matches of one string after which both engines stop counting."""


_NOT_CODE = regex(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|=\s*/(?:\\.|[^/\\\n])+/[a-z]*|=\s*\{[^{}]*\}',
    re.DOTALL,
)


def code_of(source: str) -> str:
    """A rule source without comments and strings."""
    return _NOT_CODE.sub(" ", source)


EXTERNALS = ("filename", "filepath", "extension", "filetype", "owner")
"""Variables that rules of third parties use without declaring them, as LOKI and THOR give them."""

_USES_EXTERNALS = regex(rf"\b(?:{'|'.join(EXTERNALS)})\b")


_RULE_NAME = regex(r"\brule\s+(\w+)")


class RuleName(NamedTuple):
    """A rule and the file it stands in; names need to be unique only within a file."""

    namespace: str
    name: str


class Match(NamedTuple):
    """One match of one string of a rule; a rule without strings matches at 0 with length 0."""

    rule: RuleName
    offset: int
    length: int


class Declared(NamedTuple):
    """A rule as its source declares it."""

    rule: RuleName
    meta: Mapping[str, Any]
    is_private: bool


class ScanResult(NamedTuple):
    """What was found in some data.

    Attributes:
        matches: In order of offset.
        limits: Why some may be missing, in words.
        marks: Where the marks are that were sought beside, in order; None if none were.
    """

    matches: list[Match]
    limits: list[str]
    marks: list[int] | None = None


NO_EXTERNALS: Mapping[str, str] = dict.fromkeys(EXTERNALS, "")
"""All of them empty."""


class RuleSyntaxError(ValueError):
    """A rule source does not compile; the message says where and why, as the engine does."""


class MappedFile(mmap.mmap):
    """A whole file in memory, and where it can be opened again as long as it is.

    YARA-X takes bytes or a path; what is large must not be copied.
    """

    path: str


class CompiledRules(Protocol):
    """Rules that can be run over data."""

    def prepare(self) -> None:
        """Get ready for many scans, in a process that ends when they are done."""

    def declared(self) -> Iterable[Declared]:
        """Every rule, private ones included."""

    def scan(
        self, data: bytes | mmap.mmap, seconds: int, externals: Mapping[str, str] = NO_EXTERNALS
    ) -> ScanResult:
        """Run all rules over ``data`` and give up after ``seconds``.

        ``externals`` are values of `EXTERNALS`; those that are not given are empty.
        """


class RulesTogether(CompiledRules, Protocol):
    """Rules of several files that were compiled at once."""

    def scan(
        self,
        data: bytes | mmap.mmap,
        seconds: int,
        externals: Mapping[str, str] = NO_EXTERNALS,
        namespaces: Container[str] | None = None,
    ) -> ScanResult:
        """As `CompiledRules` has it, of the files with these namespaces, or of all."""


class Part:
    """The rules of some files, compiled together with others: each time costs libyara 8 MB.

    Args:
        rules: All of them.
        namespaces: Of these files.
    """

    def __init__(self, rules: RulesTogether, namespaces: Container[str]) -> None:
        self._rules = rules
        self._namespaces = namespaces

    def prepare(self) -> None:
        """As `CompiledRules` has it."""
        self._rules.prepare()

    def declared(self) -> Iterable[Declared]:
        """As `CompiledRules` has it."""
        return (each for each in self._rules.declared() if each.rule.namespace in self._namespaces)

    def scan(
        self, data: bytes | mmap.mmap, seconds: int, externals: Mapping[str, str] = NO_EXTERNALS
    ) -> ScanResult:
        """As `CompiledRules` has it."""
        return self._rules.scan(data, seconds, externals, self._namespaces)


def compile_rules(engine: str, sources: Mapping[str, str]) -> RulesTogether:
    """Compile rule sources by namespace.

    Args:
        engine: A name of `ENGINES`.
        sources: YARA source by namespace.

    Raises:
        RuleSyntaxError: A source does not compile. Includes are not allowed, nor externals other
            than `EXTERNALS`.
        DicomguardError: The engine is not installed.
    """
    module = _load(engine)
    return _Libyara(module, sources) if engine == "yara" else _YaraX(module, sources)


def _use_externals(sources: Mapping[str, str]) -> bool:
    return any(
        _USES_EXTERNALS.search(source) and _USES_EXTERNALS.search(code_of(source))
        for source in sources.values()
    )


def compile_warnings(engine: str, source: str) -> list[str]:
    """What the engine thinks of a source that compiles: what would be slow, above all.

    Raises:
        DicomguardError: The engine is not installed.
    """
    module = _load(engine)
    if engine == "yara":
        compiled = module.compile(source=source, includes=False, externals=dict(NO_EXTERNALS))
        return [str(warning) for warning in compiled.warnings]
    compiler = module.Compiler()
    for name in EXTERNALS:
        compiler.define_global(name, "")
    compiler.add_source(source)
    return [f"line {each['line']}: {each['title']}" for each in compiler.warnings()]


def default_engine() -> str:
    """The first engine that is installed.

    Raises:
        DicomguardError: None is.
    """
    for engine, module in ENGINES.items():
        if importlib.util.find_spec(module):
            return engine
    msg = "no YARA engine is installed: pip install yara-python, or yara-x"
    raise DicomguardError(msg)


def _load(engine: str) -> Any:
    try:
        return importlib.import_module(ENGINES[engine])
    except ImportError as error:
        msg = f"the engine {engine} is not installed: pip install 'dicomguard[{engine}]'"
        raise DicomguardError(msg) from error


class _Libyara:
    def __init__(self, module: Any, sources: Mapping[str, str]) -> None:
        self._module = module
        self._named = _use_externals(sources)
        self._sources = sources
        self._rules = self._compiled(sources)

    def prepare(self) -> None:
        """It needs nothing."""

    def _compiled(self, sources: Mapping[str, str]) -> Any:
        options = {"includes": False, "externals": dict(NO_EXTERNALS)}
        try:
            return self._module.compile(sources=dict(sources), **options)
        except self._module.Error as error:
            if len(sources) == 1:
                raise RuleSyntaxError(f"{next(iter(sources))}: {error}") from error
            for namespace, source in sources.items():  # the one that is wrong
                self._compiled({namespace: source})
            raise RuleSyntaxError(str(error)) from error

    def _names(self, rules: Iterable[Any]) -> list[RuleName]:
        """The names of compiled rules as the sources have them; none if they say more or less."""
        identifiers = [rule.identifier for rule in rules]
        for text_of in (str, code_of):  # what is no code seldom reads like a rule
            names = [
                RuleName(namespace, name)
                for namespace, source in self._sources.items()
                for name in _RULE_NAME.findall(text_of(source))
            ]
            if [each.name for each in names] == identifiers:
                return names
        return []

    def declared(self) -> Iterable[Declared]:
        # Compiled together the rules do not say which namespace they are of, but keep their order.
        rules = list(self._rules)
        names = self._names(rules)
        if names:
            together = [(each.namespace, rule) for each, rule in zip(names, rules, strict=True)]
        else:
            together = [
                (namespace, rule)
                for namespace, source in self._sources.items()
                for rule in self._compiled({namespace: source})
            ]
        for namespace, rule in together:
            yield Declared(RuleName(namespace, rule.identifier), rule.meta, rule.is_private)

    def scan(
        self,
        data: bytes | mmap.mmap,
        seconds: int,
        externals: Mapping[str, str] = NO_EXTERNALS,
        namespaces: Container[str] | None = None,
    ) -> ScanResult:
        limits: list[str] = []

        def on_warning(_kind: int, string: Any) -> int:
            if namespaces is None or string.namespace in namespaces:
                limits.append(_match_limit(string.rule))
            return int(self._module.CALLBACK_CONTINUE)

        try:
            found = self._rules.match(
                data=data,
                timeout=seconds,
                warnings_callback=on_warning,
                externals=dict(externals) if self._named else None,
            )
        except self._module.TimeoutError:
            return ScanResult([], [f"the rules took longer than {seconds} s"])
        except self._module.Error as error:
            return ScanResult([], [f"the rules could not be run: {error}"])
        matches = []
        for hit in found:
            if namespaces is not None and hit.namespace not in namespaces:
                continue
            rule = RuleName(hit.namespace, hit.rule)
            places = [
                Match(rule, instance.offset, instance.matched_length)
                for string in hit.strings
                for instance in string.instances
            ]
            matches += places or [Match(rule, 0, 0)]
        return ScanResult(sorted(matches, key=by_place), limits)


_PRIVATE_RULE = regex(r"\bprivate\s+(?:global\s+)?rule\s+(\w+)")
"""A private rule; YARA-X does not say which ones are."""


class _YaraX:
    def __init__(self, module: Any, sources: Mapping[str, str]) -> None:
        self._module = module
        compiler = module.Compiler()
        compiler.enable_includes(False)
        self._named = _use_externals(sources)
        for name in EXTERNALS:
            compiler.define_global(name, "")
        self._private: set[RuleName] = set()
        try:
            for namespace, source in sources.items():
                compiler.new_namespace(namespace)
                compiler.add_source(source, origin=namespace)
                self._private |= {
                    RuleName(namespace, name) for name in _PRIVATE_RULE.findall(code_of(source))
                }
        except module.CompileError as error:
            raise RuleSyntaxError(str(error)) from error
        self._rules = compiler.build()
        self._kept: threading.local | None = None
        """Each thread's scanner, which no other thread may let go of."""

    def prepare(self) -> None:
        self._kept = threading.local()

    def declared(self) -> Iterable[Declared]:
        for rule in self._rules:
            name = RuleName(rule.namespace, rule.identifier)
            yield Declared(name, dict(rule.metadata), is_private=name in self._private)

    def scan(
        self,
        data: bytes | mmap.mmap,
        seconds: int,
        externals: Mapping[str, str] = NO_EXTERNALS,
        namespaces: Container[str] | None = None,
    ) -> ScanResult:
        scanner = self._scanner(data)
        for name in EXTERNALS if self._named else ():
            scanner.set_global(name, externals.get(name, ""))
        scanner.set_timeout(seconds)
        try:
            if isinstance(data, MappedFile):
                found = scanner.scan_file(data.path)
            else:
                found = scanner.scan(data if isinstance(data, bytes) else data[:])
        except self._module.TimeoutError:
            return ScanResult([], [f"the rules took longer than {seconds} s"])
        except self._module.ScanError as error:
            return ScanResult([], [f"the rules could not be run: {error}"])
        matches, limits = [], []
        for hit in found.matching_rules:
            if namespaces is not None and hit.namespace not in namespaces:
                continue
            rule = RuleName(hit.namespace, hit.identifier)
            places = []
            for pattern in hit.patterns:
                places += [Match(rule, match.offset, match.length) for match in pattern.matches]
                if len(pattern.matches) >= MATCH_LIMIT:
                    limits.append(_match_limit(rule.name))
            matches += places or [Match(rule, 0, 0)]
        return ScanResult(sorted(matches, key=by_place), limits)

    def _scanner(self, data: bytes | mmap.mmap) -> Any:
        """A new one, or this thread's: to make one takes longer than most of its scans.

        After a mapped file one would keep that mapped.
        """
        keeper = self._kept if isinstance(data, bytes) else None
        scanner = getattr(keeper, "scanner", None)
        if scanner is None:
            scanner = self._module.Scanner(self._rules)
            scanner.max_matches_per_pattern(MATCH_LIMIT)
            if keeper is not None:
                keeper.scanner = scanner
        return scanner


def _match_limit(rule: str) -> str:
    return f"a string of the rule {rule} matched more than {MATCH_LIMIT} times"


def by_place(match: Match) -> tuple[int, RuleName, int]:
    """The order of matches."""
    return match.offset, match.rule, match.length
