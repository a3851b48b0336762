from __future__ import annotations

import os
from pathlib import Path

import pytest

from fixtures.build import all_fixtures
from fixtures.fixture import Fixture

HONEST_CORPUS = "DICOMGUARD_HONEST_CORPUS"


@pytest.fixture(scope="session")
def built_fixtures() -> dict[str, Fixture]:
    """Every fixture by name."""
    return all_fixtures()


@pytest.fixture(scope="session")
def fixture_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every fixture as a file, by name."""
    folder = tmp_path_factory.mktemp("fixtures")
    paths = {}
    for fixture in all_fixtures().values():
        path = paths[fixture.name] = folder / fixture.filename
        path.write_bytes(fixture.data)
    return paths


@pytest.fixture(scope="session")
def honest_corpus() -> Path:
    """A folder of DICOM files that real scanners wrote."""
    folder = os.environ.get(HONEST_CORPUS)
    if not folder:
        pytest.skip(f"{HONEST_CORPUS} names no folder of honest DICOM files")
    path = Path(folder)
    assert path.is_dir(), f"{HONEST_CORPUS}: {folder} is no folder"
    return path


@pytest.fixture
def ingest(tmp_path: Path) -> Path:
    """A folder to watch."""
    folder = tmp_path / "ingest"
    folder.mkdir()
    return folder


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Where a vault can be made."""
    return tmp_path / "vault"


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """A folder on the file system of the ingest folder, to rename files from."""
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder
