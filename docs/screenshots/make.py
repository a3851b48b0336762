"""Make the pictures of this folder: ``python docs/screenshots/make.py`` in a checkout.

Needs Chromium, the extra ``browser``, and Pillow to make them small.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
FIXTURES = HERE.parents[1] / "tests" / "fixtures"

PICTURES = {
    "report": {"color_scheme": "light", "viewport": {"width": 1100, "height": 1120}},
    "report-dark": {"color_scheme": "dark", "viewport": {"width": 1100, "height": 1120}},
    "report-narrow": {"color_scheme": "light", "viewport": {"width": 390, "height": 1120}},
    "report-narrow-dark": {"color_scheme": "dark", "viewport": {"width": 390, "height": 1120}},
}


def main() -> None:
    """Write a report on the committed fixtures, and look at it."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "report.html"
        check = [sys.executable, "-m", "dicomguard", "check", "--quiet", "--sort"]
        subprocess.run(
            [*check, "--output", page_file, "malicious", "clean"], cwd=FIXTURES, check=False
        )
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, options in PICTURES.items():
            page = browser.new_page(**options)
            page.goto(page_file.as_uri())
            if "narrow" in name:
                page.locator("article").first.evaluate("each => each.scrollIntoView()")
            page.locator(".mark g").first.focus(timeout=5000)
            page.evaluate("document.activeElement.blur()")
            with Image.open(BytesIO(page.screenshot())) as picture:
                picture.convert("RGB").quantize(256).save(HERE / f"{name}.png", optimize=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
