"""The fixtures are what they say: every polyglot is proven to be both of its things."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import platform
import shutil
import subprocess
import sys
import warnings
import zipfile
import zlib
from hashlib import sha1
from pathlib import Path
from struct import unpack_from

import pefile  # type: ignore[import-untyped]
import pydicom
import pypdf
import pytest
from pydicom.data import get_testdata_file

from dicomguard.model import Region, Verdict
from fixtures import build, polyglots
from fixtures.build import all_fixtures
from fixtures.carriers import CARRIER, carrier
from fixtures.dicomfile import PIXEL_DATA, PRIVATE_TAG, TRAILING_PADDING, bundled
from fixtures.executables import (
    DOS_STUB_TEXT,
    EXIT_STATUS,
    elf,
    java_class,
    launcher,
    tiny_pe,
)
from fixtures.fixture import Fixture
from fixtures.formats import JAR_MEMBERS, PLAIN_MEMBERS, ZIPAPP_MEMBERS

FIXTURES = all_fixtures()
READABLE = [fixture for fixture in FIXTURES.values() if fixture.carrier]
BUNDLED = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "SC_rgb_rle_2frame.dcm",
)


def read(data: bytes) -> pydicom.Dataset:
    """Read with pydicom as the field does; some of the values are meant to be odd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(data))


def exit_status(*command: str | Path) -> int:
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode


def executable(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o700)
    return path


# ---------------------------------------------------------------------- the builder


@pytest.mark.parametrize("name", BUNDLED)
def test_carriers_stay_byte_for_byte_what_they_were(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    assert bundled(name).data == Path(path).read_bytes()


def test_builds_are_deterministic(tmp_path: Path) -> None:
    script = Path(build.__file__)
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=60)
    written = {path.stem: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {name: fixture.data for name, fixture in FIXTURES.items()}


@pytest.mark.parametrize("folder", build.COMMITTED)
def test_committed_files_are_what_the_builder_makes(folder: str) -> None:
    committed = {path.name: path.read_bytes() for path in (build.HERE / folder).iterdir()}
    names = build.COMMITTED[folder]
    assert committed == {FIXTURES[name].filename: FIXTURES[name].data for name in names}
    assert {FIXTURES[name].verdict is Verdict.CLEAN for name in names} == {folder == "clean"}


def test_committed_files_stay_small() -> None:
    names = [name for names in build.COMMITTED.values() for name in names]
    assert sum(len(FIXTURES[name].data) for name in names) < 400_000


@pytest.mark.parametrize("fixture", READABLE, ids=lambda fixture: fixture.name)
def test_pydicom_reads_the_image_of_the_carrier(fixture: Fixture) -> None:
    dataset = read(fixture.data)
    assert dataset.PixelData == bundled(fixture.carrier).value(PIXEL_DATA)
    original = bundled(fixture.carrier)
    assert dataset[0x0020000D].value == original.value(0x0020000D).rstrip(b"\0").decode()


@pytest.mark.parametrize("fixture", FIXTURES.values(), ids=lambda fixture: fixture.name)
def test_expected_places_are_inside_the_file(fixture: Fixture) -> None:
    for expected in fixture.expected:
        assert 0 <= expected.offset < len(fixture.data)
        if expected.inner_offset is None:
            assert expected.offset + (expected.length or 1) <= len(fixture.data)
        preamble = fixture.data[128:132] == b"DICM" and expected.offset < 128
        assert (expected.region is Region.PREAMBLE) == preamble


@pytest.mark.parametrize(
    "fixture",
    [f for f in FIXTURES.values() if f.name.startswith("pe-")],
    ids=lambda fixture: fixture.name,
)
def test_embedded_program_is_at_its_place(fixture: Fixture) -> None:
    (expected,) = fixture.expected
    assert expected.length is not None
    data, start = fixture.data, expected.offset
    if expected.inner_offset is not None:
        assert DOS_STUB_TEXT not in fixture.data
        data = zlib.decompress(data[expected.offset :], -zlib.MAX_WBITS)
        start = expected.inner_offset
    program = data[start : start + expected.length]
    assert program == (launcher() if fixture.name == "pe-launcher" else tiny_pe())


@pytest.mark.parametrize("name", ["pe-explicit", "pe-implicit", "pe-big-endian", "pe-deflated"])
def test_pydicom_finds_the_program_in_every_syntax(name: str) -> None:
    assert read(FIXTURES[name].data)[PRIVATE_TAG].value == tiny_pe()


def test_pydicom_finds_the_nested_program() -> None:
    dataset = read(FIXTURES["pe-nested"].data)
    assert dataset[0x00400275][0][0x00400008][1][PRIVATE_TAG].value == tiny_pe()


def test_pydicom_finds_the_program_in_the_fragment() -> None:
    dataset = read(FIXTURES["pe-fragment"].data)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=2))
    assert frames[1].endswith(tiny_pe())


