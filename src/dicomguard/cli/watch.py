"""``dicomguard watch``: keep a folder free of files that carry what does not belong in them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from dicomguard.cli.config import reread, setting_options
from dicomguard.cli.options import scan_options
from dicomguard.config import ScanConfig, WatchConfig, checked
from dicomguard.errors import DicomguardError
from dicomguard.watch.deliver import Delivery
from dicomguard.watch.folders import Folders
from dicomguard.watch.journal import Journal
from dicomguard.watch.logs import log_to_standard_error
from dicomguard.watch.quarantine import Quarantine
from dicomguard.watch.scanner import Scanner, remove_old_copies
from dicomguard.watch.service import WatchService


@click.command("watch")
@click.argument("ingest", required=False, type=click.Path())
@setting_options(WatchConfig, "ingest")
@scan_options
@click.pass_context
def watch_command(context: click.Context, /, **parameters: Any) -> None:
    """Watch INGEST and everything below it until SIGTERM or Ctrl-C.

    Files that are there already, and all that come, are examined. Suspicious and malicious ones
    go to the quarantine, where `dicomguard quarantine` lists and restores them. One line for each
    file goes to standard error. SIGHUP reads the configuration and the rules again.

    \b
    Examples
      dicomguard watch /data/incoming --quarantine /data/vault
      dicomguard watch /data/incoming --quarantine /data/vault --deliver /data/archive
      dicomguard --config dicomguard.toml watch
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    config, scan = _configs(parameters)
    log_to_standard_error(config.log)
    folders = _folders(config)

    def reload() -> tuple[WatchConfig, Scanner]:
        again, scan_again = _configs(reread(context))
        addresses = (config.metrics, config.syslog)
        if _folders(again) != folders or (again.metrics, again.syslog) != addresses:
            raise DicomguardError(
                "folders and the addresses of metrics and syslog cannot change while the daemon "
                "runs: restart it"
            )
        log_to_standard_error(again.log)
        return again, Scanner(scan_again, folders.state)

    with ExitStack() as stack:
        quarantine = Quarantine(folders.vault)
        stack.callback(quarantine.close)
        journal = stack.enter_context(Journal(folders.state))
        remove_old_copies(folders.state)
        delivery = None
        if folders.deliver is not None:
            delivery = stack.enter_context(Delivery(str(folders.deliver)))
        service = WatchService(
            str(folders.ingest),
            config,
            scanner=Scanner(scan, folders.state),
            quarantine=quarantine,
            journal=journal,
            delivery=delivery,
            reload=reload,
        )
        service.run()


def _configs(parameters: dict[str, Any]) -> tuple[WatchConfig, ScanConfig]:
    """The settings that the parameters say."""
    suppressions = parameters["suppression_file"]
    parameters = parameters | {
        "rules": [str(path) for path in parameters["rule_folders"]],
        "suppressions": str(suppressions) if suppressions else None,
    }

    def of(kind: type[Any]) -> Any:
        return checked(
            {name: parameters[name] for name in kind.__struct_fields__}, kind, where="options"
        )

    return of(WatchConfig), of(ScanConfig)


def _folders(config: WatchConfig) -> Folders:
    """The folders of the daemon.

    Raises:
        DicomguardError: One is missing, or lies where it must not.
    """
    if config.ingest is None or config.quarantine is None:
        missing = "ingest" if config.ingest is None else "quarantine"
        raise DicomguardError(
            f"which folder is the {missing} folder? Name it on the command line, or as "
            f"watch.{missing} in the configuration file"
        )
    if config.on_incomplete == "deliver" and config.deliver is None:
        raise DicomguardError("on_incomplete = deliver needs a deliver folder")
    return Folders.resolve(config.ingest, config.quarantine, config.deliver, config.state)
