"""What a run of bytes is: the validators that confirm the triggers of the YARA rules.

A rule names its validator in ``meta.validator``; `VALIDATORS` is the list of those names.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dicomguard.payloads import (
    archives,
    bytecode,
    documents,
    executables,
    filesystems,
    markup,
    office,
    pdf,
    pickles,
    scripts,
    serialised,
)
from dicomguard.payloads.payload import Data, Payload, Validator

__all__ = ["VALIDATORS", "Data", "Payload", "Validator"]

VALIDATORS: Mapping[str, Validator] = MappingProxyType(
    {
        "active_pdf": pdf.active_pdf,
        "batch": scripts.batch,
        "cab": archives.cab,
        "chm": documents.chm,
        "clinical_document": markup.clinical_document,
        "dex": bytecode.dex,
        "disk_image": filesystems.disk_image,
        "dos_stub": executables.dos_stub,
        "dotnet_object": serialised.dotnet_object,
        "elf": executables.elf,
        "entity_bomb": markup.entity_bomb,
        "external_entity": markup.external_entity,
        "html": scripts.html,
        "jar": archives.jar,
        "java_class": bytecode.java_class,
        "java_object": serialised.java_object,
        "lnk": executables.lnk,
        "macho": executables.macho,
        "macros": office.macros,
        "model_path": documents.model_path,
        "node": scripts.node,
        "npy": serialised.npy,
        "ole": office.ole,
        "opaque_pdf": pdf.opaque_pdf,
        "page": markup.page,
        "pdf": pdf.pdf,
        "pe": executables.pe,
        "perl": scripts.perl,
        "php": scripts.php,
        "pickle": pickles.pickle,
        "postscript": documents.postscript,
        "powershell": scripts.powershell,
        "pyc": bytecode.pyc,
        "python": scripts.python,
        "rar": archives.rar,
        "rtf": documents.rtf,
        "sevenzip": archives.sevenzip,
        "shebang": scripts.shebang,
        "shell": scripts.shell,
        "stylesheet": markup.stylesheet,
        "tar": filesystems.tar,
        "wasm": bytecode.wasm,
        "web_archive": markup.web_archive,
        "windows_script": scripts.windows_script,
        "xaml": markup.xaml,
        "xinclude": markup.xinclude,
        "xslt": markup.xslt,
        "zip": archives.zip_archive,
    }
)
"""Validators by the name that rules use."""
