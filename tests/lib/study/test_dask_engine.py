"""The engine `dask`: workers, schedulers and jobs are lost, and no run is; a batch system is a stand-in on the PATH."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from lib.common.errors import StudyError
from lib.runs.listing import list_runs
from lib.runs.run import run_dir
from lib.runs.spec import run_id
from lib.study.dask_engine import OnDask, batch_system
from lib.study.engines import TOGETHER, RunFailed
from lib.study.plan import finished_runs, load_suite, missing_runs, train_suite
from lib.study.suite import Suite
from lib.training.loop import train

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.usefixtures("blobs_as_data"),
    pytest.mark.filterwarnings("ignore"),  # of packages that are none of ours
]


def outcome(run: Any) -> dict[str, Any]:
    found = tiny.outcome(run)
    del found["result"]["device"]  # says how many threads there were
    return found


def test_runs_and_stacks_are_trained_and_tell_how_they_ended() -> None:
    told: list[dict[str, Any]] = []
    specs = [tiny.spec(seed=each) for each in range(3)]
    with OnDask(device="cpu", report=told.append, workers=1) as pool:
        stack = pool.submit_stack(specs[:2])
        diverged, failed = pool.submit(tiny.spec(lr=1e30)), pool.submit(tiny.spec(fold=5))
        assert stack.result(60) == TOGETHER
        assert pool.submit(specs[2]).result(60) == "done"
        assert diverged.result(60) == "diverged"
        with pytest.raises(RunFailed, match="fold must be between 0 and 4"):
            failed.result(60)
        deadline = time.monotonic() + 10  # events come on their own way
        while len([each for each in told if each["kind"] == "done"]) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert {event["run"] for event in told if event["kind"] == "done"} == {
        run_id(spec) for spec in [*specs, tiny.spec(lr=1e30)]
    }


def test_a_killed_worker_costs_no_run() -> None:
    spec = tiny.spec(steps=1500, evaluations=300)
    expected = outcome(train(spec.but(seed=0), device="cpu"))
    shutil.rmtree(run_dir(spec))
    seen = threading.Event()

    def report(event: dict[str, Any]) -> None:
        if event["kind"] == "evaluation" and event["step"] > 100:
            seen.set()

    with OnDask(device="cpu", report=report, workers=1) as pool:
        pool.threads = _threads()
        future = pool.submit(spec)
        for _ in range(2):
            seen.clear()
            assert seen.wait(60)
            for pid in pool.client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)
        assert future.result(120) == "done"
    (run,) = list_runs()
    assert outcome(run) == expected


def _threads() -> int:
    import torch

    return torch.get_num_threads()


@contextlib.contextmanager
def started_scheduler(file: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers as processes of their own: the address, and all, the scheduler first."""
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    where = ["--scheduler-file", str(file), "--no-dashboard"]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", *where]
    processes = [subprocess.Popen(command, **quiet)]
    deadline = time.monotonic() + 60
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", *where]
    processes += [subprocess.Popen(command, **quiet) for _ in range(workers)]
    yield json.loads(file.read_text())["address"], processes
    for each in reversed(processes):
        each.kill()
        each.wait()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    with started_scheduler(tmp_path / "scheduler.json", workers=1) as started:
        yield started


def test_a_scheduler_that_is_lost_is_said_and_the_next_call_goes_on(
    scheduler: tuple[str, list[subprocess.Popen[bytes]]],
) -> None:
    address, processes = scheduler
    spec = tiny.spec(steps=4000, evaluations=800)
    begun = threading.Event()

    def report(event: dict[str, Any]) -> None:
        if event["kind"] == "evaluation" and event["step"] > 50:
            begun.set()

    with OnDask(device="cpu", report=report, cluster=address) as pool:
        future = pool.submit(spec)
        assert begun.wait(60)
        processes[0].kill()
        with pytest.raises(RunFailed, match="the same command goes on from what was saved"):
            future.result(60)
    processes[1].kill()
    processes[1].wait()
    assert (train(spec, device="cpu").result or {})["status"] == "done"


