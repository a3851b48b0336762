"""How long each rule takes, so that one slow rule does not slow every scan unnoticed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from plyara import Plyara
from plyara.utils import detect_dependencies, detect_imports, rebuild_yara_rule

from dicomguard import selftest
from dicomguard.dicom.layout import Data
from dicomguard.dicom.source import Source
from dicomguard.dicom.walker import walk
from dicomguard.engine import CompiledRules, RuleSyntaxError, compile_rules
from dicomguard.errors import DicomguardError
from dicomguard.gather import Gathered, Where
from dicomguard.packs import Pack
from dicomguard.rules import RulePack, namespace_of

BUDGET = 0.05
"""Share of the time of all rules that one rule may take."""

_ROUNDS = 3
_SECONDS = 60
_SAMPLE_BYTES = 4 << 20
_IDLE = "rule idle { strings: $a = { 9F 3A C1 77 E2 5B 08 D4 } condition: $a }"
"""What any rule costs: that the data is looked at at all."""


class Timing(NamedTuple):
    """What one rule takes.

    Attributes:
        path: The file it stands in.
        rule: Its name.
        seconds: For all samples, beyond what any rule takes.
        share: Of the time of all rules together.
        problem: Why it could not be measured, or did not finish; empty if it could.
    """

    path: Path
    rule: str
    seconds: float
    share: float
    problem: str = ""


def samples() -> list[bytes]:
    """Two files as rules meet them: noise in a private element, and smooth 16-bit pixels."""
    chance = random.Random(0)  # noqa: S311 - the same bytes each time
    noise = chance.randbytes(_SAMPLE_BYTES)
    smooth = b"".join(
        (1000 + index // 512 % 64 + (value & 15)).to_bytes(2, "little")
        for index, value in enumerate(noise[: _SAMPLE_BYTES // 2])
    )
    return [selftest.in_private_element(noise), selftest.in_private_element(smooth)]


def bench(pack: RulePack, packs: Sequence[Pack], contents: Sequence[Data]) -> list[Timing]:
    """Time every rule by itself, slowest first.

    Args:
        pack: All rules, for the time of the whole.
        packs: Those whose rules are timed.
        contents: What they are timed with.

    Raises:
        DicomguardError: A file of rules cannot be taken apart.
    """
    gathered = [Gathered(_source(content)) for content in contents]
    idle = {where: _seconds(_compiled(pack, _IDLE), where, gathered)[0] for where in Where}
    whole = sum(_seconds(rules, where, gathered)[0] for where, rules in pack.sets)
    timings = []
    for each in packs:
        for path, source in each.sources.items():
            wheres = {
                rule.name.name: rule.where
                for rule in pack.rules.values()
                if rule.name.namespace in (namespace_of(path), path.name)
            }
            for name, alone in _taken_apart(path, source):
                if name not in wheres:  # a private rule is timed with those that need it
                    continue
                where = wheres[name]
                try:
                    seconds, problem = _seconds(_compiled(pack, alone), where, gathered)
                except RuleSyntaxError as error:
                    timings.append(Timing(path, name, 0, 0, str(error)))
                    continue
                seconds = max(0.0, seconds - idle[where])
                timings.append(Timing(path, name, seconds, seconds / whole, problem))
    return sorted(timings, key=lambda timing: (not timing.problem, -timing.seconds))


def _source(content: Data) -> Source:
    layout = walk(content)
    return Source(data=content, layout=layout, file=layout)


def _compiled(pack: RulePack, source: str) -> CompiledRules:
    return compile_rules(pack.engine, {"bench": source})


def _seconds(rules: CompiledRules, where: Where, gathered: Sequence[Gathered]) -> tuple[float, str]:
    """The least time of some rounds, and why that is not all."""
    best, problem = float("inf"), ""
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for each in gathered:
            data = each[where].data
            if len(data):
                limits = rules.scan(data, _SECONDS).limits
                problem = limits[0] if limits else problem
        best = min(best, time.perf_counter() - started)
        if problem:
            break
    return best, problem


def _taken_apart(path: Path, source: str) -> Iterator[tuple[str, str]]:
    """Each rule with the imports and the rules that it needs, as a source of its own.

    Raises:
        DicomguardError: The file cannot be parsed.
    """
    try:
        parsed: list[dict[str, Any]] = Plyara().parse_string(source)
    except Exception as error:
        raise DicomguardError(f"cannot take {path} apart: {error}") from error
    by_name = {rule["rule_name"]: rule for rule in parsed}
    always = [name for name, rule in by_name.items() if "global" in rule.get("scopes", ())]
    for name in by_name:
        needed: dict[str, None] = {}
        _need(name, by_name, needed)
        for each in always:
            _need(each, by_name, needed)
        imports = {module for each in needed for module in detect_imports(by_name[each])}
        yield (
            name,
            "\n".join(
                [f'import "{module}"' for module in sorted(imports)]
                + [rebuild_yara_rule(by_name[each]) for each in needed]
            ),
        )


def _need(name: str, by_name: dict[str, dict[str, Any]], needed: dict[str, None]) -> None:
    """Put a rule behind those it refers to; YARA wants them declared first."""
    pending = [(name, False)]
    while pending:
        current, is_ready = pending.pop()
        if current in needed:
            continue
        if is_ready:
            needed[current] = None
            continue
        pending.append((current, True))
        pending += [
            (each, False)
            for each in detect_dependencies(by_name[current])
            if each in by_name and each != current
        ]
