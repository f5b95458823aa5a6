"""Notebooks as people open them: in JupyterLab, in a real browser, from the first cell to the last."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page

from lib.common import paths

pytestmark = pytest.mark.notebook
TOKEN = "only-for-tests"
OPENED = [
    "00_start_here.ipynb",
    *sorted(f"teaching/{path.name}" for path in (paths.REPOSITORY / "notebooks" / "teaching").glob("*.ipynb")),
]
QUIET = 3  # seconds without work, after which a kernel is at its end
PATIENCE = 300  # seconds until a notebook has to be at its end; on one idle core the longest takes some forty


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A JupyterLab server on a copy of the notebooks: its address, and the folder of the copy."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    shutil.copytree(paths.REPOSITORY / "notebooks", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1"]
    own = {name: str(home / name.lower()) for name in ("STUDY_HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    (home / "study_home").mkdir()
    log = (home / "server.log").open("wb")
    server = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api", server, home / "server.log")
        yield address, folder
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers."""
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture
def lab_page(browser: Browser, lab: tuple[str, Path]) -> Iterator[tuple[Page, list[str]]]:
    """A page, and a list that fills with what it asks of other machines."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, elsewhere = context.new_page(), list[str]()
    own = (lab[0], "data:", "blob:", lab[0].replace("http", "ws"))
    page.on("request", lambda asked: None if asked.url.startswith(own) else elsewhere.append(asked.url))
    yield page, elsewhere
    context.close()
    for kernel in kernels(lab[0]):
        end = urllib.request.Request(f"{lab[0]}/api/kernels/{kernel['id']}?token={TOKEN}", method="DELETE")
        urllib.request.urlopen(end, timeout=30).close()


def kernels(address: str) -> list[dict[str, Any]]:
    """The kernels that a server runs."""
    with urllib.request.urlopen(f"{address}/api/kernels?token={TOKEN}", timeout=30) as answer:
        return json.load(answer)


def wait_until_idle(address: str) -> None:
    """Until the one kernel there is has had nothing to do for some seconds."""
    idle = 0
    for _ in range(PATIENCE):
        idle = idle + 1 if [kernel["execution_state"] for kernel in kernels(address)] == ["idle"] else 0
        if idle > QUIET:
            return
        time.sleep(1)
    raise AssertionError(f"the kernel was not at its end after {PATIENCE} seconds")


def saved(page: Page, path: Path) -> list[Any]:
    """The cells of code of a notebook, saved once from the page."""
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(PATIENCE):
        if path.stat().st_mtime_ns > before:
            break
        time.sleep(0.5)
    time.sleep(0.5)  # until it is written to its end
    return [
        cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" and cell.source.strip()
    ]


@pytest.mark.parametrize("name", OPENED)
def test_a_notebook_runs_to_its_end_in_jupyterlab(lab: tuple[str, Path], lab_page: tuple[Page, list[str]], name: str):
    (address, folder), (page, elsewhere) = lab, lab_page
    page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset", wait_until="domcontentloaded", timeout=120_000)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=120_000)
    cells: list[Any] = []
    for _ in range(5):  # a kernel of a server that has just begun calls itself idle before it takes anything
        asked = page.locator(".jp-Dialog .jp-mod-accept")
        if asked.count():  # two savings at once: whether to overwrite
            asked.first.click()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        wait_until_idle(address)
        cells = saved(page, folder / name)
        if all(cell.execution_count for cell in cells):
            break
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert all(cell.execution_count for cell in cells)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert not elsewhere
