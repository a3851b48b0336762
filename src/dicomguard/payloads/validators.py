"""The validators that confirm the triggers of the YARA rules, by the names that rules use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from operator import attrgetter
from types import MappingProxyType

from dicomguard.payloads.payload import Data, Payload, Validator


class _Late:
    """A validator that is loaded when it is first asked: most files ask few, and honest ones none.

    Args:
        home: Its module here, and its name in there.
    """

    def __init__(self, home: str) -> None:
        self._home = home

    def __call__(self, data: Data, hit: int, low: int, high: int) -> Payload | None:
        return self._loaded(data, hit, low, high)

    @property
    def __name__(self) -> str:
        return self._loaded.__name__

    @cached_property
    def _loaded(self) -> Validator:
        module, _, name = self._home.partition(".")
        validator: Validator = attrgetter(name)(import_module(f"dicomguard.payloads.{module}"))
        return validator


VALIDATORS: Mapping[str, Validator] = MappingProxyType(
    {
        name: _Late(home)
        for name, home in (
            ("active_pdf", "pdf.active_pdf"),
            ("batch", "scripts.BATCH.find"),
            ("cab", "archives.cab"),
            ("chm", "documents.chm"),
            ("clinical_document", "markup.clinical_document"),
            ("dex", "bytecode.dex"),
            ("disk_image", "filesystems.disk_image"),
            ("dos_stub", "executables.dos_stub"),
            ("dotnet_object", "serialised.dotnet_object"),
            ("elf", "executables.elf"),
            ("entity_bomb", "markup.entity_bomb"),
            ("external_entity", "markup.external_entity"),
            ("html", "scripts.HTML.find"),
            ("jar", "archives.jar"),
            ("java_class", "bytecode.java_class"),
            ("java_object", "serialised.java_object"),
            ("lnk", "executables.lnk"),
            ("macho", "executables.macho"),
            ("macros", "office.macros"),
            ("model_path", "documents.model_path"),
            ("node", "scripts.NODE.find"),
            ("npy", "serialised.npy"),
            ("ole", "office.ole"),
            ("opaque_pdf", "pdf.opaque_pdf"),
            ("page", "markup.PAGE.find"),
            ("pdf", "pdf.pdf"),
            ("pe", "executables.pe"),
            ("perl", "scripts.PERL.find"),
            ("php", "scripts.PHP.find"),
            ("pickle", "pickles.pickle"),
            ("postscript", "documents.postscript"),
            ("powershell", "scripts.POWERSHELL.find"),
            ("pyc", "bytecode.pyc"),
            ("python", "scripts.PYTHON.find"),
            ("rar", "archives.rar"),
            ("rtf", "documents.rtf"),
            ("sevenzip", "archives.sevenzip"),
            ("shebang", "scripts.shebang"),
            ("shell", "scripts.SHELL.find"),
            ("stylesheet", "markup.stylesheet"),
            ("tar", "filesystems.tar"),
            ("wasm", "bytecode.wasm"),
            ("web_archive", "markup.WEB_ARCHIVE.find"),
            ("windows_script", "scripts.WINDOWS_SCRIPT.find"),
            ("xaml", "markup.xaml"),
            ("xinclude", "markup.XINCLUDE.find"),
            ("xslt", "markup.XSLT.find"),
            ("zip", "archives.zip_archive"),
        )
    }
)
"""A rule names its validator in ``meta.validator``."""
