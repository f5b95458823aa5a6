"""A headless browser for pages: Chromium or Chrome of the machine, or the one that playwright has fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def executable(playwright: Playwright) -> str | None:
    """Where the browser is; None where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None) or playwright.chromium.executable_path
    return found if Path(found).is_file() else None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser; without one, tests that ask for it are skipped.

    One a module: as long as it is there, its thread has a running event loop, which kernels cannot share.
    """
    with sync_playwright() as playwright:
        found = executable(playwright)
        if found is None:
            pytest.skip("no Chromium on this machine: install one, or run `python -m playwright install chromium`")
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


def watched(page: Page) -> list[str]:
    """A list that fills with what goes wrong in a page's console, and with requests for anything but files."""
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
    return wrong


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page; the test fails if it asks for anything but files, or something goes wrong in its console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    wrong = watched(opened)
    yield opened
    context.close()
    assert not wrong