# ---------------------------------------------------------------------- programs


def test_tiny_program_is_a_sound_pe() -> None:
    with pefile.PE(data=tiny_pe()) as program:
        (imported,) = program.DIRECTORY_ENTRY_IMPORT
        assert imported.dll == b"KERNEL32.dll"
        assert [function.name for function in imported.imports] == [b"ExitProcess"]
        code = program.get_memory_mapped_image()[program.OPTIONAL_HEADER.AddressOfEntryPoint :]
        assert code[4:9] == b"\xb9" + EXIT_STATUS.to_bytes(4, "little")


@pytest.mark.parametrize("name", [name for name in FIXTURES if name.startswith("poly-pe")])
def test_pe_polyglot_is_the_same_program(name: str) -> None:
    launchers = {"poly-pe-launcher": "t64.exe", "poly-pe-launcher-32": "t32.exe"}
    original = launcher(launchers[name]) if name in launchers else tiny_pe()
    data = FIXTURES[name].data
    with pefile.PE(data=original) as before, pefile.PE(data=data) as after:
        assert (
            after.OPTIONAL_HEADER.AddressOfEntryPoint == before.OPTIONAL_HEADER.AddressOfEntryPoint
        )
        assert after.OPTIONAL_HEADER.FileAlignment == before.OPTIONAL_HEADER.FileAlignment
        assert after.DOS_HEADER.e_lfanew > 0x84
        headers_end = after.sections[-1].get_file_offset() + after.sections[-1].sizeof()
        assert (
            headers_end <= after.OPTIONAL_HEADER.SizeOfHeaders <= after.sections[0].VirtualAddress
        )
        assert len(after.sections) == len(before.sections)
        for section, same in zip(after.sections, before.sections, strict=True):
            assert section.PointerToRawData % after.OPTIONAL_HEADER.FileAlignment == 0
            assert section.PointerToRawData + section.SizeOfRawData <= len(data)
            assert section.VirtualAddress == same.VirtualAddress
            assert section.get_data() == same.get_data()
        imports = [[entry.dll for entry in pe.DIRECTORY_ENTRY_IMPORT] for pe in (before, after)]
        assert imports[0] == imports[1]


can_run_elf = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"},
    reason="the hand-made programs are for Linux on x86-64 and AArch64",
)


@can_run_elf
def test_tiny_elf_runs(tmp_path: Path) -> None:
    assert exit_status(executable(tmp_path / "program", elf(platform.machine()))) == EXIT_STATUS


@can_run_elf
def test_elf_polyglot_runs(tmp_path: Path) -> None:
    data = FIXTURES[f"poly-elf-{platform.machine()}"].data
    assert exit_status(executable(tmp_path / "image.dcm", data)) == EXIT_STATUS


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="for Linux on x86-64"
)
def test_elf_polyglot_runs_from_the_preamble(tmp_path: Path) -> None:
    data = FIXTURES["poly-elf-preamble"].data
    assert exit_status(executable(tmp_path / "image.dcm", data)) == EXIT_STATUS


@pytest.mark.skipif(sys.platform != "linux", reason="needs a Linux program")
def test_a_real_elf_program_runs_as_dicom(tmp_path: Path) -> None:
    found = shutil.which("echo")
    assert found is not None
    program = Path(found).read_bytes()
    if program[:6] != b"\x7fELF\2\1":
        pytest.skip(f"{found} is no 64-bit little-endian ELF program")
    file = polyglots.elf_in_dicom(program, 0x10000)
    # Some systems have one program for many commands, which goes by the name it is called by.
    path = executable(tmp_path / "echo", file.data)
    ran = subprocess.run([path, "42"], capture_output=True, timeout=30, check=True)
    assert ran.stdout == b"42\n"
    assert read(file.data).PixelData == carrier().value(PIXEL_DATA)


