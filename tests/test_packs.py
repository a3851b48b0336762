"""Packs of rules: what vouches for them, rules of third parties, and the tools for writing them."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from dicomguard import ScanSettings, Severity, Verdict, scan_bytes, selftest
from dicomguard.engine import ENGINES, EXTERNALS
from dicomguard.errors import DicomguardError
from dicomguard.gather import Where
from dicomguard.packs import Example, Trust, listing, read_pack
from dicomguard.rules import _NEEDED, _OPTIONAL, RulePack, compiled_rules, shipped_rules
from dicomguard.version import VERSION
from fixtures.build import all_fixtures
from watching import CLEAN, EXECUTABLE, Daemon

engines = pytest.mark.parametrize("engine", list(ENGINES))
RULE = 'rule marked { strings: $a = "MARKED BY THE TEST" condition: $a }\n'
HEAD = 'name = "acme"\nversion = "1.2"\nlicence = "MIT"\n'


def rules(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicomguard", "rules", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def write(folder: Path, text: str = "", *, listed: bool = False, source: str = RULE) -> Path:
    """A pack with one rule."""
    folder.mkdir(exist_ok=True)
    (folder / "a.yar").write_text(source)
    if listed:
        files = "".join(f'"{name}" = "{sha256}"\n' for name, sha256 in listing(folder).items())
        text += f"[files]\n{files}"
    (folder / "pack.toml").write_text(HEAD + text)
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return write(tmp_path / "acme", listed=True)


@pytest.fixture
def key() -> ECC.EccKey:
    return ECC.generate(curve="Ed25519")


def public(key: ECC.EccKey) -> str:
    return base64.b64encode(key.public_key().export_key(format="raw")).decode()


def sign(pack: Path, key: ECC.EccKey) -> None:
    signature = eddsa.new(key, "rfc8032").sign((pack / "pack.toml").read_bytes())
    (pack / "pack.toml.sig").write_text(base64.b64encode(signature).decode() + "\n")


# ---------------------------------------------------------------------- what vouches for a pack


def test_the_shipped_pack_is_of_this_version():
    manifest = tomllib.loads((shipped_rules() / "pack.toml").read_text())
    assert manifest["version"] == manifest["dicomguard"] == VERSION


def test_a_pack_says_what_it_is(pack):
    read = read_pack(pack, Trust())
    assert read.manifest is not None
    assert (read.manifest.name, read.manifest.version, read.standing) == (
        "acme",
        "1.2",
        "unsigned",
    )
    said = rules("list", "--rules", pack).stdout
    assert f"acme 1.2 (MIT) in {pack}: 1 rules, unsigned" in said
    assert "marked" in said


def test_a_rule_file_that_is_not_the_listed_one_stops_everything(pack):
    (pack / "a.yar").write_text(RULE.replace("MARKED", "CHANGED"))
    with pytest.raises(DicomguardError, match=r"a.yar is not the file that pack.toml lists"):
        RulePack((pack,))


def test_a_rule_file_that_is_missing_or_not_listed_stops_everything(pack):
    (pack / "b.yar").write_text(RULE)
    with pytest.raises(DicomguardError, match=r"b.yar is not listed"):
        RulePack((pack,))
    (pack / "a.yar").unlink()
    (pack / "b.yar").rename(pack / "sub.yar")
    with pytest.raises(DicomguardError, match=r"a.yar is listed in pack.toml but not there"):
        RulePack((pack,))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('dicomguard = "99.0"', "needs dicomguard 99.0, this is"),
        ('dicomguard = "soon"', "dicomguard"),
        ('colour = "red"', "colour"),
        ("name = ", "pack.toml"),
        ('[files]\n"a.yar" = "abc"', "files"),
    ],
)
def test_a_wrong_manifest_is_an_error_that_says_what(tmp_path, text, said):
    with pytest.raises(DicomguardError, match=said):
        RulePack((write(tmp_path / "acme", text),))


def test_a_signature_of_a_trusted_key_is_named(pack, key):
    sign(pack, key)
    other = ECC.generate(curve="Ed25519")
    trust = Trust(keys=(public(other), public(key)), required=True)
    assert read_pack(pack, trust).standing == f"signed by {public(key)}"
    assert read_pack(pack, Trust()).standing == "signed, but there is no key to verify it with"


def test_what_is_not_signed_by_a_trusted_key_is_refused(pack, key):
    sign(pack, ECC.generate(curve="Ed25519"))
    with pytest.raises(DicomguardError, match=r"not a signature of pack.toml by a trusted key"):
        RulePack((pack,), trust=Trust(keys=(public(key),)))


def test_a_manifest_changed_after_it_was_signed_is_refused(pack, key):
    sign(pack, key)
    (pack / "a.yar").write_text(RULE.replace("MARKED", "CHANGED"))
    write(pack, source=RULE.replace("MARKED", "CHANGED"), listed=True)
    with pytest.raises(DicomguardError, match="not a signature"):
        RulePack((pack,), trust=Trust(keys=(public(key),)))


def test_a_signature_over_no_files_vouches_for_nothing(tmp_path, key):
    pack = write(tmp_path / "acme")
    sign(pack, key)
    with pytest.raises(DicomguardError, match="lists no files"):
        RulePack((pack,), trust=Trust(keys=(public(key),)))


def test_unsigned_packs_are_refused_where_signed_ones_are_wanted(pack, key):
    with pytest.raises(DicomguardError, match="not signed"):
        RulePack((pack,), trust=Trust(keys=(public(key),), required=True))
    sign(pack, key)
    with pytest.raises(DicomguardError, match="no key to verify"):
        RulePack((pack,), trust=Trust(required=True))
    with pytest.raises(DicomguardError, match="32 bytes in Base64"):
        RulePack((pack,), trust=Trust(keys=("AAAA",)))


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_the_commands_of_the_guide_sign_a_pack(pack, tmp_path):
    guide = (Path(__file__).parents[1] / "docs" / "writing-rules.md").read_text()
    (block,) = [each for each in guide.split("```sh\n")[1:] if "openssl genpkey" in each]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.split("```")[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    key = done.stdout.strip()
    assert read_pack(pack, Trust(keys=(key,))).standing == f"signed by {key}"


def test_the_daemon_takes_only_packs_that_are_vouched_for(ingest, vault, pack, key):
    sign(pack, key)
    options = ("--rules", pack, "--signed-rules", "--rule-keys", public(key))
    (ingest / "a").write_bytes(CLEAN + b"MARKED BY THE TEST")
    with Daemon(ingest, vault, *options) as daemon:
        daemon.await_line("malicious quarantined", "YARA")


# ---------------------------------------------------------------------- rules of third parties

FORGE = """/*
 * YARA-Forge like: many rules, prefixed by their source, each with its metadata
 */
