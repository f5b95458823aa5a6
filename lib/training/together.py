"""Which runs can be trained together, how many at once, and their training in stacks (see `lib.training.stack`)."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from lib.common.device import pick_device
from lib.common.errors import telling_refusals
from lib.common.seeding import generator
from lib.runs.building import build_network
from lib.runs.run import Run, locked, open_run, run_dir
from lib.runs.spec import RunSpec, run_id
from lib.runs.tensor_files import remove_orphans
from lib.strategies.frozen_normalization import tracking_norms
from lib.strategies.strategy import freeze
from lib.training.foreign_networks import why_alone
from lib.training.loop import Report, silent, train
from lib.training.record import read_state
from lib.training.stack import SAVED, WRITING, Member, Stack

FILL = 256e6  # bytes of the widest map of all runs of a stack: larger stacks are no faster on a GPU
MOST = 256
_FIELDS = ("coils", "size", "batch", "steps", "augment", "arithmetic")


def computation(spec: RunSpec) -> tuple[Any, ...]:
    """What runs must have in common to be trained in one stack; equal tuples mean that they can.

    The network with its factors, which normalizations keep their statistics, sizes, steps and arithmetic. Task, seed,
    source, learning rate, weight decay, and what else the strategy freezes, moves in part or pulls back may differ.
    """
    fields = tuple(getattr(spec, name) for name in _FIELDS)
    return (
        *fields,
        *((spec.task, spec.foreground) if spec.dim == 3 else ()),  # windows of one stack come from the same volumes
        spec.network_key,
        *_structure(spec.strategy, json.dumps(spec.options, sort_keys=True), spec.network_key),
    )


def stacks(specs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """Runs by computation, in stacks as large as a GPU is well filled by; a large network is alone in its stack."""
    groups: dict[tuple[Any, ...], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(computation(spec), []).append(spec)
    found = []
    for group in groups.values():
        width_of_map = 4 * group[0].batch * math.prod(group[0].patch) * group[0].width
        most = max(1, min(MOST, int(FILL // width_of_map)))
        found += [group[first : first + most] for first in range(0, len(group), most)]
    return found


@functools.lru_cache(maxsize=256)
def _structure(strategy: str, options: str, network: tuple[Any, ...]) -> tuple[Any, ...]:
    with torch.device("meta"):
        model = build_network(*network)
    freeze(model, strategy, json.loads(options), generator(0))
    shapes = tuple((name, tuple(each.shape)) for name, each in model.state_dict().items())
    return shapes, tuple(module.tracks for _, module in tracking_norms(model)), getattr(model, "skips", None)


def settle(runs: Sequence[Run]) -> None:
    """Leave every run the last state that all of them have, where saving was interrupted.

    A state that some of the runs lack is from a save that was not finished, and is deleted.
    """
    saved = {run.path: {name: _saved_step(run, name) for name in (SAVED, WRITING)} for run in runs}
    common = set.intersection(*({step for step in steps.values() if step is not None} for steps in saved.values()))
    for path, steps in saved.items():
        if steps[WRITING] is not None and common and steps[WRITING] == max(common):
            os.replace(path / WRITING, path / SAVED)
        (path / WRITING).unlink(missing_ok=True)


def _saved_step(run: Run, name: str) -> int | None:
    if not (run.path / name).is_file():
        return None
    return int(read_state(run.path / name)[0]["step"])


def _least(device: torch.device) -> int:
    """How few runs are worth a stack: on a GPU a single one, because a stack's step is recorded and replayed there."""
    return 1 if device.type == "cuda" else 2


def train_stack(
    specs: Sequence[RunSpec], *, device: str = "auto", report: Report = silent, save_every: float = 10.0
) -> list[Run]:
    """Bring runs of one `computation` to their ends, together; each as `train` would leave it.

    Finished runs are left alone, and sources are trained first. Runs of a network from elsewhere that cannot be stacked
    are trained one after the other, and reported as `alone` with the reason. What `train` says of devices, reports and
    errors holds.
    """
    unique = {run_id(spec): spec for spec in specs}
    with telling_refusals(next(iter(unique), "no run")):
        return _train_all(unique, device, report, save_every)


def _train_all(unique: Mapping[str, RunSpec], device: str, report: Report, save_every: float) -> list[Run]:
    missing = [spec for spec in unique.values() if not (run_dir(spec) / "result.json").is_file()]
    for spec in missing:
        if spec.source is not None:
            train(spec.source, device=device, report=report, save_every=save_every)
    alone = why_alone(missing[0]) if missing else None
    if alone:
        for spec in missing:
            report({"kind": "alone", "run": run_id(spec), "reason": alone})
    elif len(missing) >= _least(pick_device(device)):
        _train_in_memory(missing, pick_device(device), report, save_every)
    return [train(spec, device=device, report=report, save_every=save_every) for spec in unique.values()]


def _train_in_memory(specs: Sequence[RunSpec], device: torch.device, report: Report, save_every: float) -> None:
    """Train together as many as the memory of the device holds, and the others after them."""
    try:
        _train_together(specs, device, report, save_every)
        return
    except torch.OutOfMemoryError:
        report({"kind": "too large", "runs": len(specs)})
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if len(specs) == 1:
        return
    half = (len(specs) + 1) // 2
    for part in (specs[:half], specs[half:]):
        if len(part) >= _least(device):
            _train_in_memory(part, device, report, save_every)


def _train_together(specs: Sequence[RunSpec], device: torch.device, report: Report, save_every: float) -> None:
    with contextlib.ExitStack() as held:
        runs = []
        for run in sorted((open_run(spec) for spec in specs), key=lambda each: each.path):  # one order: no deadlock
            waiting = functools.partial(report, {"kind": "waiting", "run": run.path.name})
            held.enter_context(locked(run.path, waiting))
            if run.result is None:
                runs.append(run)
        if len(runs) < _least(device):
            return
        held.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
        settle(runs)
        members = []
        for run in runs:
            report({"kind": "begins", "run": run.path.name, "steps": run.spec.steps})
            remove_orphans(run.path)
            member = Member(run, device, report, math.inf)
            member.size = len(runs)
            member.begin()
            members.append(member)
        for step in sorted({member.step for member in members}):
            alive = [member for member in members if member.step == step and member.goes_on()]
            for member in members:
                if member.step == step and member not in alive:
                    member.end()
            while len(alive) >= _least(device):
                alive = Stack(alive).train(save_every)
