"""Rules: loaded strictly, run only where they look, and never silently cut short."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from struct import pack

import pytest

from dicomguard import (
    Confidence,
    Finding,
    Report,
    ScanSettings,
    Severity,
    Verdict,
    rules,
    scan_bytes,
)
from dicomguard.engine import ENGINES, MATCH_LIMIT
from dicomguard.errors import DicomguardError
from dicomguard.gather import SEPARATOR, Where
from dicomguard.model import Region
from dicomguard.rules import FINDINGS_PER_RULE, RulePack, shipped_rules
from fixtures.build import all_fixtures
from fixtures.carriers import CARRIER, carrier, document
from fixtures.dicomfile import (
    PATIENT_NAME,
    PRIVATE_TAG,
    DicomFile,
    bundled,
    element,
    private,
    sequence,
    tag_text,
)
from fixtures.executables import launcher, tiny_pe
from fixtures.formats import pdf

COMMENTS = 0x00104000

engines = pytest.mark.parametrize("engine", list(ENGINES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "own rules"
    path.mkdir()
    return path


def meta(where: str = "file", **changed: str | None) -> str:
    """A complete meta section, with values changed or (None) left out."""
    values: dict[str, str | None] = {
        "id": "OWN-RULE",
        "title": "A rule of the test",
        "category": "malware",
        "severity": "high",
        "confidence": "strong",
        "where": where,
        "why": "It is a test.",
    } | changed
    lines = (f'{key} = "{value}"' for key, value in values.items() if value is not None)
    return "meta: " + " ".join(lines)


def rule(body: str, where: str = "file", name: str = "own", **changed: str | None) -> str:
    return f"rule {name} {{ {meta(where, **changed)} {body} }}\n"


def settings(folder: Path, source: str, engine: str | None = None) -> ScanSettings:
    (folder / "own.yar").write_text(source)
    return ScanSettings(rule_folders=(folder,), engine=engine)


def own(report: Report) -> list[Finding]:
    """What the rules of the test found."""
    return [each for each in report.findings if each.kind.id in ("OWN-RULE", "YARA")]


def refusal(folder: Path, engine: str | None = None) -> str:
    """Why the pack is not loaded."""
    with pytest.raises(DicomguardError) as error:
        RulePack((folder,), engine)
    return str(error.value)


# ---------------------------------------------------------------------- the shipped pack


@engines
def test_the_shipped_pack_loads(engine: str) -> None:
    rules = RulePack(engine=engine).rules
    assert len(rules) > 20
    assert {name.namespace for name in rules} == {
        path.name for path in shipped_rules().glob("*.yar")
    }
    assert all(each.kind.id != "YARA" for each in rules.values()), "a shipped rule without meta"


def test_its_version_changes_with_every_byte(folder: Path) -> None:
    plain = RulePack().version
    assert plain == RulePack().version
    (folder / "a.yar").write_text("rule a { condition: false }")
    one = RulePack((folder,)).version
    (folder / "a.yar").write_text("rule a { condition: false } ")
    assert len({plain, one, RulePack((folder,)).version}) == 3


# ---------------------------------------------------------------------- strict loading


@engines
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("condition: foo bar", ""),
        ('strings: $a = "never used" condition: true', ""),
        ("condition: hostname == 1", "identifier"),
    ],
    ids=["syntax", "unused string", "external"],
)
def test_what_does_not_compile_is_named_by_file_and_line(
    folder: Path, engine: str, body: str, reason: str
) -> None:
    path = folder / "broken.yar"
    path.write_text(f"rule sound {{ condition: true }}\n\nrule broken {{ {body} }}\n")
    message = refusal(folder, engine)
    assert str(path) in message
    assert "line 3" in message or f"{path}:3:" in message
    assert reason in message


@engines
def test_includes_are_refused(folder: Path, engine: str) -> None:
    (folder / "outside.txt").write_text("rule included { condition: true }")
    (folder / "own.yar").write_text(
        f'include "{folder / "outside.txt"}"\nrule a {{ condition: true }}'
    )
    assert "include" in refusal(folder, engine)


def test_an_empty_folder_is_no_pack(folder: Path) -> None:
    (folder / "readme.txt").write_text("no rules here")
    assert str(folder) in refusal(folder)


def test_a_missing_folder_is_no_pack(tmp_path: Path) -> None:
    assert str(tmp_path / "absent") in refusal(tmp_path / "absent")


def test_a_file_is_no_folder(folder: Path) -> None:
    (folder / "a.yar").write_text("rule a { condition: true }")
    assert str(folder / "a.yar") in refusal(folder / "a.yar")


def test_what_cannot_be_read_is_not_left_out(folder: Path) -> None:
    (folder / "sound.yar").write_text("rule a { condition: true }")
    (folder / "lost.yar").symlink_to(folder / "nowhere")
    assert str(folder / "lost.yar") in refusal(folder)


def test_rules_that_are_not_utf8_are_refused(folder: Path) -> None:
    (folder / "latin.yar").write_bytes(b'rule a { meta: d = "\xe9" condition: true }')
    assert str(folder / "latin.yar") in refusal(folder)


@engines
def test_a_file_name_that_is_not_utf8_is_no_obstacle(folder: Path, engine: str) -> None:
    (folder / os.fsdecode(b"na\xefve.yar")).write_text("rule a { condition: true }")
    report = scan_bytes(b"x", settings=ScanSettings(rule_folders=(folder,), engine=engine))
    assert [each.rule for each in own(report)] == ["a"]


def test_one_bad_file_refuses_the_whole_pack(folder: Path) -> None:
    (folder / "a.yar").write_text("rule a { condition: true }")
    (folder / "b.yar").write_text("rule b { condition: }")
    assert "b.yar" in refusal(folder)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"title": None}, "meta.title is missing"),
        ({"id": None}, "meta.id is missing"),
        ({"why": ""}, "meta.why is missing"),
        ({"colour": "red"}, "meta.colour is unknown"),
        ({"category": "malwar"}, "malwar"),
        ({"severity": "urgent"}, "urgent"),
        ({"confidence": "sure"}, "sure"),
        ({"where": "everywhere"}, "everywhere"),
        ({"validator": "nothing"}, "nothing"),
        ({"not_in": "elsewhere"}, "elsewhere"),
        ({"polyglot": "POLY-OWN", "polyglot_severity": "urgent"}, "urgent"),
    ],
    ids=str,
)
def test_meta_is_complete_and_known(
    folder: Path, changed: dict[str, str | None], reason: str
) -> None:
    (folder / "own.yar").write_text(rule("condition: true", **changed))
    message = refusal(folder)
    assert reason in message
    assert str(folder / "own.yar") in message
    assert "own" in message


def test_meta_is_text(folder: Path) -> None:
    source = rule("condition: true").replace('"OWN-RULE"', "7")
    (folder / "own.yar").write_text(source)
    assert "meta.id is no text" in refusal(folder)


def test_all_rules_of_a_file_look_at_one_place(folder: Path) -> None:
    text = 'strings: $a = "abcdef" condition: $a'
    (folder / "own.yar").write_text(rule(text, "text", "a") + rule(text, "private", "b"))
    assert "same meta.where" in refusal(folder)


@pytest.mark.parametrize(
    "condition",
    [
        "$a and filesize < 10KB",
        "$a at 0",
        "$a in (0..10)",
        "any of them at 0",
        "any of ($a*) in (0..10)",
        "#a in (0..10) == 1",
        "for any of them : ($ at 4)",
        "$a and uint16(0) == 0x5A4D",
        "$a and uint32be( 0x3C ) == 1",
        "$a and int8(4)<2",
    ],
)
def test_words_bound_to_a_place_mean_nothing_in_gathered_values(
    folder: Path, condition: str
) -> None:
    body = f'strings: $a = "abcdef" condition: {condition}'
    (folder / "own.yar").write_text(rule(body, "text"))
    assert "gathered" in refusal(folder)
    (folder / "own.yar").write_text(rule(body, "file"))
    RulePack((folder,))


@pytest.mark.parametrize("where", [where for where in Where if where is not Where.FILE])
def test_every_place_but_the_file_is_gathered(folder: Path, where: str) -> None:
    (folder / "own.yar").write_text(rule("condition: filesize < 10", where))
    assert "`filesize`" in refusal(folder)


def test_modules_mean_nothing_in_gathered_values(folder: Path) -> None:
    body = 'strings: $a = "abcdef" condition: $a and pe.is_pe'
    (folder / "own.yar").write_text('import "pe"\n' + rule(body, "private"))
    assert "`import`" in refusal(folder)


@pytest.mark.parametrize(
    "condition", ["$a and uint16(@a[1] + 2) == 1", "for any i in (1..#a) : (@a[i] > 4)"]
)
def test_words_relative_to_a_match_are_allowed(folder: Path, condition: str) -> None:
    comment = "// not at 0, filesize\n/* $a in (0..3) */"
    body = f'strings: $a = "filesize $a at 0" condition: {condition} {comment}'
    (folder / "own.yar").write_text(rule(body + "\n", "private"))
    RulePack((folder,))


@pytest.mark.parametrize("string", ['"MZ"', '"abc"', r'"\x7fEL"', "{ 4D 5A }", "{ 4D ?? 50 }"])
def test_short_strings_are_no_rule(folder: Path, string: str) -> None:
    (folder / "own.yar").write_text(rule(f"strings: $a = {string} condition: $a"))
    assert "shorter than four bytes" in refusal(folder)


# ---------------------------------------------------------------------- rules of third parties


@engines
@pytest.mark.parametrize(
    "source",
    [
        "rule a { condition: true }",
        "rule a { condition: uint16(0) == 0x5A4D }",
        'import "pe" rule a { condition: pe.number_of_sections == 1 }',
        'rule a { strings: $a = "MZ" condition: $a at 0 and filesize < 1MB }',
        'rule a { meta: id = "6ee6b5a7" severity = 80 author = "someone" condition: true }',
    ],
    ids=["condition only", "uint16", "pe module", "at, filesize", "foreign meta"],
)
def test_a_rule_without_our_meta_runs_on_the_whole_file(
    folder: Path, engine: str, source: str
) -> None:
    report = scan_bytes(tiny_pe(), settings=settings(folder, source, engine))
    (found,) = own(report)
    assert (found.rule, found.kind.id, found.place.offset) == ("a", "YARA", 0)
    assert (found.kind.severity, found.kind.confidence) == (Severity.HIGH, Confidence.STRONG)
    assert "a" in found.kind.title


PROGRAM = tiny_pe()
ON_A_PROGRAM = {
    "start": "uint16(0) == 0x5A4D",
    "size": f"filesize == {len(PROGRAM)}",
    "pe": "pe.is_pe and pe.number_of_sections == 1 and pe.imports(/kernel32.dll/i, /.*/) > 0",
    "dotnet": "pe.is_pe and not dotnet.is_dotnet",
    "hash": f'hash.md5(0, filesize) == "{hashlib.md5(PROGRAM).hexdigest()}"',
    "math": "uint16(0) == 0x5A4D and math.entropy(0, filesize) < 4",
}
MODULES = "".join(f'import "{module}" ' for module in ("pe", "elf", "dotnet", "math", "hash"))
WITH_A_PROGRAM = ("pe-explicit", "pe-deflated", "pe-nested", "pe-pixels", "pe-tail", "pe-document")


@engines
@pytest.mark.parametrize("condition", list(ON_A_PROGRAM))
@pytest.mark.parametrize("name", WITH_A_PROGRAM)
def test_a_payload_is_a_file_of_its_own_to_it(
    folder: Path, engine: str, condition: str, name: str
) -> None:
    fixture = all_fixtures()[name]
    source = f"{MODULES} rule a {{ condition: {ON_A_PROGRAM[condition]} }}"
    (found,) = own(scan_bytes(fixture.data, settings=settings(folder, source, engine)))
    (program,) = fixture.expected
    place = found.place
    assert (place.region, place.tag_path) == (program.region, program.tag_path)
    assert (place.offset, place.inner_offset) == (program.offset, program.inner_offset)
    assert (place.length, found.rule) == (len(PROGRAM), "a")


@engines
def test_a_program_of_another_format_is_a_file_too(folder: Path, engine: str) -> None:
    source = f"{MODULES} rule a {{ condition: elf.machine == elf.EM_X86_64 }}"
    file = all_fixtures()["elf-x86_64"]
    (found,) = own(scan_bytes(file.data, settings=settings(folder, source, engine)))
    assert found.place.offset == file.expected[0].offset


@engines
def test_what_is_unwrapped_is_a_file_too(folder: Path, engine: str) -> None:
    source = f"rule a {{ condition: {ON_A_PROGRAM['start']} }}"
    report = scan_bytes(all_fixtures()["base64"].data, settings=settings(folder, source, engine))
    (found,) = own(report)
    assert (found.place.chain, found.place.inner_offset) == (("base64",), 0)


@engines
def test_a_document_is_a_file_whatever_it_is(folder: Path, engine: str) -> None:
    source = 'rule a { strings: $a = "words" condition: $a at 5 }'
    data = document(b"just words").data
    (found,) = own(scan_bytes(data, settings=settings(folder, source, engine)))
    assert found.place.region is Region.DOCUMENT
    assert data[found.place.offset :][: found.place.length] == b"words"


@engines
def test_one_match_is_not_told_twice(folder: Path, engine: str) -> None:
    source = 'rule a { strings: $a = "cannot be run in DOS" condition: $a }'
    data = carrier().with_(*private(launcher())).data
    (found,) = own(scan_bytes(data, settings=settings(folder, source, engine)))
    assert found.place.offset == data.index(b"cannot be run in DOS")


@engines
def test_its_match_alone_makes_a_verdict(folder: Path, engine: str) -> None:
    source = 'rule a { meta: description = "says why" strings: $a = "4MR1" condition: $a }'
    file = bundled(CARRIER)
    assert scan_bytes(file.data).verdict is Verdict.CLEAN
    report = scan_bytes(file.data, settings=settings(folder, source, engine))
    assert report.verdict is Verdict.MALICIOUS
    assert {each.kind.why for each in own(report)} == {"says why"}
    assert [each.place.offset for each in own(report)] == _all_offsets(file.data, b"4MR1")


def _all_offsets(data: bytes, part: bytes) -> list[int]:
    return [at for at in range(len(data)) if data.startswith(part, at)]


@engines
def test_private_rules_are_only_for_other_rules(folder: Path, engine: str) -> None:
    body = 'strings: $a = "4MR1" condition: $a and helper'
    source = "private rule helper { condition: true }\n" + rule(body, "text")
    chosen = settings(folder, source, engine)
    assert "helper" not in {name.name for name in chosen.pack.rules}
    assert {each.rule for each in own(scan_bytes(bundled(CARRIER).data, settings=chosen))} == {
        "own"
    }


@engines
def test_two_files_may_use_one_name(folder: Path, engine: str) -> None:
    for name, where, text in (("a", "text", "4MR1"), ("b", "private", "payload")):
        body = f'strings: $a = "{text}" condition: $a'
        (folder / f"{name}.yar").write_text(rule(body, where, id=f"OWN-{name.upper()}"))
    file = carrier().with_(*private(b"the payload"))
    report = scan_bytes(file.data, settings=ScanSettings(rule_folders=(folder,), engine=engine))
    assert {each.kind.id for each in report.findings if each.rule == "own"} == {"OWN-A", "OWN-B"}


def test_rules_below_a_folder_and_with_either_suffix_are_found(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "a.yara").write_text("rule deep_one { condition: true }")
    (folder / "b.yar").write_text("rule other { condition: true }")
    report = scan_bytes(b"x", settings=ScanSettings(rule_folders=(folder,)))
    assert {each.rule for each in own(report)} == {"deep_one", "other"}


# ---------------------------------------------------------------------- where a rule looks


def text_value(text: bytes) -> DicomFile:
    return carrier().with_(element(COMMENTS, "LT", text))


PLACES: dict[Where, Callable[[bytes], DicomFile]] = {
    Where.PREAMBLE: lambda text: carrier().but(preamble=text.ljust(128, b"\0")),
    Where.META: lambda text: carrier().with_(element(0x00020016, "AE", text)),
    Where.TEXT: text_value,
    Where.PRIVATE: lambda text: carrier().with_(*private(text)),
    Where.DOCUMENT: lambda text: document(pdf() + text),
    Where.TAIL: lambda text: carrier().but(tail=text),
}
SEEN_BY = {place: {place, Where.FILE, Where.NONPIXEL, Where.PRINTABLE} for place in PLACES}
SEEN_BY[Where.META].add(Where.TEXT)


@engines
@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("where", list(Where))
def test_a_rule_sees_its_place_and_no_other(
    folder: Path, engine: str, place: Where, where: Where
) -> None:
    needle = b"UNMISTAKABLE"
    data = PLACES[place](needle).data
    body = f'strings: $a = "{needle.decode()}" condition: $a'
    report = scan_bytes(data, settings=settings(folder, rule(body, where), engine))
    expected = [data.index(needle)] if where in SEEN_BY[place] else []
    assert [each.place.offset for each in own(report)] == expected


def test_a_finding_in_a_gathered_value_leads_back_to_its_element(folder: Path) -> None:
    inner = b"".join(part.encoded for part in private(b"xx UNMISTAKABLE xx"))
    file = carrier().with_(sequence(0x00081140, b"", inner))
    body = 'strings: $a = "UNMISTAKABLE" condition: $a'
    (found,) = own(scan_bytes(file.data, settings=settings(folder, rule(body, "private"))))
    assert found.place.region is Region.PRIVATE
    assert found.place.tag_path == f"(0008,1140)[1] > {tag_text(PRIVATE_TAG)}"
    assert found.place.offset == file.data.index(b"UNMISTAKABLE")
    assert found.place.length == len("UNMISTAKABLE")


@engines
def test_what_is_not_dicom_counts_as_every_place(folder: Path, engine: str) -> None:
    source = "".join(
        rule('strings: $a = "UNMISTAKABLE" condition: $a', where, f"in_{where}") for where in Where
    )
    for where, line in zip(Where, source.splitlines(), strict=True):
        (folder / f"{where}.yar").write_text(line)
    report = scan_bytes(
        b"no DICOM, UNMISTAKABLE", settings=ScanSettings(rule_folders=(folder,), engine=engine)
    )
    assert {each.rule for each in own(report)} == {f"in_{where}" for where in Where}


@engines
def test_a_string_in_another_place_satisfies_no_condition(folder: Path, engine: str) -> None:
    both = 'strings: $a = "FIRST-HALF" $b = "OTHER-HALF" condition: $a and $b'
    chosen = settings(folder, rule(both, "private"), engine)
    split = text_value(b"OTHER-HALF").with_(*private(b"FIRST-HALF"))
    assert not own(scan_bytes(split.data, settings=chosen))
    joined = carrier().with_(*private(b"FIRST-HALF OTHER-HALF"))
    assert len(own(scan_bytes(joined.data, settings=chosen))) == 2


@engines
def test_a_decoy_elsewhere_does_not_switch_a_rule_off(folder: Path, engine: str) -> None:
    """``not $decoy`` is how rules leave out what is honest; an attacker would plant the decoy."""
    unless = 'strings: $a = "PAYLOAD" $decoy = "HONEST" condition: $a and not $decoy'
    chosen = settings(folder, rule(unless, "private"), engine)
    decoyed = text_value(b"HONEST").with_(*private(b"PAYLOAD"))
    assert len(own(scan_bytes(decoyed.data, settings=chosen))) == 1
    excused = carrier().with_(*private(b"PAYLOAD HONEST"))
    assert not own(scan_bytes(excused.data, settings=chosen))


@engines
def test_a_count_is_of_its_place(folder: Path, engine: str) -> None:
    once = 'strings: $a = "PAYLOAD" condition: #a == 1'
    chosen = settings(folder, rule(once, "private"), engine)
    repeated = text_value(b"PAYLOAD PAYLOAD").with_(*private(b"PAYLOAD"))
    assert len(own(scan_bytes(repeated.data, settings=chosen))) == 1


@engines
def test_a_match_across_two_values_is_no_match(folder: Path, engine: str) -> None:
    """Two values never touch in the file; the gathered buffer must not make them."""
    across = rf"strings: $a = /FIRST\x00{{{len(SEPARATOR)}}}OTHER/ condition: $a"
    chosen = settings(folder, rule(across, "private"), engine)
    two = carrier().with_(*private(b"xxxFIRST"), *private(b"OTHERxxx", number=2)[1:])
    assert not own(scan_bytes(two.data, settings=chosen))
    one = carrier().with_(*private(b"FIRST" + SEPARATOR + b"OTHER"))
    assert len(own(scan_bytes(one.data, settings=chosen))) == 1


@engines
def test_a_match_up_to_the_last_byte_of_a_value_is_a_match(folder: Path, engine: str) -> None:
    body = 'strings: $a = "UNMISTAKABLE" condition: $a'
    file = carrier().with_(*private(b"UNMISTAKABLE"))
    (found,) = own(scan_bytes(file.data, settings=settings(folder, rule(body, "private"), engine)))
    assert found.evidence == b"UNMISTAKABLE"


def test_the_honest_region_of_a_rule_is_left_alone(folder: Path) -> None:
    body = 'strings: $a = "UNMISTAKABLE" condition: $a'
    chosen = settings(folder, rule(body, "file", not_in="document"))
    assert not own(scan_bytes(document(pdf() + b"UNMISTAKABLE").data, settings=chosen))
    outside = document(pdf()).with_(*private(b"UNMISTAKABLE"))
    assert len(own(scan_bytes(outside.data, settings=chosen))) == 1


def test_a_pdf_is_honest_in_a_document_and_nowhere_else() -> None:
    honest = scan_bytes(document(pdf()).data)
    assert not [each for each in honest.findings if each.rule == "pdf"]
    hidden = scan_bytes(document(pdf()).with_(*private(pdf())).data)
    (found,) = (each for each in hidden.findings if each.rule == "pdf")
    assert found.place.region is Region.PRIVATE


# ---------------------------------------------------------------------- limits


@engines
def test_triggers_that_there_is_no_time_for_are_reported(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(rules, "SECONDS_PER_RULE", -1.0)
    decoys = carrier().with_(*private(b"PK\5\6" * 100)).data
    report = scan_bytes(decoys, settings=ScanSettings(engine=engine))
    assert report.verdict is Verdict.INCOMPLETE
    assert any("the rule zip took longer" in reason for reason in report.unexamined)


def test_a_payload_is_found_behind_any_number_of_decoys() -> None:
    decoys = b"PE\0\0\x64\x86" * 20_000
    file = carrier().with_(*private(decoys), *private(tiny_pe(), number=2)[1:])
    report = scan_bytes(file.data)
    assert report.verdict is Verdict.MALICIOUS
    assert report.complete


@engines
def test_matches_that_an_engine_does_not_count_are_reported(folder: Path, engine: str) -> None:
    chosen = settings(folder, 'rule a { strings: $a = "UNMISTAKABLE" condition: $a }', engine)
    data = b"UNMISTAKABLE" * (MATCH_LIMIT + 1)
    report = scan_bytes(data, settings=chosen)
    assert any(str(MATCH_LIMIT) in reason for reason in report.unexamined)
    assert not report.complete
    assert len(own(report)) == FINDINGS_PER_RULE


def test_a_payload_is_listed_once_however_many_triggers_lead_to_it(folder: Path) -> None:
    launcher = tiny_pe()
    body = (
        f"strings: $a = {{ {launcher[:4].hex(' ')} }} $b = {{ 50 45 00 00 }} condition: any of them"
    )
    report = scan_bytes(
        carrier().with_(*private(launcher)).data,
        settings=settings(folder, rule(body, validator="pe")),
    )
    (found,) = own(report)
    assert found.place.length == len(launcher)
    assert found.kind.confidence is Confidence.CONFIRMED


def test_a_validator_that_refuses_leaves_nothing(folder: Path) -> None:
    body = "strings: $a = { 50 45 00 00 64 86 } condition: $a"
    chosen = settings(folder, rule(body, validator="pe"))
    stray = carrier().with_(*private(pack("<4sH", b"PE\0\0", 0x8664) * 3))
    assert not own(scan_bytes(stray.data, settings=chosen))


def test_a_file_that_is_the_payload_makes_the_polyglot_finding(folder: Path) -> None:
    body = "strings: $a = { 50 45 00 00 } condition: $a"
    source = rule(body, validator="pe", polyglot="POLY-OWN", polyglot_severity="critical")
    chosen = settings(folder, source)
    kinds = {
        each.kind.id: each.kind.severity
        for each in scan_bytes(tiny_pe(), settings=chosen).findings
        if each.rule == "own"
    }
    assert kinds == {"POLY-OWN": Severity.CRITICAL}
    inside = carrier().with_(*private(tiny_pe()))
    assert len(own(scan_bytes(inside.data, settings=chosen))) == 1


def test_patient_names_are_text(folder: Path) -> None:
    body = 'strings: $a = "UNMISTAKABLE" condition: $a'
    file = carrier().with_(element(PATIENT_NAME, "PN", b"UNMISTAKABLE^JANE"))
    (found,) = own(scan_bytes(file.data, settings=settings(folder, rule(body, "text"))))
    assert found.masked
    assert found.place.tag_path == tag_text(PATIENT_NAME)
