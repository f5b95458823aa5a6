"""The engine `dask`: runs and stacks on the workers of a Dask cluster, that share the folder of runs and nothing else.

A worker trains one unit at a time, on its GPU or its cores. Whatever is lost (a worker, a job at its wall time, the
scheduler, this process) costs the steps since the last saved state of what was being trained: a run's folder is held by
a lock of the kernel, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.errors import StudyError, check_keys, nearest
from lib.common.outside import is_file, read_toml
from lib.networks.foreign import TRUST
from lib.runs.spec import RunSpec, run_id
from lib.study.engines import ENGINES, TOGETHER, RunFailed, cores, threads_each
from lib.training.loop import Report, silent

TOPIC = "palimpsest"
LOST = 1000  # workers that a unit may lose: a suite takes longer than many jobs' wall times
SILENCE = 30.0  # seconds after which waiting for a queue is said again
_KEYS = ("kind", "jobs", "mem_per_cpu", "cluster")


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise StudyError(
            "the engine dask needs the packages distributed and, for a batch system, dask-jobqueue: "
            "pip install distributed dask-jobqueue"
        ) from error
    return distributed


class OnDask:
    """Train on a Dask cluster.

    Args:
        cluster: `local` (processes of this machine), the address of a scheduler (`tcp://host:8786`), or a TOML file of
            a batch system: `kind` (slurm, pbs, lsf, sge, ...), `jobs` (how many at once), `[cluster]` (arguments of
            that class of dask-jobqueue), and for SLURM sites that refuse `--mem`, `mem_per_cpu`.
        workers: of a local cluster; None is one per core on a CPU, one on a GPU.

    Raises:
        StudyError: a package, the scheduler or a file is missing, or the file holds something unknown.
    """

    def __init__(
        self, *, device: str = "auto", report: Report = silent, cluster: str = "local", workers: int | None = None
    ) -> None:
        self.device, self.report, self.where = device, report, cluster
        self.distributed = _distributed()
        if workers is None:
            from lib.common.device import pick_device

            workers = cores() if pick_device(device).type == "cpu" else 1
        self.workers = workers
        self.threads = threads_each(workers) if cluster == "local" else None
        self._ended = threading.Event()

    def __enter__(self) -> OnDask:
        from dask import config

        config.set({
            "distributed.scheduler.allowed-failures": LOST, "distributed.comm.timeouts.connect": "20s",
            "distributed.worker.daemon": False,
        })  # fmt: skip
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is told by the runs
        self.cluster: Any = None
        if self.where == "local":
            self.cluster = self.distributed.LocalCluster(
                n_workers=self.workers, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR"
            )
        elif self.where.endswith(".toml"):
            self.cluster = batch_system(Path(self.where))
        try:
            self.client = self.distributed.Client(self.cluster or self.where, timeout="20s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise StudyError(
                f"no scheduler answers at {self.where} ({error}); is it running, is that its address?"
            ) from error
        self.client.subscribe_topic(TOPIC, self._heard)
        threading.Thread(target=self._wait_for_workers, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(Exception):  # a scheduler that is gone cannot be told
            self.client.close(timeout=5)
        if self.cluster is not None:
            self.cluster.close(timeout=20)

    def submit(self, spec: RunSpec) -> Future[str]:
        """Train the run on the next free worker."""
        return self.submit_stack([spec])

    def submit_stack(self, specs: Sequence[RunSpec]) -> Future[str]:
        """Train the runs together on the next free worker."""
        outer: Future[str] = Future()
        name = f"{run_id(specs[0])}-{uuid.uuid4().hex}"
        inner = self.client.submit(
            train_unit, [spec.to_dict() for spec in specs], str(paths.home()), str(paths.data_root()), self.device,
            self.threads, os.environ.get(TRUST, ""), key=name, pure=False, retries=0,
        )  # fmt: skip
        inner.add_done_callback(lambda done: self._done(done, list(specs), outer))
        return outer

    def _done(self, inner: Any, specs: list[RunSpec], outer: Future[str]) -> None:
        more = f" and {len(specs) - 1} more" if len(specs) > 1 else ""
        if inner.status == "finished":
            status, reason = inner.result()
            if reason is None:
                outer.set_result(status)
            else:
                outer.set_exception(RunFailed(reason))
            return
        why = f"was {inner.status}" if inner.status != "error" else f"failed: {inner.exception()}"
        outer.set_exception(
            RunFailed(f"{run_id(specs[0])}{more} {why} on the cluster; the same command goes on from what was saved")
        )

    def _heard(self, event: tuple[float, Any]) -> None:
        self.report(event[1])

    def _wait_for_workers(self) -> None:
        """Say that there is no worker yet, as long as there is none: a queue may take hours."""
        began = said = time.monotonic()
        while not self._ended.wait(1.0):
            with contextlib.suppress(Exception):
                if self.client.scheduler_info()["workers"]:
                    return
            if time.monotonic() - said > SILENCE:
                said = time.monotonic()
                self.report({"kind": "queue", "seconds": said - began})


def _jobqueue(file: Path) -> Any:
    """The package dask-jobqueue, which takes Ctrl-C for itself as it is imported: it is given back."""
    before = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise StudyError(f"{file.name} needs the package dask-jobqueue: pip install dask-jobqueue") from error
    signal.signal(signal.SIGINT, before)
    return dask_jobqueue


def batch_system(file: Path) -> Any:
    """The cluster of a batch system that a TOML file describes, which replaces workers whose jobs end.

    Raises:
        StudyError: the file or the package is missing, or something in it is unknown.
    """
    if not is_file(file):
        raise StudyError(f"there is no file {file}; a cluster is local, an address, or a TOML file")
    dask_jobqueue = _jobqueue(file)
    table = read_toml(file)
    check_keys("key of a cluster", table, _KEYS)
    kinds = {name.removesuffix("Cluster").lower(): name for name in dir(dask_jobqueue) if name.endswith("Cluster")}
    kind, jobs, own = table.get("kind"), table.get("jobs"), table.get("cluster", {})
    if not isinstance(kind, str) or kind not in kinds:
        raise StudyError(f"{file.name}: {nearest('kind of cluster', str(kind), sorted(kinds))}")
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise StudyError(f"{file.name}: jobs must be a whole number of at least 1, got {jobs!r}")
    arguments: dict[str, Any] = {"cores": 1, "processes": 1, **own}
    if "mem_per_cpu" in table:
        arguments["job_directives_skip"] = [*own.get("job_directives_skip", []), "--mem"]
        extra = [*own.get("job_extra_directives", []), f"--mem-per-cpu={table['mem_per_cpu']}"]
        arguments["job_extra_directives"] = extra
    try:
        made = getattr(dask_jobqueue, kinds[kind])(**arguments)
    except (TypeError, ValueError) as error:
        raise StudyError(f"{file.name}: {kinds[kind]} of dask-jobqueue refuses this: {error}") from error
    submit = shlex.split(made.job_cls.submit_command or "")
    if submit and shutil.which(submit[0]) is None:
        made.close()
        raise StudyError(f"{file.name}: there is no {submit[0]} on this machine; start this where jobs are submitted")
    made.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # a job that ended is followed by another
    return made


def train_unit(
    specs: list[dict[str, Any]], home: str, data_root: str, device: str, threads: int | None, trusted: str = ""
) -> tuple[str, str | None]:
    """What a worker does: train a run, or a stack; its status and, where it could not be trained, the reason."""
    os.environ["STUDY_HOME"], os.environ["STUDY_DATA"], os.environ[TRUST] = home, data_root, trusted
    import torch
    from distributed import get_worker

    from lib.runs.spec import spec_from_dict
    from lib.training.together import train_stack

    worker = get_worker()
    torch.set_num_threads(threads or worker.state.nthreads)
    try:
        runs = train_stack(
            [spec_from_dict(each) for each in specs], device=device, report=lambda event: worker.log_event(TOPIC, event)
        )
    except StudyError as error:
        return "failed", str(error)
    return (TOGETHER if len(runs) > 1 else (runs[0].result or {})["status"]), None


ENGINES.add("dask", OnDask)
