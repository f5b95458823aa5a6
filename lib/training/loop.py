"""The training loop: from a spec to a finished run, readable top to bottom, resumable after any crash."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.common.device import device_name, keep_freed_memory, peak_memory_mb, pick_device
from lib.common.provenance import stamp
from lib.data.tasks.images import load_data
from lib.data.tasks.splits import Split
from lib.data.tasks.task import SCORE
from lib.networks.stages import Staged
from lib.runs.listing import check_current
from lib.runs.run import Run, foreign_origin, locked, open_run, run_dir, start_model
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import read_step, remove_orphans, write_tensors
from lib.strategies.frozen_normalization import calibrate, set_training_mode
from lib.strategies.partial_layers import hold_channels
from lib.strategies.strategy import STRATEGIES, trainable
from lib.training.foreign_networks import seed_random_layers
from lib.training.goals.reconstruction import Reconstruction
from lib.training.goals.segmentation import Segmentation
from lib.training.goals.volume_segmentation import VolumeSegmentation
from lib.training.objective import Objective, evaluation_batch
from lib.training.optimizer import BETAS, EPSILON, checkpoint_steps, learning_rate, optimizer_tensors, restore_optimizer
from lib.training.people import check_apart, split_of
from lib.training.record import Record

OBJECTIVES: dict[tuple[str, int], Callable[..., Objective]] = {
    ("segmentation", 2): Segmentation, ("segmentation", 3): VolumeSegmentation, ("reconstruction", 2): Reconstruction,
}  # fmt: skip
Report = Callable[[dict[str, Any]], None]


def silent(event: dict[str, Any]) -> None:
    """A report that tells nobody."""


def train(spec: RunSpec, *, device: str = "auto", report: Report = silent, save_every: float = 10.0) -> Run:
    """Bring the run of a spec to its end: finished is returned, interrupted is resumed, new is trained.

    Sources that are not trained yet are trained first.

    Args:
        device: see `lib.common.device.pick_device`; no part of the spec.
        report: called with a dictionary when the run begins, at every evaluation, and at its end (`kind` is "begins",
            "evaluation", "done", or "waiting" while another process trains the run).
        save_every: seconds of training after which the next evaluation also saves the state to resume from.

    Raises:
        StudyError: data, device or source missing, a damaged or foreign run folder, or a full disk.
    """
    if (run_dir(spec) / "result.json").is_file():
        run = Run(run_dir(spec))
        check_current([run])
        return run
    if spec.source is not None:
        train(spec.source, device=device, report=report, save_every=save_every)
    run = open_run(spec)
    with locked(run.path, lambda: report({"kind": "waiting", "run": run.path.name})):
        if run.result is None:
            report({"kind": "begins", "run": run.path.name, "steps": spec.steps})
            remove_orphans(run.path)
            keep_freed_memory()
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # float32 is to mean the same everywhere
                Training(run, pick_device(device), report, save_every).finish()
        else:  # another process finished it while we waited
            report({"kind": "done", "run": run.path.name, "status": run.result["status"], "steps": spec.steps})
    return run


class Training:
    """The state of one run while it is being trained."""

    def __init__(self, run: Run, device: torch.device, report: Report, save_every: float) -> None:
        self.run, self.spec, self.device, self.report, self.save_every = run, run.spec, device, report, save_every
        self.data = load_data(self.spec.task, self.spec.size)
        self.split: Split = split_of(self.spec, self.data)
        check_apart(self.spec, self.data, self.split)
        self.objective = OBJECTIVES[self.spec.goal, self.spec.dim](self.spec, self.data, self.split, device)
        self.record = Record(run.path, self.spec)
        self.source = None if self.spec.source is None else Run(run_dir(self.spec.source)).start_digest()
        model = start_model(self.spec).to(device)
        # Convolutions are faster with channels last on GPUs; on CPUs only without group or instance normalization.
        last = self.spec.dim == 2 and (device.type == "cuda" or self.spec.norm in ("batch", "none"))
        self.model: Staged = model.to(memory_format=torch.channels_last) if last else model  # type: ignore[call-overload]
        self.remember_start()
        self.moving = {name: each for name, each in self.model.named_parameters() if each.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.moving.values(),
            lr=self.spec.lr,
            betas=BETAS,
            eps=EPSILON,
            weight_decay=self.spec.weight_decay,
            fused=device.type != "mps",
        )
        self.at_once, self.bf16 = evaluation_batch(self.spec), self.spec.arithmetic == "bfloat16"
        self.step, self.seconds = 0, 0.0
        self.best: tuple[float, int] = (-math.inf, 0)  # validation score, step
        self.bad_step, self.loss_sum = torch.full((), -1, device=device), torch.zeros((), device=device)
        spaced = np.linspace(0, self.spec.steps, self.spec.evaluations + 1)
        self.evaluate_at = set(spaced.round().astype(int).tolist())
        self.keep_at = checkpoint_steps(self.spec.steps, self.spec.checkpoints)
        self.diverged_at: int | None = None

    def finish(self) -> None:
        """Train to the end, or to the step at which the run diverges or stops early, and write the result."""
        self.begin()
        while self.goes_on():
            self.one_step(*self.objective.batch(self.step))
            self.step += 1
            self.after_step()
        self.end()

    def begin(self) -> None:
        """Take up the saved state; of a new run measure and keep the start."""
        if not self.resume():
            if self.spec.options.get("calibrate"):
                batches = self.objective.inputs(self.objective.typical).split(self.at_once)
                calibrate(self.model, batches, self.objective.output)
                self.remember_start()
            self.record.write("provenance.json", json.dumps(self.origin(), indent=1) + "\n")
            self.evaluate()
            self.keep()
        self.began, self.saved = time.perf_counter() - self.seconds, time.perf_counter()

    def origin(self) -> dict[str, Any]:
        """Where and by what the run is computed."""
        return {**stamp(self.device), **foreign_origin(self.spec)}

    def goes_on(self) -> bool:
        return self.diverged_at is None and self.step < self.spec.steps and not self.stop_early()

    def after_step(self) -> None:
        """Evaluate, keep and save where it is time to."""
        if self.step in self.evaluate_at:
            bad_step = int(self.bad_step)  # waits for the device, so that the time below is the time it took
            self.seconds = time.perf_counter() - self.began
            if bad_step >= 0 or not self.evaluate():
                at = bad_step if bad_step >= 0 else self.step
                self.diverged_at = at
                self.bad_step.fill_(at)  # part of the state that a stack saves
                return
            self.began = time.perf_counter() - self.seconds  # evaluation is not training time
        if self.step in self.keep_at:
            self.keep()
        if self.step in self.evaluate_at and time.perf_counter() - self.saved >= self.save_every:
            self.save()
            self.saved = time.perf_counter()

    def end(self) -> None:
        if self.diverged_at is None:
            self.done()
        else:
            self.diverged(self.diverged_at)

    def remember_start(self) -> None:
        self.start = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def one_step(self, inputs: Tensor, truth: Tensor) -> None:
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.spec, self.step)
        set_training_mode(self.model)
        seed_random_layers(self.model, self.spec.seed, self.step)
        loss = self.objective.loss(self.output(inputs), truth)
        if STRATEGIES[self.spec.strategy].pull:
            moved = sum(((each - self.start[name]) ** 2).sum() for name, each in self.moving.items())
            loss = loss + self.spec.options["alpha"] / 2 * moved
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        hold_channels(self.model, self.start)
        # Looked at only at evaluations, so that a GPU never waits for the CPU to read a number.
        self.loss_sum += loss.detach()
        new_bad = (self.bad_step < 0) & ~torch.isfinite(loss.detach())
        self.bad_step = torch.where(new_bad, self.step, self.bad_step)

    def output(self, inputs: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.objective.output(self.model, inputs)

    def stop_early(self) -> bool:
        if self.spec.patience is None or not self.record.rows:
            return False
        since = [row for row in self.record.rows if row["step"] > self.best[1]]
        return len(since) >= self.spec.patience

    def predict(self, index: np.ndarray) -> Tensor:
        """What the network makes of the images at `index`, on the device."""
        return self.through(self.objective.inputs(index))

    @torch.no_grad()
    def through(self, inputs: Tensor) -> Tensor:
        self.model.eval()
        return torch.cat([self.output(part) for part in inputs.split(self.at_once)])

    def evaluate(self) -> bool:
        """Validation score and loss at this step, as one line in metrics.jsonl and one report; False if not finite."""
        scores, rows = self.objective.validate(self.predict), self.record.rows
        since = self.step - (rows[-1]["step"] if rows else 0)
        if not math.isfinite(scores["val_loss"]):
            return False
        row = {
            "step": self.step,
            "seconds": round(self.seconds, 3),
            "train_loss": float(self.loss_sum) / since if since else None,
            **scores,
            "lr": learning_rate(self.spec, self.step),
        }
        self.loss_sum.zero_()
        self.record.add(row)
        if (score := row[f"val_{SCORE[self.spec.goal]}"]) > self.best[0]:
            self.best = (score, self.step)
            if self.spec.patience is not None:
                self.save_best()
        left = self.seconds / self.step * (self.spec.steps - self.step) if self.step else math.nan
        self.report({"kind": "evaluation", "run": self.run.path.name, "steps": self.spec.steps, "left": left, **row})
        return True

    def state(self) -> dict[str, Tensor]:
        """All tensors of the network."""
        return self.model.state_dict()

    def keep(self) -> None:
        self.record.keep(self.step, self.state())

    def save(self, name: str = "resume.safetensors") -> None:
        """Write the state to resume from: weights, optimizer, step, losses and the evaluations so far."""
        tensors = {**self.state(), **optimizer_tensors(self.optimizer, self.moving)}
        tensors["loss_sum"], tensors["bad_step"] = self.loss_sum, self.bad_step
        state = {
            "step": self.step, "seconds": self.seconds, "best": self.best, "rows": self.record.rows,
            "data": self.data.digest, "source": self.source, "files": self.record.files,
        }  # fmt: skip
        write_tensors(self.run.path / name, tensors, {"state": json.dumps(state)})

    def resume(self) -> bool:
        """Take up the saved state, if there is one.

        Raises:
            StudyError: it is damaged, or the data are not those that the run began with.
        """
        saved = self.record.saved(self.spec.task, self.data.digest, self.source)
        if saved is None:
            return False
        state, tensors = saved
        self.start = {name: each.to(self.device) for name, each in self.record.start.items()}
        self.model.load_state_dict({name: tensors[name] for name in self.start})
        restore_optimizer(self.optimizer, self.moving, tensors)
        self.loss_sum, self.bad_step = tensors["loss_sum"].to(self.device), tensors["bad_step"].to(self.device)
        if int(self.bad_step) >= 0:
            self.diverged_at = int(self.bad_step)
        self.step, self.seconds = state["step"], state["seconds"]
        self.best = (state["best"][0], state["best"][1])
        return True

    def save_best(self) -> None:
        about = {"step": str(self.step), "run": self.run.path.name}
        write_tensors(self.run.path / "best.safetensors", self.model.state_dict(), about)

    def done(self) -> None:
        if self.spec.patience is not None:
            self.step = self.best[1]
            self.model.load_state_dict(read_step(self.run.path / "best.safetensors", self.step))
        self.keep()
        self.record.drop_later(self.step)
        last = next(row for row in reversed(self.record.rows) if row["step"] <= self.step)
        self.write_result(
            status="done",
            reason=None,
            val={key[4:]: value for key, value in last.items() if key.startswith("val_") and key != "val_loss"},
            test=self.objective.test(self.predict),
            **self.objective.further(self.model, self.start, self.through),
        )

    def diverged(self, step: int) -> None:
        self.write_result(status="diverged", reason=f"the loss was not finite at step {step}", val=None, test=None)

    def write_result(self, **outcome: Any) -> None:
        result = {
            **outcome,
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "trainable": trainable(self.model),
            "parameters": sum(each.numel() for each in self.model.parameters()),
            "images": {part: len(index) for part, index in vars(self.split).items()},
            "data": self.data.digest,
            "source": self.source,
            "peak_mb": round(peak_memory_mb(self.device), 1),
            "device": device_name(self.device),
        }
        self.record.finish(result)
        self.report({"kind": "done", "run": self.run.path.name, "status": outcome["status"], "steps": self.spec.steps})
