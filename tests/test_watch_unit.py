"""The systemd unit: it is well formed, and as closed as its documentation says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "packaging" / "dicomguard.service"
DOCS = ROOT / "docs" / "deploying.md"


def directives():
    return re.findall(r"^(\w+)=", UNIT.read_text(), re.MULTILINE)


def test_every_line_is_explained():
    text = DOCS.read_text()
    table = text[text.index("## The unit") : text.index("## In a container")]
    explained = re.findall(r"`([A-Za-z]+)(…?)", table)
    for directive in directives():
        if directive in ("Description", "Documentation", "After", "ExecStart", "WantedBy"):
            continue
        assert any(
            directive == name or (more and directive.startswith(name)) for name, more in explained
        ), directive


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_understands_it_and_rates_it_as_documented(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/dicomguard", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert str(unit) not in verified.stderr, verified.stderr
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    score = float(re.search(r"exposure level for \S+: ([\d.]+)", rated.stdout)[1])
    documented = float(re.search(r"rates it ([\d.]+) of 10", DOCS.read_text())[1])
    assert score <= documented
