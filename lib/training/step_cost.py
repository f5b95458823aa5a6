"""What a training step costs on the machine at hand: seconds and memory of runs, measured side by side.

A step is the loop's own: forward and backward pass and the optimizer, with everything frozen that the strategy freezes.
The making of its images is left out, which is the same for all.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lib.common.device import keep_freed_memory, pick_device
from lib.runs.run import Run
from lib.runs.seal import spec_text
from lib.runs.spec import RunSpec, run_id
from lib.strategies.strategy import trainable
from lib.training.loop import Training, silent

WARM_UP, ROUNDS = 2, 8  # steps that are not timed, and steps that are


class StepCost(NamedTuple):
    """trainable: parameters that move. seconds: of one step, median. megabytes: memory of one step beside the weights.

    On CUDA these are the most that was allocated during the step, beyond what was there before, and the optimizer's
    state. Elsewhere they are counted: what the forward pass keeps for the backward pass (weights left out), gradients
    and the optimizer's state. That is less than the peak, since tensors that live for a moment are not in it.
    """

    trainable: int
    seconds: float
    megabytes: float


def step_costs(specs: Mapping[str, RunSpec], *, device: str = "auto", rounds: int = ROUNDS) -> dict[str, StepCost]:
    """The costs of one step of every run, by its name. Nothing is written, and no run goes on from here.

    Steps of all runs are taken in turns, so that a busy machine slows all of them alike.

    Raises:
        StudyError: a run cannot begin: no such device, or a source that is not trained, say.
    """
    where = pick_device(device)
    keep_freed_memory()
    begun = {name: _begun(spec, where) for name, spec in specs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in specs}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for number in range(WARM_UP + rounds):
            for name, training in begun.items():
                batch = training.objective.batch(number)
                _wait(where)
                began = time.perf_counter()
                training.one_step(*batch)
                _wait(where)
                if number >= WARM_UP:
                    seconds[name].append(time.perf_counter() - began)
        return {
            name: StepCost(
                trainable(training.model), statistics.median(seconds[name]), _step_bytes(training, rounds) / 1e6
            )
            for name, training in begun.items()
        }


def _begun(spec: RunSpec, device: torch.device) -> Training:
    """The run of a spec before its first step, in a folder that is gone already."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / run_id(spec)
        folder.mkdir()
        (folder / "spec.json").write_text(spec_text(spec))
        return Training(Run(folder), device, silent, math.inf)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _step_bytes(training: Training, step: int) -> int:
    """Bytes of one more step; see `StepCost`."""
    state = sum(
        each.numel() * each.element_size()
        for kept in training.optimizer.state.values()
        for each in kept.values()
        if isinstance(each, Tensor)
    )
    training.optimizer.zero_grad(set_to_none=True)
    batch = training.objective.batch(step)
    if training.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(training.device)
        before = torch.cuda.memory_allocated(training.device)
        training.one_step(*batch)
        return torch.cuda.max_memory_allocated(training.device) - before + state
    own = {each.untyped_storage().data_ptr() for each in training.model.state_dict(keep_vars=True).values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # several tensors may look at one, which is held once until it is needed
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        training.one_step(*batch)
    gradients = [each.grad for each in training.moving.values() if each.grad is not None]
    return sum(kept.values()) + state + sum(each.numel() * each.element_size() for each in gradients)
