"""Payloads in a folder of their own: private, neutralised, never over something else."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from dicomguard.errors import DicomguardError
from dicomguard.extraction.manifest import Manifest, Payload
from dicomguard.files import FOLDER_FLAGS, NewFile
from dicomguard.quarantine import objects

MANIFEST = "manifest.json"
"""Name of the file that tells of the others."""

_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
_LONGEST_ID = 40


def write(folder: Path, manifest: Manifest, contents: Iterable[bytes], *, raw: bool) -> Manifest:
    """Write payloads and manifest to a new folder.

    The folder has mode 0700, what is in it 0600; the manifest comes last.

    Args:
        folder: Must not exist; the one above it must.
        manifest: What was found.
        contents: Of its payloads, in order.
        raw: Whether to write the payloads as they are; else as CaRT, so that nothing runs them.

    Returns:
        The manifest with the names of the files.

    Raises:
        DicomguardError: The folder exists, or cannot be written to.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        msg = f"{folder} exists, and nothing is overwritten: name a folder that does not"
        raise DicomguardError(msg) from None
    except OSError as error:
        raise DicomguardError(f"cannot make {folder}: {error.strerror}") from error
    named = tuple(
        msgspec.structs.replace(payload, name=_name(index, payload, raw=raw))
        for index, payload in enumerate(manifest.payloads, 1)
    )
    manifest = msgspec.structs.replace(manifest, payloads=named, neutralised=not raw)
    descriptor = os.open(folder, FOLDER_FLAGS)
    try:
        for payload, content in zip(named, contents, strict=True):
            _put(descriptor, payload.name, content if raw else _neutralised(payload, content))
        _put(descriptor, MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    except OSError as error:
        raise DicomguardError(f"cannot write to {folder}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return manifest


def _name(index: int, payload: Payload, *, raw: bool) -> str:
    """A name that no file system and no shell takes for something else, and no system runs."""
    id_ = _UNSAFE.sub("_", payload.findings[0].id)[:_LONGEST_ID]
    return f"{index:03}-{id_}-{payload.sha256[:12]}.{'bin' if raw else 'cart'}"


def _put(folder: int, name: str, content: bytes) -> None:
    with NewFile(folder, name) as file:
        file.stream.write(content)
        file.sync()
        file.appear()


def _neutralised(payload: Payload, content: bytes) -> bytes:
    """A payload as CaRT, with what laboratories look samples up by."""
    plain, exchanged = io.BytesIO(), io.BytesIO()
    objects.encode(io.BytesIO(content), plain)
    header = {"name": payload.sha256, "findings": sorted({each.id for each in payload.findings})}
    footer = {
        "length": str(len(content)),
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "sha1": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        "sha256": payload.sha256,
    }
    objects.with_metadata(plain, exchanged, header, footer)
    return exchanged.getvalue()
