"""Executes one notebook through papermill, and says how it ended from the exception alone.

papermill marks a notebook whose kernel was killed, or whose cell ran out of time, as completed.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from analysis.reports.parameters import Job
from lib.common import paths

STDERR_LINES = 40
KILLED = "The kernel died; was it out of memory?"


@dataclass
class Outcome:
    """How a notebook ended: ok, failed, killed or timed out, and why; stderr holds its last lines there."""

    status: str
    message: str = ""
    seconds: float = 0.0
    stderr: list[str] = field(default_factory=list)


class Lines:
    """A file to write to that hands on every full line, without what a carriage return has overwritten."""

    def __init__(self, emit: Callable[[str], Any]) -> None:
        self.emit, self.rest = emit, ""

    def write(self, text: str) -> None:
        *full, self.rest = (self.rest + text).split("\n")
        for line in full:
            if line.strip():
                self.emit(line.rstrip("\r ").rsplit("\r", 1)[-1])

    def flush(self) -> None:
        """Nothing is held back but the unfinished line."""


def _kernel_manager(stderr: IO[str], started: Callable[[int], Any], threads: int) -> type:
    """A kernel manager that starts this interpreter, and keeps what the kernel process itself writes to stderr."""
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning.local_provisioner import LocalProvisioner

    # Kernels side by side that each take all cores cost several times what threads save them.
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    given = filter(None, [os.environ.get("PYTHONPATH")])  # where modules of the user's own are found
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": os.pathsep.join([str(paths.REPOSITORY), *given])}
    environment.pop("MPLBACKEND", None)  # a backend set outside would leave the reports without figures

    class Manager(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            quiet = ["--IPKernelApp.log_level=CRITICAL", "--HistoryManager.enabled=False"]
            return [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file, *quiet]

        async def start_kernel(self, **options: Any) -> None:
            await super().start_kernel(stderr=stderr, env=environment, **options)
            assert isinstance(self.provisioner, LocalProvisioner)
            assert self.provisioner.pid is not None
            started(self.provisioner.pid)

    return Manager


def execute(
    job: Job,
    output: Path,
    say: Callable[[str], Any],
    timeout: int | None,
    started: Callable[[int], Any],
    threads: int = 1,
) -> Outcome:
    """Execute one notebook into `output`.

    Args:
        job: the notebook and its parameters.
        output: where the executed notebook goes.
        say: takes every line that the notebook prints.
        timeout: seconds one cell may take; None is no limit.
        started: takes the process id of the kernel, for whoever must stop it.
        threads: of the kernel, where `OMP_NUM_THREADS` does not say otherwise.
    """
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # all it would say is said by the outcome
    tail: deque[str] = deque(maxlen=STDERR_LINES)
    raw = output.with_suffix(".stderr")
    begun = time.monotonic()
    loop = ensure_event_loop()  # the one nbclient will use in this thread, so that it can be closed
    with raw.open("w+", errors="replace") as stderr:
        try:
            papermill.execute_notebook(
                str(job.path),
                str(output),
                {name: value for name, value in job.parameters.items() if name in job.given},
                kernel_name="python3",
                progress_bar=False,
                stdout_file=Lines(say),
                stderr_file=Lines(tail.append),
                execution_timeout=timeout,
                coalesce_streams=True,
                # the kernel's folder; papermill's own cwd would change that of all threads
                resources={"metadata": {"path": str(job.path.parent)}},
                kernel_manager_class=_kernel_manager(stderr, started, threads),
            )
            outcome = Outcome("ok")
        except (papermill.PapermillExecutionError, CellExecutionError) as error:
            outcome = Outcome("failed", f"{getattr(error, 'ename', 'error')}: {getattr(error, 'evalue', error)}")
        except CellTimeoutError:
            outcome = Outcome("timed out", f"A cell took longer than {timeout} s, the limit set by --timeout.")
        except DeadKernelError:
            outcome = Outcome("killed", KILLED)
        except RuntimeError as error:  # so jupyter_client says it of a kernel that dies before its first answer
            dead = "Kernel died" in str(error)
            outcome = Outcome("killed", KILLED) if dead else Outcome("failed", f"RuntimeError: {error}")
        except Exception as error:  # whatever else keeps one notebook from running must not cost the others
            outcome = Outcome("failed", f"{type(error).__name__}: {error}")
        stderr.seek(0)
        # what reached the process alone, such as the last words of a crash in compiled code
        tail.extend([line for line in stderr.read().splitlines() if line.strip() and line not in tail])
    loop.close()
    raw.unlink()
    outcome.seconds = time.monotonic() - begun
    outcome.stderr = list(tail)
    return outcome
