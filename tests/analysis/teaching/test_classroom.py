"""The archive for a class: unpacked into an empty folder it is all that the exercises need, and holds no answers."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from analysis.__main__ import main
from lib.common import paths
from lib.runs.run import run_dir
from lib.study.plan import load_suite, train_suite

SUITE = """
seeds = [0, 1, 2]
[run]
width = 2
depth = 2
size = 16
steps = 4
batch = 4
evaluations = 2
[tuning]
rates = [0.01]
[[grid]]
tasks = ["blobs"]
volumes = [6]
strategies = ["scratch"]
"""
LOOK = """
import sys
from pathlib import Path
from analysis.teaching import argue_with_the_ledger, cka_by_hand
from lib.common import paths
from lib.study.plan import finished_runs, load_suite
assert paths.REPOSITORY == Path.cwd() == paths.home(), (paths.REPOSITORY, paths.home())
assert len(finished_runs(load_suite("few.toml"))) == 3
t1 = cka_by_hand.begin("Ada")
t1.check("size", [len(t1.X)] * 2)
print(t1.hand_in())
"""


@pytest.fixture
def suite(tmp_path: Path, blobs_as_data: None) -> Path:
    file = tmp_path / "few.toml"
    file.write_text(SUITE)
    return file


def test_it_is_unpacked_into_an_empty_folder_and_used(
    suite: Path, tmp_path: Path, study_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classroom", str(suite), "--out", str(tmp_path)]) == 2
    assert "3 runs of few are missing; python -m lib train" in capsys.readouterr().err
    train_suite(load_suite(str(suite)))
    assert main(["classroom", str(suite), "--out", str(tmp_path)]) == 0
    assert "read START.txt" in capsys.readouterr().out
    with tarfile.open(tmp_path / "few-classroom.tar.gz") as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "laptop", filter="data")
    own = [name.removeprefix("few/") for name in names]
    assert len(own) == len(set(own)), "a file comes twice"
    exercises = [path.name for path in sorted((paths.REPOSITORY / "notebooks" / "teaching").glob("*.ipynb"))]
    assert len(exercises) == 4
    assert [name for name in own if name.startswith("notebooks/teaching/")] == [
        f"notebooks/teaching/{name}" for name in exercises
    ]
    assert not [name for name in own if "solutions" in name or "INSTRUCTOR" in name or name.startswith("tests")]
    assert {"START.txt", "Makefile", "pyproject.toml", "requirements/lock.txt", "requirements/torch.txt"} <= set(own)
    runs = {
        f"runs/{run_dir(spec).name}"
        for spec in (load_suite(str(suite)).spec(c, s, 0.01) for c in load_suite(str(suite)).cells for s in c.seeds)
    }
    assert runs <= {str(Path(name).parent) for name in own}

    laptop = tmp_path / "laptop" / "few"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STUDY_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=laptop,
        env={**kept, "PYTHONPATH": str(laptop)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "size: Right." in done.stdout
    assert len(list((laptop / "handed_in").glob("t1_cka_by_hand-ada-*.json"))) == 1
