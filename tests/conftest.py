"""What holds for every test: quiet threads, no display, and a home of its own."""

import os
import signal

# Before torch is imported anywhere: one thread a process, and none that spins while it waits.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["MPLBACKEND"] = "Agg"
# Modules of tests, and of the study's own networks, of which code is run where a file of a test names it.
TRUSTED = "foreign_networks,foreign_net,planned_net,renamed,two_contrasts,broken_package,no_such_module,lib.networks"
os.environ["STUDY_TRUST"] = TRUSTED

from pathlib import Path

import pytest
import tiny

pytest_plugins = ["browser"]

from lib.data.tasks.images import data_digest
from lib.data.tasks.task import get_task

# A shell that starts the tests in the background lets them ignore an interrupt; the tests of interrupts send one.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def study_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh `STUDY_HOME`, so that no test reads or writes the runs, reports and data of the repository."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("STUDY_HOME", str(home))
    monkeypatch.delenv("STUDY_DATA", raising=False)
    return home


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the task `blobs`, made once for a file of tests."""
    return tiny.make_blobs(tmp_path_factory.mktemp("data"))


@pytest.fixture
def blobs_as_data(blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task `blobs` lies where data are looked for; a file of tests that trains asks for it by `usefixtures`."""
    monkeypatch.setenv("STUDY_DATA", str(blobs))


@pytest.fixture(autouse=True)
def no_drawing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of images are not drawn only to be compared with those of a run that a test made up."""
    real = lambda name, size: None if get_task(name).kind == "simulated" else data_digest(name, size)  # noqa: E731
    monkeypatch.setattr("lib.runs.listing.data_digest", real)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The study's notebooks, which take minutes, begin first, so that no worker is left alone with them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("notebook") is None)