import "pe"
import "elf"
import "math"
import "hash"

private rule SOURCE_PRIVATE_Helper : HIGHVOL { condition: filesize > 10 }

rule SOURCE_Pe_Sections : FILE
{
    meta:
        description = "A program with a section"
        author = "A. N. Other"
        id = "2b1f2d3e-0000-5000-8000-000000000000"
        date = "2024-01-01"
        source_url = "https://example.org/rules.yar#L1-L9"
        license_url = "N/A"
        logic_hash = "00"
        score = 75
        quality = 85
        tags = "FILE"
        os = "windows"
    condition:
        SOURCE_PRIVATE_Helper and pe.number_of_sections > 0 and uint16(0) == 0x5A4D
}

rule SOURCE_Elf_Type
{
    meta:
        score = 60
    condition:
        elf.type == elf.ET_EXEC or elf.type == elf.ET_DYN
}

rule SOURCE_Low_Score
{
    meta:
        score = 40
    strings:
        $x = "MARKED BY THE TEST"
    condition:
        $x and math.entropy(0, filesize) > 0.1
}

rule SOURCE_Named
{
    meta:
        score = 80
    condition:
        filename == "evil.dcm" and extension == ".dcm" and filepath == "/in"
        and filetype == "" and owner == ""
}

rule SOURCE_Hash
{
    condition:
        hash.md5(0, filesize) == "d41d8cd98f00b204e9800998ecf8427e"
}
"""


@pytest.fixture
def forge(tmp_path: Path) -> Path:
    folder = tmp_path / "forge"
    folder.mkdir()
    (folder / "core.yar").write_text(FORGE)
    return folder


@engines
def test_rules_in_the_style_of_yara_forge_load_unchanged(forge, engine):
    settings = ScanSettings(rule_folders=(forge,), engine=engine)
    report = scan_bytes(EXECUTABLE, "x.exe", settings)
    found = {each.rule: each.kind.severity for each in report.findings if each.kind.id == "YARA"}
    assert found == {"SOURCE_Pe_Sections": Severity.HIGH}
    elf = next(each for each in all_fixtures().values() if each.data[:4] == b"\x7fELF")
    report = scan_bytes(elf.data, "x", settings)
    found = {each.rule: each.kind.severity for each in report.findings if each.kind.id == "YARA"}
    assert found == {"SOURCE_Elf_Type": Severity.MEDIUM}


@engines
def test_rules_may_ask_for_the_name_of_the_file(forge, engine):
    settings = ScanSettings(rule_folders=(forge,), engine=engine)
    assert scan_bytes(CLEAN, "/in/good.dcm", settings).verdict is Verdict.CLEAN
    assert scan_bytes(CLEAN, "/in/evil.dcm", settings).verdict is Verdict.MALICIOUS
    assert scan_bytes(CLEAN, "/in/good.dcm", settings).verdict is Verdict.CLEAN


@engines
def test_a_low_score_does_not_make_a_verdict(forge, engine):
    settings = ScanSettings(rule_folders=(forge,), engine=engine)
    report = scan_bytes(CLEAN + b"MARKED BY THE TEST", "a", settings)
    assert "SOURCE_Low_Score" in {each.rule for each in report.findings}
    assert report.verdict is Verdict.CLEAN


@engines
def test_rules_of_one_name_in_two_files_do_not_clash(forge, engine):
    (forge / "again.yar").write_text(FORGE)
    report = scan_bytes(EXECUTABLE, "x.exe", ScanSettings(rule_folders=(forge,), engine=engine))
    assert [each.rule for each in report.findings if each.kind.id == "YARA"] == [
        "SOURCE_Pe_Sections"
    ] * 2


def test_a_rule_that_does_not_compile_is_named_with_its_file(forge):
    (forge / "bad.yar").write_text("rule broken { condition: undeclared }")
    run = rules("lint", forge)
    assert run.returncode == 1
    assert f"{forge}/bad.yar" in run.stdout
    assert "core.yar" not in run.stdout


# ---------------------------------------------------------------------- the tools


def test_lint_says_all_problems_and_warnings(tmp_path):
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "a.yar").write_text("rule broken { condition: undeclared }")
    (folder / "b.yar").write_text("rule slow { strings: $a = /x.*y/ condition: $a }")
    (folder / "c.yar").write_text("rule also { condition: nor_this }")
    run = rules("lint", folder)
    assert run.returncode == 1
    named = {Path(line.split(".yar")[0].split()[-1]).name for line in run.stdout.splitlines()}
    assert named == {"a", "b", "c"}
    assert "slow" in run.stdout or "consider using" in run.stdout


def test_show_and_list_name_every_rule():
    listed = rules("list").stdout
    for name in RulePack().rules:
        assert name.name in listed
    assert "confirmed by" in rules("show", "pe").stdout
    wrong = rules("show", "nothing")
    assert wrong.returncode == 2
    assert "there is no rule nothing" in wrong.stderr


def test_a_new_rule_passes_its_tests_until_it_is_broken(tmp_path):
    folder = tmp_path / "own"
    for name in ("first", "second_one"):
        assert rules("new", name, "--to", folder).returncode == 0
    assert rules("lint", folder).returncode == 0
    passed = rules("test", folder)
    assert passed.returncode == 0
    assert passed.stdout.count("passed") == 4
    source = (folder / "first.yar").read_text()
    (folder / "first.yar").write_text(source.replace("replace me by", "something other than"))
    failed = rules("test", folder)
    assert failed.returncode == 1
    assert "first did not fire" in failed.stdout
    again = rules("new", "first", "--to", folder)
    assert again.returncode == 2
    assert "File exists" in again.stderr
    assert rules("new", "1st", "--to", folder).returncode == 2


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ('file = "/etc/passwd"', "not in the pack"),
        ('file = "../x"', "not in the pack"),
        ('file = "none"', "No such file"),
        ('hex = "zz"', "non-hexadecimal"),
        ("", "name one of"),
        ('text = "a"\nhex = "00"', "name one of"),
        ('text = "a"\nmust_fire = ["nobody"]', "no rule nobody"),
    ],
)
def test_a_wrong_example_is_an_error_that_says_what(tmp_path, test, said):
    folder = write(tmp_path / "acme", f'[[tests]]\nname = "x"\n{test}\n')
    run = rules("test", folder)
    assert run.returncode == 2
    assert said in run.stderr


def test_examples_may_be_files_and_must_not_fire_by_chance(tmp_path):
    folder = write(
        tmp_path / "acme",
        '[[tests]]\nname = "in a file"\nfile = "a.bin"\nmust_fire = ["marked"]\n'
        '[[tests]]\nname = "in text"\ntext = "MARKED BY THE TEST"\ninside = "text"\n'
        'must_fire = ["marked"]\n'
        '[[tests]]\nname = "unexpected"\nhex = "4d41524b4544204259205448452054455354"\n',
    )
    (folder / "a.bin").write_bytes(b"\0MARKED BY THE TEST\0")
    run = rules("test", folder)
    assert run.returncode == 1
    assert run.stdout.splitlines() == [
        "passed  in a file",
        "passed  in text",
        "FAILED  unexpected",
        "        marked fired",
    ]


def test_bench_names_the_slow_rule(tmp_path):
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "a.yar").write_text(
        RULE
        + "private rule needed { condition: filesize > 0 }\n"
        + "rule slow { strings: $a = /M[A-Z]{1,60}X/ condition: needed and $a }\n"
    )
    (tmp_path / "sample").write_bytes(b"MARK" * 250_000)
    run = rules("bench", "--rules", folder, tmp_path / "sample")
    assert run.returncode == 1, run.stderr
    first, second, *_ = run.stdout.splitlines()
    assert first.startswith("!")
    assert "slow  a.yar" in first
    assert "marked  a.yar" in second


def test_hash_lists_what_a_manifest_needs(tmp_path):
    folder = write(tmp_path / "acme")
    with (folder / "pack.toml").open("a") as manifest:
        manifest.write(rules("hash", folder).stdout)
    assert read_pack(folder, Trust()).manifest.files == listing(folder)
    assert rules("hash", tmp_path / "acme" / "none").returncode == 2


# ---------------------------------------------------------------------- the guide

GUIDE = Path(__file__).parents[1] / "docs" / "writing-rules.md"


def test_the_worked_example_of_the_guide_works(tmp_path):
    text = GUIDE.read_text()

    def block(language: str) -> str:
        return text.split(f"```{language}\n")[1].split("```")[0]

    assert "dicomguard rules new acme_updater --to acme\n" in text
    folder = tmp_path / "acme"
    assert rules("new", "acme_updater", "--to", folder).returncode == 0
    (folder / "acme_updater.yar").write_text(block("yara"))
    (folder / "pack.toml").write_text(block("toml"))
    assert rules("lint", folder).stdout == "nothing to complain about\n"
    tested = rules("test", folder)
    assert (tested.returncode, tested.stdout.count("passed")) == (0, 2), tested.stdout
    timed = rules("bench", "--rules", folder)
    assert "acme_updater" in timed.stdout
    found = scan_bytes(
        selftest.in_private_element(b"ACMEUPD1 server=a"), "", ScanSettings(rule_folders=(folder,))
    )
    assert "OWN-ACME-UPDATER" in {each.kind.id for each in found.findings}


def test_the_guide_names_everything_a_rule_may_declare():
    text = GUIDE.read_text()
    in_a_test = set(Example.__struct_fields__) - {"name"}
    for key in (*_NEEDED, *_OPTIONAL, *Where, *EXTERNALS, *in_a_test):
        assert f"`{key}`" in text, key


@pytest.mark.parametrize("engine", list(ENGINES))
def test_shipped_rules_pass_the_lint(engine: str) -> None:
    """They are not held to it whenever they are loaded."""
    for path in shipped_rules().glob("*.yar"):
        rules, _ = compiled_rules(engine, {path.name: path.read_text()})
        assert rules


def test_a_file_named_like_a_shipped_one_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scripts.yar").write_text('rule mine { strings: $a = "abcdef" condition: $a }')
    monkeypatch.chdir(tmp_path)
    both = RulePack([Path()])
    assert len(both.rules) == len(RulePack().rules) + 1
    assert {each.name for each in both.rules} > {each.name for each in RulePack().rules}