@pytest.mark.parametrize("name", ["poly-shell", "poly-sh"])
def test_shell_polyglot_runs(fixture_files: dict[str, Path], name: str) -> None:
    assert exit_status("sh", fixture_files[name]) == EXIT_STATUS


def test_shell_polyglot_runs_by_its_first_line(tmp_path: Path) -> None:
    path = executable(tmp_path / "image.dcm", FIXTURES["poly-shell"].data)
    assert exit_status(path) == EXIT_STATUS


def test_mach_o_slice_is_the_private_element() -> None:
    data = FIXTURES["poly-macho-universal"].data
    offset, size = unpack_from(">II", data, 16)
    assert data[offset : offset + size] == read(data)[PRIVATE_TAG].value
    thin = FIXTURES["poly-macho"].data
    count, commands_size = unpack_from("<II", thin, 16)
    sizes, position = [], 32
    for _ in range(count):
        sizes.append(unpack_from("<I", thin, position + 4)[0])
        position += sizes[-1]
    assert position == 32 + commands_size == 128
    assert unpack_from("<Q", thin, 32 + 48)[0] == len(thin)


def test_pickle_polyglot_calls_its_function(fixture_files: dict[str, Path]) -> None:
    with fixture_files["poly-pickle"].open("rb") as stream:
        assert pickle.load(stream) == os.getpid()


def test_dex_polyglot_has_valid_checksums() -> None:
    data = FIXTURES["poly-dex"].data
    assert unpack_from("<I", data, 8)[0] == zlib.adler32(data[12:])
    assert data[12:32] == sha1(data[32:], usedforsecurity=False).digest()
    assert unpack_from("<I", data, 32)[0] == len(data)


def test_wasm_polyglot_is_one_custom_section() -> None:
    data = FIXTURES["poly-wasm"].data
    size = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(data[9:14]))
    assert data[8] == 0
    assert 14 + size == len(data)


# ---------------------------------------------------------------------- archives and documents


@pytest.mark.parametrize("name", [name for name in FIXTURES if name.startswith("poly-zip")])
def test_zip_polyglot_opens(fixture_files: dict[str, Path], name: str) -> None:
    with zipfile.ZipFile(fixture_files[name]) as archive:
        assert archive.testzip() is None
        members = ZIPAPP_MEMBERS if name == "poly-zipapp" else PLAIN_MEMBERS
        assert {member: archive.read(member) for member in archive.namelist()} == members


def test_zip_over_the_last_pixels_leaves_the_others() -> None:
    data = FIXTURES["poly-zip-pixels"].data
    archive_size = FIXTURES["poly-zip-pixels"].expected[0].length
    assert archive_size is not None
    pixels, original = read(data).PixelData, carrier().value(PIXEL_DATA)
    assert len(pixels) == len(original)
    assert pixels[:-archive_size] == original[:-archive_size]


def test_zipapp_polyglot_runs(fixture_files: dict[str, Path]) -> None:
    assert exit_status(sys.executable, fixture_files["poly-zipapp"]) == EXIT_STATUS


def test_jar_polyglot_opens(fixture_files: dict[str, Path]) -> None:
    with zipfile.ZipFile(fixture_files["poly-jar"]) as archive:
        assert archive.read("Inert.class") == JAR_MEMBERS["Inert.class"] == java_class()


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java here")
def test_jar_polyglot_runs(fixture_files: dict[str, Path]) -> None:
    assert exit_status("java", "-jar", fixture_files["poly-jar"]) == EXIT_STATUS


@pytest.mark.parametrize("name", ["poly-pdf", "poly-pdf-late-head"])
def test_pdf_polyglot_opens(name: str) -> None:
    data = FIXTURES[name].data
    assert b"%PDF-" in data[:1024]
    (page,) = list(pypdf.PdfReader(io.BytesIO(data), strict=False).pages)
    assert page.extract_text() == "dicomguard fixture"


