"""What a run of bytes is: the validators that confirm the triggers of the YARA rules.

A rule names its validator in ``meta.validator``; `VALIDATORS` is the list of those names.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dicomguard.payloads import archives, documents, executables, scripts
from dicomguard.payloads.payload import Data, Payload, Validator

__all__ = ["VALIDATORS", "Data", "Payload", "Validator"]

VALIDATORS: Mapping[str, Validator] = MappingProxyType(
    {
        "batch": scripts.batch,
        "cab": archives.cab,
        "dos_stub": executables.dos_stub,
        "elf": executables.elf,
        "html": scripts.html,
        "jar": archives.jar,
        "java_class": executables.java_class,
        "lnk": executables.lnk,
        "macho": executables.macho,
        "ole": documents.ole,
        "pdf": documents.pdf,
        "pe": executables.pe,
        "php": scripts.php,
        "powershell": scripts.powershell,
        "rar": archives.rar,
        "sevenzip": archives.sevenzip,
        "shebang": scripts.shebang,
        "shell": scripts.shell,
        "windows_script": scripts.windows_script,
        "zip": archives.zip_archive,
    }
)
"""Validators by the name that rules use."""
