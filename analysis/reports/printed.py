"""Reports as PDF, printed by a browser that is there: Chromium, Chrome or Edge, without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from analysis.reports.build import report_folder
from lib.common.errors import StudyError
from lib.study.plan import load_suite

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)  # fmt: skip
SECONDS = 300  # that one page may take


def write_pdfs(suite: str) -> list[Path]:
    """Print every page of a suite's report, the gallery too, beside it; returns the files.

    Raises:
        StudyError: there is no report, no browser, or the browser printed nothing.
    """
    folder = report_folder(load_suite(suite))
    pages = sorted(folder.glob("*.html"))
    if not pages:
        raise StudyError(f"{folder} holds no report; make it first: python -m analysis report {suite}")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise StudyError(
            "a PDF needs Chromium, Chrome or Edge, and none is on PATH; install one (apt install chromium), or open "
            f"{pages[0]} in any browser and print it to a file"
        )
    return [_print(page, browser) for page in pages]


def _print(page: Path, browser: str) -> Path:
    target = page.with_suffix(".pdf")
    with tempfile.TemporaryDirectory() as place:  # a profile of its own: a browser that is open is left alone
        made = Path(place, "page.pdf")
        call = [browser, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={place}/profile"]
        call += ["--no-pdf-header-footer", f"--print-to-pdf={made}", page.resolve().as_uri()]
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # root, as in containers, has no sandbox
            call.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=SECONDS, check=False)
            said = done.stderr.strip().splitlines()[-1:]
        except subprocess.TimeoutExpired:
            said = [f"not done after {SECONDS} s"]
        if not made.exists():
            raise StudyError(f"{browser} did not print {page}: {' '.join(said) or 'no word why'}")
        shutil.move(made, target)
    return target
