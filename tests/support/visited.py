"""Pages of a report, opened in a real browser without any network: what is wrong with them, a line each.

    python tests/support/visited.py reports/SUITE    # 0 lines and exit code 0 where all is well

Looked for: errors in the console, requests to anything but the page's own files, what axe-core objects to (WCAG 2 and
good practice, of any weight), a page that is wider than the window, links that lead nowhere, and explorers that do not
react to a key. A process of its own, as a browser's event loop and the kernels of notebooks do not go together.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from browser import executable, watched
from playwright.sync_api import Page, sync_playwright

LOOKS: list[dict[str, Any]] = [  # a desk by day, a telephone by night
    {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
]


def visit(page: Page, file: Path) -> list[str]:
    """What is wrong with one page."""
    wrong = watched(page)
    page.goto(file.as_uri())
    found = Axe().run(page).response
    assert found["passes"], "axe-core has looked at nothing"
    for fault in found["violations"]:
        nodes = fault["nodes"]
        wrong.append(f"{fault['impact']}: {fault['id']}, {len(nodes)} times, first {nodes[0]['html'][:200]}")
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if width > 0:
        wrong.append(f"{width} pixels wider than the window")
    wrong += [f"a link leads nowhere: {link}" for link in _dead(page)]
    return wrong + [f"explorer {name} does not react to a key" for name in _deaf(page)]


def _dead(page: Page) -> list[str]:
    """Links to files, and to places in pages, that are not there; links to other sites are not followed."""
    link = "new URL(each.getAttribute('href') ?? each.getAttribute('src'), document.baseURI).href"
    urls = page.eval_on_selector_all("[href], [src]", f"all => all.map(each => {link})")
    dead = []
    for url in sorted(url for url in set(urls) if url.startswith("file:")):
        file, place = Path(unquote(urlsplit(url).path)), unquote(urlsplit(url).fragment)
        if not file.is_file() or (place and f'id="{escape(place)}"' not in file.read_text(encoding="utf-8")):
            dead.append(url)
    return dead


def _deaf(page: Page) -> list[str]:
    """Labels of the explorers of which no slider changes anything by arrow keys."""
    deaf = []
    for root in page.locator(".explorer").all():
        reacted = False
        for slider in root.locator("input[type=range]").all():
            told = root.locator(".told").inner_text()
            for key in ("ArrowLeft", "ArrowRight"):
                slider.press(key)
                reacted = reacted or root.locator(".told").inner_text() != told
        if not reacted:
            deaf.append(str(root.get_attribute("aria-label")))
    return deaf


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    files, faults = sorted(folder.glob("*.html")), 0
    with sync_playwright() as playwright:
        path = executable(playwright)
        if path is None:
            print("no Chromium on this machine")
            return 77
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for look in LOOKS:
            context = browser.new_context(**look)
            for file in files:
                page = context.new_page()
                for fault in visit(page, file):
                    faults += 1
                    print(f"{file.name} at {look['viewport']['width']}, {look['color_scheme']}: {fault}")
                page.close()
            context.close()
        browser.close()
    explored = sum(file.read_text().count(' class="explorer" ') for file in files)
    print(f"{len(files)} pages with {explored} explorers, {faults} faults", file=sys.stderr)
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main())
