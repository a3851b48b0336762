"""The validators that confirm the triggers of the YARA rules, by the names that rules use."""

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
from dicomguard.payloads.payload import Validator

VALIDATORS: Mapping[str, Validator] = MappingProxyType(
    {
        "active_pdf": pdf.active_pdf,
        "batch": scripts.BATCH.find,
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
        "html": scripts.HTML.find,
        "jar": archives.jar,
        "java_class": bytecode.java_class,
        "java_object": serialised.java_object,
        "lnk": executables.lnk,
        "macho": executables.macho,
        "macros": office.macros,
        "model_path": documents.model_path,
        "node": scripts.NODE.find,
        "npy": serialised.npy,
        "ole": office.ole,
        "opaque_pdf": pdf.opaque_pdf,
        "page": markup.PAGE.find,
        "pdf": pdf.pdf,
        "pe": executables.pe,
        "perl": scripts.PERL.find,
        "php": scripts.PHP.find,
        "pickle": pickles.pickle,
        "postscript": documents.postscript,
        "powershell": scripts.POWERSHELL.find,
        "pyc": bytecode.pyc,
        "python": scripts.PYTHON.find,
        "rar": archives.rar,
        "rtf": documents.rtf,
        "sevenzip": archives.sevenzip,
        "shebang": scripts.shebang,
        "shell": scripts.SHELL.find,
        "stylesheet": markup.stylesheet,
        "tar": filesystems.tar,
        "wasm": bytecode.wasm,
        "web_archive": markup.WEB_ARCHIVE.find,
        "windows_script": scripts.WINDOWS_SCRIPT.find,
        "xaml": markup.xaml,
        "xinclude": markup.XINCLUDE.find,
        "xslt": markup.XSLT.find,
        "zip": archives.zip_archive,
    }
)
"""A rule names its validator in ``meta.validator``."""