def test_tar_polyglot_has_a_valid_header() -> None:
    header = bytearray(FIXTURES["poly-tar"].data[:512])
    assert header[257:265] == b"ustar\x0000"
    checksum = int(header[148:154], 8)
    header[148:156] = b" " * 8
    assert checksum == sum(header)


def test_tar_polyglot_extracts(fixture_files: dict[str, Path], tmp_path: Path) -> None:
    version = subprocess.run(["tar", "--version"], capture_output=True, check=False).stdout
    if b"GNU tar" not in version:
        pytest.skip("other tars refuse the time stamp, on which an element's VR falls")
    exit_status("tar", "-x", "-C", tmp_path, "-f", fixture_files["poly-tar"])
    assert [path.name for path in tmp_path.iterdir()] == ["inert.txt"]


def test_gzip_polyglot_inflates() -> None:
    data = FIXTURES["poly-gz"].data
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert stream.decompress(data).startswith(b"Nothing here")
    assert stream.eof


def test_ole_polyglot_has_its_directory() -> None:
    data = FIXTURES["poly-ole"].data
    directory = unpack_from("<I", data, 48)[0]
    assert data[512 * (directory + 1) :].startswith("Root Entry".encode("utf-16-le"))


def test_disk_images_stand_where_their_readers_look() -> None:
    assert FIXTURES["poly-iso"].data[0x8001:0x8006] == b"CD001"
    footer = FIXTURES["poly-vhd"].data[-512:]
    assert footer.startswith(b"conectix")
    checksum = unpack_from(">I", footer, 64)[0]
    assert checksum == ~sum(footer[:64] + footer[68:]) & 0xFFFFFFFF


# ---------------------------------------------------------------------- honest files


def test_tiff_strips_are_the_pixel_data() -> None:
    data = FIXTURES["tiff"].data
    directory = unpack_from("<I", data, 4)[0]
    assert data[:4] == b"II*\0"
    entries = {}
    for index in range(unpack_from("<H", data, directory)[0]):
        tag, _, count, value = unpack_from("<HHII", data, directory + 2 + 12 * index)
        assert count == 1
        entries[tag] = value
    assert list(entries) == sorted(entries)
    dataset = read(data)
    assert (entries[256], entries[257]) == (dataset.Columns, dataset.Rows)
    assert data[entries[273] : entries[273] + entries[279]] == dataset.PixelData
    assert data[directory:].startswith(dataset[TRAILING_PADDING].value[:14])


def test_csa_blob_has_the_bytes_of_a_pe_signature() -> None:
    value = read(FIXTURES["siemens-csa"].data)[0x00291020].value
    assert value.startswith(b"SV10\4\3\2\1")
    assert b"XSPE\0\0" in value


def test_ge_blob_inflates() -> None:
    value = read(FIXTURES["ge-gzip"].data)[0x0025101B].value
    size = unpack_from("<I", value)[0]
    assert gzip.decompress(value[4 : 4 + size]).startswith(b"set SeriesProtocol")


@pytest.mark.parametrize(
    ("name", "family", "phonetic"),
    [("name-japanese", "山田", "やまだ"), ("name-korean", "洪", "홍")],
)
def test_names_decode_by_iso_2022(name: str, family: str, phonetic: str) -> None:
    components = str(read(FIXTURES[name].data).PatientName).split("=")
    assert components[1].startswith(family)
    assert components[2].startswith(phonetic)


def test_pdf_document_is_one() -> None:
    dataset = read(FIXTURES["pdf-document"].data)
    length = dataset.EncapsulatedDocumentLength
    document = pypdf.PdfReader(io.BytesIO(dataset.EncapsulatedDocument[:length]), strict=True)
    assert len(document.pages) == 1


@pytest.mark.parametrize("name", ["raw-explicit", "raw-implicit"])
def test_raw_data_sets_read_when_forced(name: str) -> None:
    dataset = pydicom.dcmread(io.BytesIO(FIXTURES[name].data), force=True)
    assert dataset.PixelData == bundled(CARRIER).value(PIXEL_DATA)
