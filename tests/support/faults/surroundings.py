"""What surrounds a study and fails it: a server of originals, a cluster, and whoever changes files of a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

from faults.attempt import Try
from faults.originals import FAULTS
from faults.processes import Child


def bad_download(this: Try) -> list[Child]:
    command, fault = this.begin("fetch"), this.draw.choice(FAULTS)
    every, left = this.draw.choice([1, 2, 3]), this.draw.choice([1, 2, 99])
    this.note = f"{fault}, every {every}. answer, {left} at most"
    this.originals.plan(fault, every, left)
    child = this.study.commands.run(this.home, command)
    this.originals.plan("")
    return [child]


def not_its_own(this: Try) -> list[Child]:
    """A file of a run is another's, cut, a folder or a link to nowhere; told, and mended by deleting the run."""
    this.begin("train")
    shutil.rmtree(this.home)
    shutil.copytree(this.study.homes["train"], this.home)
    command = this.study.command("train", this.home)
    folder, other = this.draw.sample(sorted((this.home / "runs").glob("blobs-scratch*")), 2)
    names = ["result.json", "spec.json", "metrics.jsonl", "checkpoints/step-000000.safetensors", "provenance.json"]
    name, what = this.draw.choice(names), this.draw.choice(["folder", "another run's", "cut", "link to nowhere"])
    this.note = f"{name}: {what}"
    file, before = folder / name, (folder / name).read_bytes()
    if what == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        file.unlink()
    if what == "folder":
        file.mkdir()
    elif what == "another run's":
        shutil.copy(other / name, file)
    elif what == "link to nowhere":
        file.symlink_to("nowhere")
    this.landed = not file.is_file() or file.read_bytes() != before  # two runs may hold the same provenance
    if this.draw.random() < 0.2:
        shutil.rmtree(folder)
        folder.symlink_to("nowhere")
        this.landed = True
        this.note = "the run's folder: link to nowhere"
    here = [this.study.commands.run(this.home, line.split()) for line in ("lib runs", "lib runs --verify")]
    children = [*here, this.study.commands.run(this.home, command)]
    others = [each.name for each in (this.home / "runs").iterdir() if each != folder]
    hidden = [each for each in others if each not in here[0].said()]
    this.wrong = f"runs hides {hidden}" if hidden or here[0].code else ""
    if folder.name not in here[1].said() or here[1].code != 1:
        this.wrong += " runs --verify does not tell it"
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)
    return children


def cluster(this: Try) -> list[Child]:
    """A worker of a cluster, or its scheduler, is lost."""
    command, lost, after = this.begin("train"), this.draw.choice(["worker", "scheduler"]), this.draw.uniform(0, 8)
    file, quiet = this.place / "scheduler.json", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"PYTHONPATH": str(this.study.commands.repository)}
    parts: dict[str, subprocess.Popen[bytes]] = {}
    where = ["--scheduler-file", str(file)]
    options = {"scheduler": ["--port", "0", "--no-dashboard"], "worker": ["--nthreads", "1", "--no-nanny"]}
    try:
        for part in ("scheduler", "worker", "other worker"):
            module = f"distributed.cli.dask_{part.split()[-1]}"
            arguments = [sys.executable, "-m", module, *options[part.split()[-1]], *where]
            parts[part] = subprocess.Popen(arguments, env=environment, cwd=this.place, **quiet)
            end = time.monotonic() + 60
            while not file.is_file() and time.monotonic() < end:
                time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        engine = ["--engine", "dask", "--cluster", address, "--device", "cpu"]
        child = this.study.commands.begin(this.home, command[: command.index("--engine")] + engine)
        end = time.monotonic() + 60
        while "begins" not in child.said() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(after)
        this.note = f"{lost}, {after:.1f} s after the first run began"
        parts[lost].kill()
        this.study.commands.wait(child)
    finally:
        for part in parts.values():
            part.kill()
            part.wait()
    return [child]