def test_a_scheduler_that_is_not_there_is_said() -> None:
    with (
        pytest.raises(StudyError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"),
        OnDask(device="cpu", cluster="tcp://127.0.0.1:9"),
    ):
        pass


# ---- batch systems ------------------------------------------------------------------------------------------------

SBATCH = """#!/bin/sh
cp "$1" {folder}/script.$$
setsid sh {folder}/script.$$ >> {folder}/log 2>&1 &
echo $! >> {folder}/jobs
echo "Submitted batch job $!"
"""
CLUSTER = """
kind = "slurm"
jobs = 2
mem_per_cpu = "1G"
[cluster]
cores = 1
memory = "1GB"
walltime = "00:10:00"
queue = "short"
interface = "lo"
"""


def needs_jobqueue() -> None:
    """Looked for and not imported, which would take interrupts from the tests that follow."""
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("dask-jobqueue is not installed")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`sbatch` and `scancel` that start a copy of the job's script at once, and end it."""
    needs_jobqueue()
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (
        ("sbatch", SBATCH.format(folder=folder)),
        ("scancel", '#!/bin/sh\nfor each in "$@"; do kill -- -"$each" 2>/dev/null; done; exit 0\n'),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    yield folder
    for job in (folder / "jobs").read_text().split() if (folder / "jobs").is_file() else ():
        subprocess.run(["kill", "--", f"-{job}"], capture_output=True, check=False)


def test_on_slurm_jobs_train_and_a_job_that_ended_is_replaced(slurm: Path, tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text(CLUSTER)
    specs = [tiny.spec(seed=each, steps=600, evaluations=100) for each in range(3)]
    with OnDask(device="cpu", cluster=str(file)) as pool:
        futures = [pool.submit(spec) for spec in specs]
        deadline = time.monotonic() + 60
        while not list_runs() and time.monotonic() < deadline:
            time.sleep(0.1)
        first = (slurm / "jobs").read_text().split()[0]
        subprocess.run(["kill", "-9", "--", f"-{first}"], check=False)  # its wall time has come
        assert [future.result(120) for future in futures] == ["done"] * 3
        deadline = time.monotonic() + 60
        while len((slurm / "jobs").read_text().split()) < 3 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len((slurm / "jobs").read_text().split()) >= 3
    script = next(slurm.glob("script.*")).read_text()
    assert "#SBATCH --mem-per-cpu=1G" in script
    assert "#SBATCH --mem=" not in script
    assert "#SBATCH -t 00:10:00" in script
    assert "#SBATCH -p short" in script


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("jobs = 2", "jobs = 0"), "jobs must be a whole number of at least 1, got 0"),
        (('kind = "slurm"', 'kind = "slurn"'), "unknown kind of cluster 'slurn'; did you mean 'slurm'"),
        (("jobs = 2", "job = 2"), "unknown key of a cluster 'job'"),
        (('queue = "short"', "queues = 3"), "SLURMCluster of dask-jobqueue refuses this"),
        (("jobs = 2", "jobs = "), "cluster.toml is not valid TOML: Invalid value"),
    ],
)
def test_mistakes_in_the_file_of_a_cluster(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    needs_jobqueue()
    file = tmp_path / "cluster.toml"
    file.write_text(CLUSTER.replace(*change))
    with pytest.raises(StudyError, match=message):
        batch_system(file)
    with pytest.raises(StudyError, match="there is no file"):
        batch_system(tmp_path / "none.toml")


def test_a_machine_without_the_batch_system_is_told_at_once(tmp_path: Path) -> None:
    needs_jobqueue()
    file = tmp_path / "cluster.toml"
    file.write_text(CLUSTER)
    with pytest.raises(StudyError, match=r"cluster\.toml: there is no sbatch on this machine"):
        batch_system(file)


def test_an_interrupt_is_still_one_after_a_batch_system_was_asked_for(tmp_path: Path) -> None:
    needs_jobqueue()
    file = tmp_path / "cluster.toml"
    file.write_text(CLUSTER.replace("jobs = 2", "jobs = 0"))
    code = f"""
import contextlib, pathlib, signal, sys
from lib.common.errors import StudyError
from lib.study.dask_engine import batch_system
with contextlib.suppress(StudyError):
    batch_system(pathlib.Path({str(file)!r}))
assert "dask_jobqueue" in sys.modules
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


# ---- many kills ---------------------------------------------------------------------------------------------------


def trained_by_local(suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the engine `local` makes of a suite, by run; leaves an empty home that has its drawn images."""
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "local"))
    assert train_suite(suite, device="cpu", workers=2, show=lambda line: None) == []
    expected = {run.path.name: outcome(run) for run in finished_runs(suite, None)}
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "dask"))
    (tmp_path / "dask" / "data").mkdir(parents=True)
    (tmp_path / "dask" / "data" / "simulated").symlink_to(tmp_path / "local" / "data" / "simulated")
    return expected


@pytest.mark.slow
def test_smoke_with_twenty_killed_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four workers, of which one is killed every second: every run is there, and is what `local` makes of it."""
    suite, draw, kills = load_suite("smoke"), random.Random(3), [0]
    expected = trained_by_local(suite, monkeypatch, tmp_path)
    original = OnDask.__enter__

    def endangered(self: OnDask) -> OnDask:
        original(self)
        self.threads = 1

        def kill() -> None:
            while kills[0] < 20 and not self._ended.wait(draw.uniform(0.5, 1.5)):
                pids = list(self.client.run(os.getpid).values())
                if pids:
                    os.kill(draw.choice(pids), signal.SIGKILL)
                    kills[0] += 1

        threading.Thread(target=kill, daemon=True).start()
        return self

    monkeypatch.setattr(OnDask, "__enter__", endangered)
    assert train_suite(suite, engine="dask", device="cpu", workers=4, show=lambda line: None) == []
    assert missing_runs(suite) == []
    with capsys.disabled():
        print(f"\n{kills[0]} workers killed, {len(expected)} results compared")
    assert {run.path.name: outcome(run) for run in finished_runs(suite, None)} == expected
    assert kills[0] >= 10


@pytest.mark.slow
def test_smoke_with_twenty_killed_schedulers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scheduler that dies some seconds into every call, until twenty have; then one that lives."""
    suite, draw, kills = load_suite("smoke"), random.Random(4), 0
    expected = trained_by_local(suite, monkeypatch, tmp_path)
    calls = 0
    while missing_runs(suite):
        calls += 1
        assert calls < 60
        with started_scheduler(tmp_path / f"scheduler-{calls}.json", workers=3) as (address, processes):
            call = subprocess.Popen(
                [sys.executable, "-m", "lib", "train", "smoke", "--device", "cpu",
                 "--engine", "dask", "--cluster", address],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            if kills < 20:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    call.wait(draw.uniform(5, 9))
                if call.poll() is None:
                    processes[0].kill()
                    kills += 1
            assert call.wait(300) in (0, 1, 2)
            assert call.stderr is not None
            said = call.stderr.read()
            assert "Traceback" not in said, said
    with capsys.disabled():
        print(f"\n{kills} schedulers killed in {calls} calls, {len(expected)} results compared")
    assert {run.path.name: outcome(run) for run in finished_runs(suite, None)} == expected
    assert kills >= 5
