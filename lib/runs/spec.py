"""What is to be trained: a frozen description that decides the result, and the name that follows from it."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lib.common.errors import StudyError, check_keys, nearest
from lib.data.tasks.task import get_task
from lib.imaging.mri import SAMPLING
from lib.networks.stages import Staged
from lib.networks.unet import NORMS
from lib.runs.building import build_network, check_marks, check_network, resolve_map
from lib.runs.foreign_start import check_weights
from lib.runs.ranges import check_numbers, plain
from lib.strategies.strategy import STRATEGIES, check_options

CHECKPOINTS = ("log", "ends")
MODELS = ("unet", "cascade")
ARITHMETICS = ("float32", "bfloat16")
_set = object.__setattr__  # of a spec that is being made
FITTING: Any = None  # stands for what fits the task, and is replaced by it


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the result of a run; device, threads and workers do not belong here.

    Args:
        task: name of the task that is learned.
        strategy: name of the transfer strategy; `scratch` for a first training.
        options: options of the strategy; completed by its defaults.
        source: the run whose final weights the strategy starts from, if it needs one.
        width, depth, norm: the network (see `lib.networks.unet.UNet` and `lib.networks.cascade.Cascade`). Left out,
            depth is 4, in 3-D at most that and so that sides keep 4 voxels; norm is `batch`, in 3-D `instance`.
        size: side in pixels to which images are resized. In 3-D the network sees patches of about as many voxels as a
            cube of that side (see `patch`); simulated volumes are drawn with that side.
        volume: number of training images, chosen by seed among those of the fold; None for all. In a
            reconstruction task it counts 3-D volumes, one per subject, of which all slices are taken.
        seed: initialization, choice and order of the images, augmentation.
        fold: which fold of groups is the test split; the next one is the validation split.
        steps: optimizer steps. batch: images a step: 16 where it is left out, in 3-D 2.
        lr: peak learning rate (linear warm-up over the first 5 %, then cosine to 0). weight_decay: of AdamW.
        augment: whether training images are flipped, moved, scaled, rotated and re-lit at random; in a reconstruction
            task, whether sampled lines and noise are drawn anew at every visit.
        patience: stop after so many evaluations without a better validation score (Dice or PSNR), and keep the best
            weights; None trains all steps and keeps the last.
        evaluations: how many times the run is evaluated on validation images, evenly spaced, beside step 0.
        checkpoints: `log` keeps steps 0, 1, 4, 16, ... and the end; `ends` the first and the last only.
        model: `unet`, or in a reconstruction task `cascade`; or the name or path of a stage map. blocks, shared: of the
            cascade. stage_map: what the map holds (see `lib.networks.stage_map`); left out, it is read from the file.
        weights: a file in the folder `weights` of the study's home that the strategy starts from in place of a source,
            by its name; with its sha256, and the names that a table tells, once the spec is made (see
            `lib.runs.foreign_start.check_weights`).
        acceleration, sampling, coils: what is measured in a reconstruction task (see `lib.training.goals`).
        validation: at most so many validation images are looked at, the same ones for all runs of a fold; None for all.
        arithmetic: of the network, on every device: `float32` (true float32; no TF32 on GPUs), or `bfloat16` under
            autocast. The two give different numbers, so that it belongs to what is trained and not to the machine.
        flat: in 3-D, levels from the top whose kernels and pooling leave the axis of the longest voxels alone (see
            `lib.networks.unet.UNet`); None: what the task's spacing asks for.
        foreground: in 3-D, the share of patches that are laid around a labeled voxel; None: a third.

    Raises:
        StudyError: a name is unknown or a value is out of range; nothing is trained.
    """

    task: str
    strategy: str = "scratch"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    source: RunSpec | None = None
    width: int = 16
    depth: int = FITTING
    norm: str = FITTING
    size: int = 64
    volume: int | None = None
    seed: int = 0
    fold: int = 0
    steps: int = 400
    batch: int = FITTING
    lr: float = 1e-3
    weight_decay: float = 1e-2
    augment: bool = True
    patience: int | None = None
    evaluations: int = 20
    checkpoints: str = "log"
    model: str = "unet"
    blocks: int = 3
    shared: bool = False
    acceleration: float = 4.0
    sampling: str = "random"
    coils: int = 1
    arithmetic: str = "float32"
    validation: int | None = None
    flat: int | None = None
    foreground: float | None = None
    stage_map: Mapping[str, Any] | None = field(default=None, hash=False)
    weights: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        self._find_map()
        if self.norm is FITTING and isinstance(self.task, str) and self.stage_map is None:
            _set(self, "norm", "batch" if self.dim == 2 else "instance")
        own = ("norm",) if self.stage_map is None else ()
        for name in ("task", "strategy", *own, "checkpoints", "model", "sampling", "arithmetic"):
            if not isinstance(getattr(self, name), str):
                raise StudyError(f"{name} must be a text, got {getattr(self, name)!r}")
        for name in ("augment", "shared"):
            if not isinstance(getattr(self, name), bool):
                raise StudyError(f"{name} must be true or false, got {getattr(self, name)!r}")
        check_numbers(self)
        self._fit_dimension()
        self._check_goal()
        if own and self.norm not in NORMS:
            raise StudyError(nearest("normalization", self.norm, NORMS))
        if self.checkpoints not in CHECKPOINTS:
            raise StudyError(nearest("checkpoints", self.checkpoints, CHECKPOINTS))
        _set(self, "options", plain(check_options(self.strategy, self.options)))
        if self.stage_map is not None:
            check_network(self.patch, *self.network_key)
        check_marks(self.strategy, json.dumps(self.options), *self.network_key)
        strategy = STRATEGIES[self.strategy]
        if self.weights is not None:
            _set(self, "weights", check_weights(self.weights))
        started = self.source is not None or self.weights is not None
        if self.source is not None and self.weights is not None:
            raise StudyError("a run starts from a source run or from a file of weights, got both; leave one out")
        if strategy.needs_source != started or not isinstance(self.source, RunSpec | None):
            wants = "needs a source run" if strategy.needs_source else "starts at random and takes no source"
            raise StudyError(f"strategy {self.strategy!r} {wants}, got source={self.source!r}")
        if self.source is not None:
            if self.source.stage_map != self.stage_map:
                raise StudyError(
                    f"model must be that of the source, with the same stage map: {self.source.model!r} on "
                    f"{self.source.task!r}, got {self.model!r} on {self.task!r}"
                )
            for name in _SHAPE:
                theirs, ours = getattr(self.source, name), getattr(self, name)
                if theirs != ours:
                    raise StudyError(
                        f"{name} must be that of the source, {theirs!r} on {self.source.task!r}, got {ours!r} on "
                        f"{self.task!r}; choose another source, or another {name if name in FIELDS else 'task'}"
                    )
            people = get_task(self.task).people
            if people and people == get_task(self.source.task).people and self.source.fold != self.fold:
                raise StudyError(
                    f"fold must be that of the source, {self.source.fold}, got {self.fold}: {self.task!r} and "
                    f"{self.source.task!r} show the same people, and the source would have trained on those of the "
                    "test; in a suite, leave out source_seed"
                )

    def _find_map(self) -> None:
        """Read the stage map of a network from elsewhere, and refuse what only the study's own networks have."""
        if not isinstance(self.model, str) or (self.model in MODELS and self.stage_map is None):
            return
        name, table = resolve_map(self.model, self.stage_map, MODELS)
        _set(self, "model", name)
        _set(self, "stage_map", table)
        for name in _OWN:
            if getattr(self, name) != getattr(RunSpec, name):
                raise StudyError(
                    f"{name}={getattr(self, name)!r} has no meaning for model {self.model!r}, whose stage map says "
                    f"what the network is; leave {name} out"
                )

    def _fit_dimension(self) -> None:
        """Fill in what was left to the task, and refuse what has no meaning in its dimension, or leaves no room."""
        volumes = self.dim == 3
        if not volumes and (self.flat is not None or self.foreground is not None):
            raise StudyError(f"flat and foreground have no meaning for {self.task!r}, whose images are 2-D")
        _set(self, "batch", self.batch or (2 if volumes else 16))
        if volumes:
            _set(self, "foreground", 1 / 3 if self.foreground is None else float(self.foreground))
        if self.stage_map is not None:
            return
        if volumes:
            _set(self, "flat", get_task(self.task).flat if self.flat is None else self.flat)
        unhalved = [0] * (self.dim - 1) + [self.flat or 0]  # levels that leave an axis as it is
        sides = list(zip(self.patch, unhalved, strict=True))
        fitting = min(4, *(int(math.log2(max(1, side / 4))) + kept for side, kept in sides)) if volumes else 4
        _set(self, "depth", self.depth or max(1, fitting, self.flat or 0))
        if (self.flat or 0) > self.depth:
            raise StudyError(f"flat must be at most depth, {self.depth}, got {self.flat}")
        one_value = self.model == "unet" and (self.norm == "instance" or (self.norm == "batch" and self.batch == 1))
        if one_value and all(side <= 2 ** (self.depth - kept) for side, kept in sides):
            raise StudyError(
                f"size must be more than 2**depth ({2**self.depth}) under norm {self.norm!r}, so that the bottleneck "
                f"has more than one value to normalize over, got {self.size}"
            )

    def _check_goal(self) -> None:
        for name, known in (("sampling", SAMPLING), ("arithmetic", ARITHMETICS)):
            if getattr(self, name) not in known:
                raise StudyError(nearest(name, getattr(self, name), known))
        if self.goal == "reconstruction" and STRATEGIES[self.strategy].shuffled:
            raise StudyError(f"strategy {self.strategy!r} shuffles outlines; a reconstruction task has none")
        if self.model == "cascade" and self.goal != "reconstruction":
            raise StudyError(f"model 'cascade' reconstructs, and {self.task!r} is a {self.goal} task; leave model out")
        for name, default in _RECONSTRUCTION.items():
            used = self.goal == "reconstruction" and (self.model == "cascade" or name not in ("blocks", "shared"))
            used |= name == "model" and self.stage_map is not None
            if not used and getattr(self, name) != default:
                raise StudyError(
                    f"{name}={getattr(self, name)!r} has no meaning for model {self.model!r} on {self.task!r}, a "
                    f"{self.goal} task; leave {name} out"
                )

    @functools.cached_property
    def goal(self) -> str:
        """`segmentation` or `reconstruction`: that of the task."""
        return get_task(self.task).goal

    def network(self) -> Staged:
        """The network that is trained, with weights that mean nothing yet."""
        return build_network(*self.network_key)

    @property
    def network_key(self) -> tuple[Any, ...]:
        """What `build_network` makes the network from: equal for specs of the same network."""
        mapped = None if self.stage_map is None else json.dumps(self.stage_map, sort_keys=True)
        return (*(getattr(self, name) for name in _SHAPE), mapped, self.outputs)

    @functools.cached_property
    def dim(self) -> int:
        """2, or 3 where images are volumes: that of the task."""
        return get_task(self.task).dim

    @property
    def patch(self) -> tuple[int, ...]:
        """Sides of what the network sees of an image: all of it; of a volume see `lib.data.tasks.task.Task.patch`."""
        return get_task(self.task).patch(self.size) if self.dim == 3 else (self.size, self.size)

    @property
    def inputs(self) -> int:
        """Channels that the network is given, those of the task's images."""
        return get_task(self.task).inputs

    @property
    def outputs(self) -> int:
        """Channels that the network gives, as the task's labels ask for."""
        return get_task(self.task).outputs

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, sources nested; fields that joined later only off their default: no run is renamed."""
        later = _LATER if self.stage_map is None else {**_LATER, **{name: getattr(RunSpec, name) for name in _OWN}}
        told = (name for name in FIELDS if name not in later or getattr(self, name) != later[name])
        values = {name: getattr(self, name) for name in told}
        values |= {name: copy.deepcopy(value) for name, value in values.items() if isinstance(value, Mapping)}
        return {**values, "source": None if self.source is None else self.source.to_dict()}

    @functools.cached_property
    def text(self) -> str:
        """The spec as JSON with sorted keys and no spaces, made once: equal text means an equal run."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @functools.cached_property
    def digest(self) -> str:
        """A sha256 of `text`, made once: names and files of many runs are held against it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def but(self, **changes: Any) -> RunSpec:
        """A copy with some fields changed."""
        return replace(self, **changes)


_RECONSTRUCTION = {
    name: getattr(RunSpec, name) for name in ("model", "blocks", "shared", "acceleration", "sampling", "coils")
}
_LATER = {**_RECONSTRUCTION, "arithmetic": RunSpec.arithmetic, "validation": None, "flat": None, "foreground": None}
_LATER |= {"stage_map": None, "weights": None}
_SHAPE = ("goal", "dim", "inputs", "width", "depth", "norm", "model", "blocks", "shared", "flat")
_OWN = ("width", "depth", "norm", "flat")  # of the study's own networks; a stage map says what it needs itself
FIELDS = tuple(each.name for each in fields(RunSpec))


def spec_from_dict(values: Mapping[str, Any]) -> RunSpec:
    """The spec that `RunSpec.to_dict` described.

    Raises:
        StudyError: a field is unknown (with the nearest name), missing or out of range.
    """
    if not isinstance(values, Mapping):
        raise StudyError(f"a run spec must be a table of fields, got {values!r}")
    check_keys("field of a run spec", values, FIELDS)
    if "task" not in values:
        raise StudyError("a run spec needs a task")
    source = values.get("source")
    return RunSpec(**{**values, "source": None if source is None else spec_from_dict(source)})


def run_id(spec: RunSpec) -> str:
    """Name of the run's folder: task, strategy, volume and seed to be read, eight hex digits of the spec to be sure."""
    volume = "all" if spec.volume is None else f"n{spec.volume}"
    return f"{spec.task}-{spec.strategy}-{volume}-s{spec.seed}-{spec.digest[:8]}"
