"""Every fixture gets its verdict, by the right id, at the right place."""

import pytest

from dicomguard import Verdict, scan_bytes
from fixtures.build import all_fixtures
from fixtures.fixture import Fixture

FIXTURES = all_fixtures()


@pytest.mark.parametrize("name", sorted(FIXTURES))
def test_fixture(name: str) -> None:
    fixture: Fixture = FIXTURES[name]
    report = scan_bytes(fixture.data, fixture.filename)
    seen = "\n".join(
        f"{f.kind.id} {f.kind.severity} {f.place.region} {f.place.offset}+{f.place.length} "
        f"{f.place.inner_offset} {f.place.tag_path} {f.detail}"
        for f in report.findings
    )
    for expected in fixture.expected:
        assert any(expected.matches(finding) for finding in report.findings), (
            f"{expected}\nnot among\n{seen}"
        )
    if fixture.verdict is Verdict.CLEAN:
        assert report.verdict is Verdict.CLEAN, seen
    elif fixture.verdict is not None:
        assert report.verdict >= fixture.verdict, seen
