"""``--config`` and ``dicomguard config``: what is set, by whom, and whether it makes sense."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from dicomguard import config as configuration
from dicomguard.config import Config, Setting
from dicomguard.errors import DicomguardError
from dicomguard.packs import Trust
from dicomguard.reports.escape import printable
from dicomguard.suppress import load_suppressions

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PATH = "dicomguard.config.path"
"""Where the context keeps the path of the configuration file."""

_SECTIONS = {"check": ("scan", "check"), "watch": ("scan", "watch")}
"""The tables of the file that each command takes its settings from."""


def config_option(group: _Command) -> _Command:
    """``--config``: its settings become the defaults of the commands that have them."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=_read_config,
        expose_value=False,
        is_eager=True,
        envvar="DICOMGUARD_CONFIG",
        metavar="FILE",
        help=f"Configuration file; {configuration.DEFAULT_PATH} if there is one.",
    )(group)


def setting_options(section: type[msgspec.Struct], *but: str) -> Callable[[_Command], _Command]:
    """An option for each setting of a section, except some that the command has otherwise."""

    def decorate(command: _Command) -> _Command:
        for setting in reversed(configuration.settings(section)):
            if setting.name not in but:
                command = _option(setting)(command)
        return command

    return decorate


def reread(context: click.Context) -> dict[str, Any]:
    """The parameters of a running command with the file read anew; flags hold as they were given.

    Raises:
        DicomguardError: The file is wrong.
    """
    root = context.find_root()
    root.default_map = _defaults(root, _loaded(root))
    fresh = context.command.make_context(context.info_name, [], parent=root)
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return fresh.params | given


@click.group("config")
def config_group() -> None:
    """Show and check the configuration.

    What a flag says goes before the environment (DICOMGUARD_WATCH_SETTLE=2), that before the file,
    and that before the default.

    \b
    Examples
      dicomguard config default > dicomguard.toml
      dicomguard config check dicomguard.toml
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself


@config_group.command("show")
@click.pass_context
def show_command(context: click.Context) -> None:
    """Print every setting as TOML, and where it comes from.

    \b
    Examples
      dicomguard config show
      dicomguard --config dicomguard.toml config show
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    root = context.find_root()
    path = root.meta[_PATH]
    click.echo(f"# {printable(str(path)) if path else 'no configuration file'}")
    for section, kind in configuration.sections().items():
        click.echo(f"\n[{section}]")
        for setting in configuration.settings(kind):
            value, source = _effective(root, section, setting)
            click.echo(f"{_toml(setting.name, value):<40}  # {source}")


@config_group.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.pass_context
def check_command(context: click.Context, file: Path | None) -> None:
    """Say whether a configuration file is right, with the rules and suppressions that it names.

    \b
    Examples
      dicomguard config check dicomguard.toml
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    path = file or context.find_root().meta[_PATH]
    if path is None:
        msg = f"there is no configuration file: name one, or write {configuration.DEFAULT_PATH}"
        raise DicomguardError(msg)
    config = configuration.load(path)
    trust = Trust(keys=config.scan.rule_keys, required=config.scan.signed_rules)
    from dicomguard.rules import RulePack  # noqa: PLC0415 - it brings all validators

    pack = RulePack([Path(folder) for folder in config.scan.rules], config.scan.engine, trust)
    if config.scan.suppressions:
        load_suppressions(Path(config.scan.suppressions))
    click.echo(f"{printable(str(path))} is right; {pack.version}")


@config_group.command("default")
def default_command() -> None:
    """Print a configuration file to start from: every setting, what it means, its default.

    \b
    Examples
      dicomguard config default > dicomguard.toml
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    import textwrap  # noqa: PLC0415 - every command loads this module

    for section, kind in configuration.sections().items():
        click.echo(f"[{section}]")
        for setting in configuration.settings(kind):
            click.echo("\n" + textwrap.indent(textwrap.fill(setting.meaning, 78), "# "))
            if setting.choices:
                click.echo(f"# One of: {', '.join(setting.choices)}.")
            value = [] if setting.many and not setting.default else setting.default
            shown = _toml(setting.name, value)
            click.echo(shown if shown.startswith("#") else f"# {shown}")
        click.echo()


@config_group.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the configuration file, for editors.

    \b
    Examples
      dicomguard config schema > dicomguard.schema.json
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    click.echo(configuration.schema(), nl=False)


class _Words(click.ParamType[tuple[str, ...]]):
    """A command line of one argument, taken apart as a shell would, without running one."""

    name = "command"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if not isinstance(value, str):
            return tuple(value)
        import shlex  # noqa: PLC0415 - every command loads this module

        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _option(setting: Setting) -> Callable[[_Command], _Command]:
    flag = f"--{setting.name.replace('_', '-')}"
    attributes: dict[str, Any] = {"help": setting.meaning, "default": setting.default}
    attributes["show_default"] = bool(setting.default)
    if setting.type is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", **attributes)
    if setting.choices:
        attributes["type"] = click.Choice(setting.choices)
    elif setting.minimum is not None:
        attributes["type"] = click.FloatRange(min=setting.minimum)
        attributes["metavar"] = "NUMBER"
    elif setting.command:
        attributes["type"] = _Words()
        attributes["metavar"] = "COMMAND"
    elif setting.many:
        attributes |= {"multiple": True, "metavar": "TEXT", "show_default": True}
    return click.option(flag, **attributes)


def _read_config(
    context: click.Context, _parameter: click.Parameter, value: Path | None
) -> Path | None:
    context.meta[_PATH] = configuration.find(value)
    context.default_map = _defaults(context, _loaded(context))
    return value


def _loaded(root: click.Context) -> Config:
    path = root.meta[_PATH]
    return Config() if path is None else configuration.load(path)


def _defaults(root: click.Context, config: Config) -> dict[str, dict[str, Any]]:
    """What environment and file say, by command and by name of its parameter."""
    tables = msgspec.to_builtins(config) if config != Config() else {}
    defaults: dict[str, dict[str, Any]] = {}
    for name, sections in _SECTIONS.items():
        said = {key: value for each in sections for key, value in tables.get(each, {}).items()}
        variables = _variables(name)
        if said or variables:  # else the command need not even be loaded
            command = _command(root, name)
            defaults[name] = {_parameter(command, key).name: said[key] for key in said}
            for key, text in variables.items():
                parameter = _parameter(command, key)
                many = parameter.multiple
                value = parameter.type.split_envvar_value(text) if many else text
                defaults[name][parameter.name] = value
    return defaults


def _variables(command: str) -> dict[str, str]:
    """What the environment says for a command, by setting.

    Raises:
        DicomguardError: A variable is of no setting.
    """
    prefix = f"DICOMGUARD_{command}_".upper()
    found = {
        name.removeprefix(prefix).lower(): value
        for name, value in os.environ.items()
        if name.startswith(prefix)
    }
    if not found:
        return {}
    known = [
        setting.name
        for section in _SECTIONS[command]
        for setting in configuration.settings(configuration.sections()[section])
    ]
    for line in configuration.unknown(found, known):
        name, _, told = line.partition(" ")
        raise DicomguardError(f"environment: {prefix}{name.upper()} {told}")
    return found


def _parameter(command: click.Command, name: str) -> click.Parameter:
    """The parameter of a command that a setting is for."""
    flag = f"--{name.replace('_', '-')}"
    return next(each for each in command.params if flag in each.opts or each.name == name)


def _effective(root: click.Context, section: str, setting: Setting) -> tuple[Any, str]:
    """The value that a command would have, and who says so."""
    name = "check" if section == "check" else "watch"
    command = _command(root, name)
    fresh = command.make_context(name, ["-"] if name == "check" else [], parent=root)
    parameter = str(_parameter(command, setting.name).name)
    source = fresh.get_parameter_source(parameter)
    told = "default"
    if source is ParameterSource.DEFAULT_MAP:
        variable = f"DICOMGUARD_{name}_{setting.name}".upper()
        told = variable if variable in os.environ else "file"
    return fresh.params[parameter], told


def _command(root: click.Context, name: str) -> click.Command:
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(root, name)
    assert command is not None
    return command


def _toml(name: str, value: Any) -> str:
    import json  # noqa: PLC0415 - every command loads this module

    if value is None:
        return f"# {name} = (not set)"
    if isinstance(value, tuple):
        value = [str(each) for each in value]
    return f"{name} = {json.dumps(value)}"
