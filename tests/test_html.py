"""The HTML report: what it draws, and that nothing in a file acts in it."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dicomguard import Report, Verdict, drawing, scan_bytes
from dicomguard.dicom.walker import walk
from dicomguard.drawing import MOST_BINS, MOST_ELEMENTS, MOST_STRETCHES, draw
from dicomguard.model import Drawing, DrawnElement, Region, Stretch
from dicomguard.reports import escape
from dicomguard.reports.summary import Summary
from dicomguard.settings import ScanSettings
from fixtures.build import all_fixtures
from fixtures.carriers import carrier
from fixtures.dicomfile import PATIENT_NAME, element
from test_reports import ATTACKS, hostile, hostile_summary, rendered

DRAW = ScanSettings(draw=frozenset(Verdict))


# ---------------------------------------------------------------------- drawings


@given(st.binary(max_size=3000))
def test_any_bytes_can_be_drawn(data: bytes) -> None:
    covers(draw(data, walk(data), ()), len(data))


def covers(drawn: Drawing, size: int) -> None:
    at = 0
    for stretch in drawn.stretches:
        assert stretch.offset == at
        assert stretch.length > 0
        at += stretch.length
    assert at == size
    assert len(drawn.stretches) <= MOST_STRETCHES
    assert len(drawn.entropy) <= MOST_BINS
    assert bool(drawn.entropy) == bool(size)
    assert all(0 <= value <= 8 for value in drawn.entropy)
    assert len(drawn.elements) <= min(drawn.elements_in_file, 2 * MOST_ELEMENTS)


@pytest.mark.parametrize("name", sorted(all_fixtures()))
def test_every_fixture_is_drawn(name: str) -> None:
    data = all_fixtures()[name].data
    report = scan_bytes(data, name, DRAW)
    assert report.drawing is not None
    covers(report.drawing, len(data))
    assert scan_bytes(data, name).drawing is None, "nobody asked"
    layout = walk(data)
    for stretch in report.drawing.stretches:
        assert layout.span_at(stretch.offset).region is stretch.region


def test_only_what_is_asked_for_is_drawn() -> None:
    bad = ScanSettings(draw=frozenset({Verdict.MALICIOUS}))
    assert scan_bytes(all_fixtures()["poly-pe"].data, "", bad).drawing is not None
    assert scan_bytes(all_fixtures()["ct"].data, "", bad).drawing is None


def test_a_picture_has_no_values() -> None:
    secret = b"Unmistakable^Jane"
    data = carrier().with_(element(PATIENT_NAME, "PN", secret)).data
    report = scan_bytes(data, "a", DRAW)
    assert "Unmistakable" not in str(report.drawing)
    assert any(each.name == "Patient's Name" for each in report.drawing.elements)  # type: ignore[union-attr]


def test_many_regions_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST_STRETCHES", 5)
    data = all_fixtures()["pe-nested"].data
    drawn = draw(data, walk(data), ())
    assert len(drawn.stretches) <= 5
    covers(drawn, len(data))
    assert max(drawn.stretches, key=lambda each: each.length).region is Region.PIXELS


def test_what_holds_a_finding_is_drawn_however_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MOST_ELEMENTS", 10)
    report = scan_bytes(all_fixtures()["pe-nested"].data, "", DRAW)
    assert report.drawing
    (finding,) = [each for each in report.findings if each.kind.id == "EMB-PE"]
    holding = [
        each.tag
        for each in report.drawing.elements
        if each.offset <= finding.place.offset < each.offset + each.length
    ]
    assert holding == ["(0040,0275)", "(0040,0008)", "(0009,1001)"]
    assert len(report.drawing.elements) <= 20


# ---------------------------------------------------------------------- the page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, frozenset[str]]] = []
        self.raw: dict[str, str] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, frozenset(name for name, _ in attrs)))
        self.attributes += attrs
        self._in = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in ("script", "style"):
            self.raw[self._in] = data
        else:
            self.text += data


def drawn(attack: str) -> Report:
    element_ = DrawnElement(
        tag=attack, vr=attack, name=attack, creator=attack, depth=0, item=None, offset=0,
        length=2048, region=Region.PRIVATE, inflated=False,
    )  # fmt: skip
    picture = Drawing(
        stretches=(Stretch(region=Region.PRIVATE, offset=0, length=2048),),
        entropy=(0.0, 4.5, 8.0),
        elements=(element_,),
        elements_in_file=1,
    )
    return replace(hostile(attack), drawing=picture)


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_no_file_writes_a_tag(attack: str) -> None:
    shown = Page(rendered("html", drawn(attack), summary=hostile_summary(attack)))
    plain = Page(rendered("html", drawn("harmless"), summary=hostile_summary("harmless")))
    assert {name for name, _ in shown.tags} == {name for name, _ in plain.tags}
    assert set(shown.tags) == set(plain.tags)
    assert shown.raw == plain.raw
    assert escape.printable(attack).strip() in shown.text
    for name, _ in shown.attributes:
        assert not name.startswith("on")
        assert name not in ("href", "src", "action", "style")


def test_only_our_own_script_and_style_may_act() -> None:
    page = Page(rendered("html", drawn("harmless")))
    policy = max((value or "" for name, value in page.attributes if name == "content"), key=len)
    assert policy.startswith("default-src 'none';")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "http" not in re.sub(r"http-equiv", "", "".join(page.raw.values()))


def test_the_page_says_everything() -> None:
    reports = [scan_bytes(each.data, each.name, DRAW) for each in all_fixtures().values()]
    summary = Summary(rules="2 rules", engine="yara")
    summary.skipped["FIFO"] = 2
    page = Page(rendered("html", *reports, summary=summary))
    for report in reports:
        if report.verdict is Verdict.CLEAN:
            continue
        assert report.path in page.text
        for finding in report.findings[:50]:
            assert finding.kind.id in page.text
    assert "not opened: FIFO" in page.text
    figures = sum(tag == "figure" for tag, _ in page.tags)
    assert figures == sum(each.verdict is not Verdict.CLEAN for each in reports)


def test_a_value_is_hidden_on_the_page_too() -> None:
    payload = b"Unmistakable^Jane powershell -enc SQBFAFgA; IEX (New-Object Net.WebClient)"
    data = carrier().with_(element(PATIENT_NAME, "PN", payload)).data
    report = scan_bytes(data, "a", DRAW)
    assert report.verdict is not Verdict.CLEAN
    hexed = b"Unmistak".hex(" ")
    hidden = rendered("html", report)
    assert "Unmistakable" not in hidden
    assert hexed not in hidden
    assert "--show-values" in hidden
    assert hexed in rendered("html", report, show_values=True)


def test_a_page_of_very_many_files_stays_readable() -> None:
    report = scan_bytes(all_fixtures()["poly-pe"].data, "a", DRAW)
    many = [replace(report, path=f"folder{n % 40}/{n}.dcm") for n in range(300)]
    page = Page(rendered("html", *many))
    assert sum(tag == "article" for tag, _ in page.tags) == 200
    assert "folder19/299.dcm" in page.text
    assert "25 more folders" in page.text


# ---------------------------------------------------------------------- in a browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


def opened(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    """The page, and everything that must not happen in it."""
    page = browser.new_page(**options)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: troubles.append(request.url))
    page.goto(path.as_uri())
    troubles.remove(path.as_uri())
    return page, troubles


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_nothing_acts_in_a_browser(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    summary = hostile_summary("<img src=x onerror=alert(1)>")
    reports = [drawn(attack) for attack in ATTACKS]
    path.write_text(rendered("html", *reports, summary=summary))
    page, troubles = opened(browser, path)
    for mark in page.locator(".mark g").all():
        mark.focus()
    assert troubles == []
    assert page.locator("script").count() == 1
    assert page.locator("img, iframe, a, object, embed, link, base").count() == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_picture_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    path = tmp_path / "report.html"
    report = scan_bytes(all_fixtures()["pe-nested"].data, "a" * 200, DRAW)
    path.write_text(rendered("html", report))
    size = {"width": width, "height": 900}
    page, troubles = opened(browser, path, viewport=size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    strip = page.locator(".strip").bounding_box()
    pixels = page.locator("rect.pixels").bounding_box()
    assert pixels["width"] / strip["width"] == pytest.approx(
        8204 / len(all_fixtures()["pe-nested"].data), abs=0.01
    )

    page.locator(".mark g").first.focus()
    told = page.locator("output").inner_text()
    assert "EMB-PE" in told
    assert "(0009,1001), offset 1574" in told
    assert "4d 5a 00" in told

    page.locator("button.private").click()
    shown = page.locator("rect.private").bounding_box()
    assert shown["width"] == pytest.approx(strip["width"], rel=0.02)
    assert page.locator("rect.pixels").bounding_box() is None
    page.keyboard.press("0")
    assert page.locator("rect.pixels").bounding_box()["width"] == pytest.approx(pixels["width"])
    page.locator("figure").focus()
    page.keyboard.press("+")
    assert page.locator("rect.pixels").bounding_box()["width"] != pytest.approx(pixels["width"])
    contrast = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert len(set(contrast)) == 2
    assert troubles == []
