"""What is to be trained: a frozen description that decides the result, and the name that follows from it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from lib.errors import StudyError, nearest
from lib.models import NORMS, UNet
from lib.provenance import generator
from lib.strategies import STRATEGIES, check_options, freeze
from lib.tasks import get_task

CHECKPOINTS = ("log", "ends")


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the result of a run; device, threads and workers do not belong here.

    Args:
        task: name of the task that is learned.
        strategy: name of the transfer strategy; `scratch` for a first training.
        options: options of the strategy; completed by its defaults.
        source: the run whose final weights the strategy starts from, if it needs one.
        width, depth, norm: the U-Net (see `lib.models.UNet`).
        size: side in pixels to which images are resized.
        volume: number of training images, chosen by seed among those of the fold; None for all.
        seed: initialization, choice and order of the images, augmentation.
        fold: which fold of groups is the test split; the next one is the validation split.
        steps: optimizer steps. batch: images a step.
        lr: peak learning rate (linear warm-up over the first 5 %, then cosine to 0). weight_decay: of AdamW.
        augment: whether training images are flipped, moved, scaled, rotated and re-lit at random.
        patience: stop after so many evaluations without a better validation Dice, and keep the best weights;
            None trains all steps and keeps the last.
        evaluations: how many times the run is evaluated on validation images, evenly spaced, beside step 0.
        checkpoints: `log` keeps steps 0, 1, 4, 16, ... and the end; `ends` the first and the last only.

    Raises:
        StudyError: a name is unknown or a value is out of range; nothing is trained.
    """

    task: str
    strategy: str = "scratch"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    source: RunSpec | None = None
    width: int = 16
    depth: int = 4
    norm: str = "batch"
    size: int = 64
    volume: int | None = None
    seed: int = 0
    fold: int = 0
    steps: int = 400
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-2
    augment: bool = True
    patience: int | None = None
    evaluations: int = 20
    checkpoints: str = "log"

    def __post_init__(self) -> None:
        for name in ("task", "strategy", "norm", "checkpoints"):
            if not isinstance(getattr(self, name), str):
                raise StudyError(f"{name} must be a text, got {getattr(self, name)!r}")
        if not isinstance(self.augment, bool):
            raise StudyError(f"augment must be true or false, got {self.augment!r}")
        self._check_numbers()
        get_task(self.task)
        if self.norm not in NORMS:
            raise StudyError(nearest("normalization", self.norm, NORMS))
        if self.checkpoints not in CHECKPOINTS:
            raise StudyError(nearest("checkpoints", self.checkpoints, CHECKPOINTS))
        object.__setattr__(self, "options", _plain(check_options(self.strategy, self.options)))
        _check_marks(self.strategy, json.dumps(self.options), self.width, self.depth, self.norm)
        strategy = STRATEGIES[self.strategy]
        if strategy.needs_source != (self.source is not None) or not isinstance(self.source, RunSpec | None):
            wants = "needs a source run" if strategy.needs_source else "starts at random and takes no source"
            raise StudyError(f"strategy {self.strategy!r} {wants}, got source={self.source!r}")
        if self.source is not None:
            for name in ("width", "depth", "norm"):
                theirs, ours = getattr(self.source, name), getattr(self, name)
                if theirs != ours:
                    raise StudyError(f"{name} must be that of the source, {theirs!r}, got {ours!r}")

    def _check_numbers(self) -> None:
        for name, least in _LEAST.items():
            if name in ("volume", "patience") and getattr(self, name) is None:
                continue
            value = getattr(self, name)
            whole = name not in ("lr", "weight_decay")
            right_type = isinstance(value, int) if whole else isinstance(value, (int, float))
            if isinstance(value, bool) or not right_type or not least <= value < float("inf"):
                raise StudyError(
                    f"{name} must be {'a whole number' if whole else 'a number'} of at least {least}, got {value!r}"
                )
        for name in ("lr", "weight_decay"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 1 and 1.0 are one run
        if not self.lr > 0:
            raise StudyError(f"lr must be a positive number, got {self.lr!r}")
        if self.evaluations > self.steps:
            raise StudyError(f"evaluations must be at most steps ({self.steps}), got {self.evaluations}")
        one_value = self.norm == "instance" or (self.norm == "batch" and self.batch == 1)
        if one_value and self.size <= 2**self.depth:
            raise StudyError(
                f"size must be more than 2**depth ({2**self.depth}) under norm {self.norm!r}, so that the bottleneck "
                f"has more than one value to normalize over, got {self.size}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values, sources nested."""
        return asdict(self)

    def but(self, **changes: Any) -> RunSpec:
        """A copy with some fields changed."""
        return replace(self, **changes)


_LEAST = {
    "width": 1, "depth": 1, "size": 8, "volume": 1, "seed": 0, "fold": 0, "steps": 1, "batch": 1,
    "lr": 0, "weight_decay": 0, "patience": 1, "evaluations": 1,
}  # fmt: skip


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of a strategy's options as JSON gives them back, so that a spec equals the one read from its file."""
    try:
        return json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StudyError(f"options must be texts, finite numbers, true, false, null or lists, got {options}") from error


@functools.lru_cache(maxsize=256)
def _check_marks(strategy: str, options: str, width: int, depth: int, norm: str) -> None:
    """Let the strategy mark a network without memory: a wrong option is an error now and not after a first training."""
    with torch.device("meta"):
        model = UNet(width=width, depth=depth, norm=norm)
    freeze(model, strategy, json.loads(options), generator(0))


def spec_from_dict(values: Mapping[str, Any]) -> RunSpec:
    """The spec that `RunSpec.to_dict` described.

    Raises:
        StudyError: a field is unknown (with the nearest name), missing or out of range.
    """
    if not isinstance(values, Mapping):
        raise StudyError(f"a run spec must be a table of fields, got {values!r}")
    known = [each.name for each in fields(RunSpec)]
    for name in values:
        if name not in known:
            raise StudyError(nearest("field of a run spec", name, known))
    if "task" not in values:
        raise StudyError("a run spec needs a task")
    source = values.get("source")
    return RunSpec(**{**values, "source": None if source is None else spec_from_dict(source)})


def canonical(spec: RunSpec) -> str:
    """The spec as JSON with sorted keys and no spaces: equal text means an equal run."""
    return json.dumps(spec.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)


def run_id(spec: RunSpec) -> str:
    """Name of the run's folder: task, strategy, volume and seed to be read, eight hex digits of the spec to be sure."""
    volume = "all" if spec.volume is None else f"n{spec.volume}"
    digest = hashlib.sha256(canonical(spec).encode()).hexdigest()[:8]
    return f"{spec.task}-{spec.strategy}-{volume}-s{spec.seed}-{digest}"
