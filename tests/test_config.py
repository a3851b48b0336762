"""The configuration file: types, precedence, messages, schema."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from dicomguard import config as configuration
from dicomguard.cli.commands import cli
from dicomguard.config import CheckConfig, Config, ScanConfig, WatchConfig, load
from dicomguard.engine import ENGINES
from dicomguard.errors import DicomguardError

DOCS = Path(__file__).parents[1] / "docs"
CLEAN = Path(__file__).parent / "fixtures" / "clean" / "ct.dcm"


def run(*arguments, **env):
    command = [sys.executable, "-m", "dicomguard", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env=os.environ | env
    )


@pytest.fixture
def file(tmp_path):
    return tmp_path / "dicomguard.toml"


def test_an_empty_file_is_all_defaults(file):
    file.write_text("")
    assert load(file) == Config()


def test_every_setting_can_be_said(file):
    file.write_text(
        """
        [scan]
        rules = ["/etc/rules"]
        engine = "yara-x"
        strict = true
        workers = 3
        suppressions = "/etc/suppressions.toml"
        rule_keys = ["AAAA"]
        signed_rules = true
        [check]
        format = "jsonl"
        show_values = true
        [watch]
        ingest = "/in"
        quarantine = "/vault"
        deliver = "/out"
        state = "/state"
        settle = 2
        reconcile = 5.5
        poll = true
        unfinished = []
        largest = 2
        on_incomplete = "deliver"
        hold_study = 60
        on_quarantine = ["/bin/notify", "--all"]
        on_quarantine_timeout = 1
        log = "json"
        log_paths = false
        syslog = "/dev/log"
        metrics = "9100"
        journal_days = 7
        """
    )
    config = load(file)
    assert config.scan == ScanConfig(
        rules=("/etc/rules",),
        engine="yara-x",
        strict=True,
        workers=3,
        suppressions="/etc/suppressions.toml",
        rule_keys=("AAAA",),
        signed_rules=True,
    )
    assert config.check == CheckConfig(format="jsonl", show_values=True)
    assert config.watch.settle == 2.0
    said = tomllib.loads(file.read_text())
    for name, section in configuration.sections().items():
        assert said[name].keys() == set(section.__struct_fields__), "a setting is not tested"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[watch]\nsettel = 1", "watch.settel is unknown; did you mean settle?"),
        ("[watch]\nxyzzy = 1", "watch.xyzzy is unknown; known are ingest, quarantine"),
        ("[wacth]\nsettle = 1", "wacth is unknown; did you mean watch?"),
        ("[scan]\nworker = 2\nstrikt = true", "scan.strikt is unknown; did you mean strict?"),
        ("[watch]\nsettle = 'long'", "watch.settle: Expected `float`, got `str`"),
        ("[watch]\nsettle = 0", "watch.settle: Expected `float` >= 0.1"),
        ("[watch]\npoll = 1", "watch.poll: Expected `bool`"),
        ("[watch]\nunfinished = '*.x'", "watch.unfinished: Expected `array`"),
        ("[watch]\non_quarantine = ['a', 1]", "watch.on_quarantine[1]: Expected `str`"),
        (
            "[watch]\nlog = 'xml'",
            "watch.log: Invalid enum value 'xml'; choose from auto, json, text",
        ),
        ("[scan]\nworkers = 0", "scan.workers: Expected `int` >= 1"),
        ("watch = 1", "watch: Expected `object`"),
        ("[watch", "cannot read"),
        ("\xff", "cannot read"),
        ("a = " + "[" * 5000, "cannot read"),
        ("#" * (1 << 20) + "#", "larger than"),
    ],
)
def test_what_is_wrong_is_said_and_where(file, text, message):
    file.write_text(text, encoding="latin-1")
    with pytest.raises(DicomguardError) as error:
        load(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)
    result = run("config", "check", file)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there_is_said(tmp_path):
    for arguments in (
        ["config", "check", tmp_path / "missing"],
        ["--config", tmp_path / "missing", "check", CLEAN],
        ["--config", tmp_path, "config", "show"],
    ):
        result = run(*arguments)
        assert result.returncode == 2
        assert result.stderr.startswith(("error: ", "Usage:"))


def test_nothing_is_read_from_the_working_folder(tmp_path):
    (tmp_path / "dicomguard.toml").write_text("[broken")
    command = [sys.executable, "-m", "dicomguard", "check", CLEAN]
    result = subprocess.run(command, capture_output=True, cwd=tmp_path, check=False)
    assert result.returncode == 0


# Precedence


def shown(text):
    """Settings as `config show` prints them, with where each comes from."""
    settings, section = {}, ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "  # " in line:
            setting, _, source = line.partition("  # ")
            name, _, value = setting.removeprefix("# ").partition(" = ")
            settings[f"{section}.{name}"] = (value.strip(), source)
    return settings


def test_a_flag_goes_before_the_environment_that_before_the_file_that_before_the_default(file):
    file.write_text("[check]\nformat = 'jsonl'\n[scan]\nstrict = true\n[watch]\nsettle = 7\n")

    def is_json(*arguments, **env):
        result = run(*arguments, CLEAN, **env)
        assert result.returncode == 0, result.stderr
        return result.stdout.startswith("{")

    assert not is_json("check")
    assert is_json("--config", file, "check")
    assert is_json("check", DICOMGUARD_CONFIG=str(file))
    assert not is_json("--config", file, "check", DICOMGUARD_CHECK_FORMAT="text")
    assert is_json("check", "--format", "jsonl", DICOMGUARD_CHECK_FORMAT="text")

    env = {"DICOMGUARD_WATCH_RECONCILE": "9", "DICOMGUARD_WATCH_ON_QUARANTINE": "notify 'a b'"}
    settings = shown(run("--config", file, "config", "show", **env).stdout)
    assert settings["watch.settle"] == ("7.0", "file")
    assert settings["scan.strict"] == ("true", "file")
    assert settings["check.format"] == ('"jsonl"', "file")
    assert settings["watch.reconcile"] == ("9.0", "DICOMGUARD_WATCH_RECONCILE")
    assert settings["watch.on_quarantine"] == (
        '["notify", "a b"]',
        "DICOMGUARD_WATCH_ON_QUARANTINE",
    )
    assert settings["watch.poll"] == ("false", "default")
    assert settings["watch.metrics"] == ("(not set)", "default")
    names = {
        f"{section}.{setting.name}"
        for section, kind in configuration.sections().items()
        for setting in configuration.settings(kind)
    }
    assert settings.keys() == names


def test_what_is_shown_is_a_file_that_says_the_same(file):
    file.write_text('[watch]\nsettle = 7.0\nunfinished = ["*.x", "\\"odd\\" é"]\n')
    text = run("--config", file, "config", "show").stdout
    again = file.with_name("again.toml")
    # What comes from the machine, not from the file, is left out.
    again.write_text("\n".join(line for line in text.splitlines() if "workers" not in line))
    assert load(again) == load(file)


def test_check_says_whether_the_rules_compile(file, tmp_path):
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "own.yar").write_text("rule own { condition: false }")
    file.write_text(f"[scan]\nrules = ['{rules}']\n")
    assert "is right" in run("config", "check", file).stdout
    (rules / "own.yar").write_text("rule own {")
    result = run("config", "check", file)
    assert result.returncode == 2
    assert "own.yar" in result.stderr


def test_a_variable_that_is_none_is_said():
    result = run("config", "show", DICOMGUARD_WATCH_SETTEL="1")
    assert result.returncode == 2
    assert "DICOMGUARD_WATCH_SETTEL is unknown; did you mean settle?" in result.stderr
    assert run("config", "show", DICOMGUARD_HONEST_CORPUS="/x").returncode == 0


def test_folders_of_rules_in_the_environment_are_separated_by_colons():
    settings = shown(run("config", "show", DICOMGUARD_WATCH_RULES="/a b:/c").stdout)
    assert settings["scan.rules"] == ('["/a b", "/c"]', "DICOMGUARD_WATCH_RULES")
    settings = shown(run("config", "show", DICOMGUARD_WATCH_UNFINISHED="*.a *.b").stdout)
    assert settings["watch.unfinished"] == ('["*.a", "*.b"]', "DICOMGUARD_WATCH_UNFINISHED")


# One declaration for all


@pytest.mark.parametrize("command", ["check", "watch"])
def test_every_setting_is_an_option_with_the_same_choices(command):
    parameters = cli.commands[command].params
    for section in ("scan", command):
        for setting in configuration.settings(configuration.sections()[section]):
            flag = f"--{setting.name.replace('_', '-')}"
            (parameter,) = (
                each for each in parameters if flag in each.opts or each.name == setting.name
            )
            if isinstance(parameter.type, click.Choice):
                assert sorted(parameter.type.choices) == sorted(setting.choices)
            if setting.choices:
                assert isinstance(parameter.type, click.Choice)


def test_every_option_of_the_daemon_is_a_setting():
    settings = set(WatchConfig.__struct_fields__) | set(ScanConfig.__struct_fields__)
    flags = {
        option.removeprefix("--").replace("-", "_")
        for parameter in cli.commands["watch"].params
        for option in parameter.opts
        if not isinstance(parameter, click.Argument)
    }
    assert flags - {"help", "h"} <= settings


def test_the_engines_are_those_that_there_are():
    (engine,) = (each for each in configuration.settings(ScanConfig) if each.name == "engine")
    assert set(engine.choices) == set(ENGINES)


def test_every_setting_says_what_it_means():
    for section in configuration.sections().values():
        for setting in configuration.settings(section):
            assert setting.meaning.endswith(".")


def test_the_default_file_is_one_and_changes_nothing(file):
    file.write_text(run("config", "default").stdout)
    assert load(file) == Config()


def test_the_documentation_is_in_step():
    remedy = "run `dicomguard config schema` and `dicomguard config default` and put it there"
    assert (DOCS / "dicomguard.schema.json").read_text() == configuration.schema(), remedy
    text = (DOCS / "configuration.md").read_text()
    block = text.split("```toml\n")[-1].split("```")[0]
    assert block == run("config", "default").stdout.rstrip("\n") + "\n", remedy


def test_the_schema_says_what_the_types_say():
    schema = json.loads(configuration.schema())
    watch = schema["$defs"]["WatchConfig"]
    assert watch["additionalProperties"] is False
    assert watch["properties"]["settle"]["minimum"] == 0.1
    assert watch["properties"].keys() == set(WatchConfig.__struct_fields__)
