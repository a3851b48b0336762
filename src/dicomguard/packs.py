"""Packs: folders of rules, with a manifest that says what they are and a signature that vouches.

A folder of ``*.yar`` files is a pack. With a ``pack.toml`` it has a name, a version and a licence,
says which dicomguard it needs, declares its tests, and lists the SHA-256 of every rule file; then
a file that differs, is missing or is not listed makes the pack unusable. With a ``pack.toml.sig``,
an Ed25519 signature (RFC 8032) of exactly the bytes of the manifest, those hashes are somebody's
word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from dicomguard.errors import DicomguardError
from dicomguard.version import VERSION

MANIFEST = "pack.toml"
SIGNATURE = "pack.toml.sig"

PACK_FILES = (".yar", ".yara", MANIFEST, SIGNATURE)
"""How the names of files end that make up a pack."""

_LARGEST_MANIFEST = 4 << 20
_LARGEST_RULES = 256 << 20
"""Bytes of one rule file; the full packs of third parties have some 20 MB."""

_KEY_BYTES = 32
_Text = Annotated[str, Meta(min_length=1, max_length=200)]
_Path = Annotated[str, Meta(min_length=1, max_length=1000)]
_Version = Annotated[str, Meta(pattern=r"\A\d+(\.\d+){0,3}\Z")]


class Example(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[tests]]`` table: content, and which rules of the pack must find something in it.

    Attributes:
        name: What the example shows.
        file: The content is that file, relative to the pack.
        hex: The content in hexadecimal.
        text: The content as text.
        inside: ``file`` if the content is a file by itself; else it is put into a DICOM file, as a
            ``private`` element or as the text of Image Comments (``text``).
        must_fire: Names of rules.
        must_not_fire: Names of rules; empty for all that are not in ``must_fire``.
    """

    name: _Text
    file: _Path | None = None
    hex: str | None = None
    text: str | None = None
    inside: Literal["file", "private", "text"] = "file"
    must_fire: tuple[_Text, ...] = ()
    must_not_fire: tuple[_Text, ...] = ()


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``pack.toml``.

    Attributes:
        name: Of the pack.
        version: Of the pack.
        licence: SPDX expression.
        dicomguard: The least version of dicomguard that the pack works with.
        released: When it was made.
        files: SHA-256 of every rule file, by path relative to the pack; empty if not listed.
        tests: Examples.
    """

    name: _Text
    version: _Text
    licence: _Text
    dicomguard: _Version = "0"
    released: date | None = None
    files: dict[_Path, Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]] = {}
    tests: tuple[Example, ...] = ()


class Trust(Struct, frozen=True, kw_only=True):
    """Whose packs are used.

    Attributes:
        keys: Ed25519 public keys in Base64, of 32 bytes each. A signature must be by one of them.
        required: Whether a pack without a signature is refused.
    """

    keys: tuple[str, ...] = ()
    required: bool = False


class Pack(Struct, frozen=True, kw_only=True):
    """A folder of rules that has been read and verified.

    Attributes:
        folder: Where it lies.
        manifest: None if it has none.
        signer: Public key that its signature was verified with; empty if there is no signature,
            or no key to verify it with.
        signed: Whether there is a signature.
        sources: Text of every rule file by path, in order.
    """

    folder: Path
    manifest: Manifest | None
    signer: str
    signed: bool
    sources: dict[Path, str]

    @property
    def standing(self) -> str:
        """Whether it is signed, in words."""
        if self.signer:
            return f"signed by {self.signer}"
        return "signed, but there is no key to verify it with" if self.signed else "unsigned"


def read_pack(folder: Path, trust: Trust) -> Pack:
    """Read a pack and verify what vouches for it.

    Raises:
        DicomguardError: It holds no rules, cannot be read, needs another dicomguard, its files are
            not those of the manifest, or its signature is missing though required, or wrong.
    """
    try:
        said = _optional(folder / MANIFEST, _LARGEST_MANIFEST)
        signature = _optional(folder / SIGNATURE, 1024)
        contents = {path: _content(path, _LARGEST_RULES) for path in _rule_files(folder)}
        if not contents:
            msg = f"no rules: {folder} is not a folder that holds *.yar files"
            raise DicomguardError(msg)
        manifest = None if said is None else _manifest(said)
        signer = _signer(said, signature, trust)
        if manifest is not None:
            _check(folder, manifest, contents, signed=signature is not None)
        sources = {path: _decoded(path, content) for path, content in contents.items()}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        at = getattr(error, "filename", None) or folder
        raise DicomguardError(f"cannot read the rules in {at}: {reason}") from error
    return Pack(
        folder=folder,
        manifest=manifest,
        signer=signer,
        signed=signature is not None,
        sources=sources,
    )


def listing(folder: Path) -> dict[str, str]:
    """The SHA-256 of every rule file of a folder, for its manifest.

    Raises:
        OSError: A file cannot be read.
    """
    return {
        str(path.relative_to(folder)): _sha256(path.read_bytes()) for path in _rule_files(folder)
    }


def _sha256(content: bytes) -> str:
    import hashlib  # noqa: PLC0415 - slow to load, and most manifests list no files

    return hashlib.sha256(content).hexdigest()


def _rule_files(folder: Path) -> list[Path]:
    """The rule files below a folder.

    Raises:
        OSError: A folder cannot be listed: its rules would be missing from the pack.
    """

    def fail(error: OSError) -> None:
        raise error

    def named() -> Iterator[Path]:
        for top, _, names in os.walk(folder, onerror=fail):
            yield from (Path(top, name) for name in names if name.endswith((".yar", ".yara")))

    return sorted(named()) if folder.exists() else []


def _optional(path: Path, largest: int) -> bytes | None:
    try:
        return _content(path, largest)
    except FileNotFoundError:
        return None


def _content(path: Path, largest: int) -> bytes:
    with path.open("rb") as source:
        content = source.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{path.name} is larger than {largest} bytes")
    return content


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from error


def _manifest(said: bytes) -> Manifest:
    import tomllib  # noqa: PLC0415 - whoever only names packs reads none

    try:
        return msgspec.convert(tomllib.loads(said.decode("utf-8")), Manifest)
    except ValueError as error:
        raise ValueError(f"{MANIFEST}: {error}") from error


def _check(folder: Path, manifest: Manifest, contents: dict[Path, bytes], *, signed: bool) -> None:
    if _numbers(manifest.dicomguard) > _numbers(VERSION):
        raise ValueError(f"the pack needs dicomguard {manifest.dicomguard}, this is {VERSION}")
    if signed and not manifest.files:
        raise ValueError(f"{MANIFEST} is signed but lists no files, so that it vouches for nothing")
    if not manifest.files:
        return
    there = {str(path.relative_to(folder)): _sha256(each) for path, each in contents.items()}
    for name in sorted(there.keys() | manifest.files.keys()):
        if name not in there:
            raise ValueError(f"{name} is listed in {MANIFEST} but not there")
        if name not in manifest.files:
            raise ValueError(f"{name} is not listed in {MANIFEST}")
        if there[name] != manifest.files[name]:
            raise ValueError(f"{name} is not the file that {MANIFEST} lists: its SHA-256 differs")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:4])


def _signer(said: bytes | None, signature: bytes | None, trust: Trust) -> str:
    if signature is None or said is None:
        if trust.required:
            raise ValueError("the pack is not signed, and only signed ones are wanted")
        return ""
    if not trust.keys:
        if trust.required:
            raise ValueError("there is no key to verify its signature with: name a rule key")
        return ""
    # pycryptodome is slow to load and most packs are not signed.
    from base64 import b64decode  # noqa: PLC0415

    from Crypto.PublicKey import ECC  # noqa: PLC0415
    from Crypto.Signature import eddsa  # noqa: PLC0415

    try:
        raw = b64decode(signature.strip(), validate=True)
    except ValueError as error:
        raise ValueError(f"{SIGNATURE} is not Base64") from error
    for key in trust.keys:
        public = eddsa.import_public_key(_key(key))
        assert isinstance(public, ECC.EccKey)
        try:
            eddsa.new(public, "rfc8032").verify(said, raw)
        except ValueError:
            continue
        return key
    raise ValueError(f"{SIGNATURE} is not a signature of {MANIFEST} by a trusted key")


def _key(text: str) -> bytes:
    from base64 import b64decode  # noqa: PLC0415 - as above

    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"the rule key {text!r} is not an Ed25519 public key: 32 bytes in Base64")
    return key
