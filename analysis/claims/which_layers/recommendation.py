"""Which layers should move? Sets of layers ranked before any training, by how a network takes a few target images.

Three cheap signals per set, each from one or a few passes over the images: how large its gradients are beside its
weights, how far the two domains lie apart in its activations, and what a first step of it would gain on images that
the step did not see. `agreement` holds the ranking against runs that were trained, `set_costs` says what each costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.claims.which_layers.layer_sets import WHOLE, set_label
from lib.common.errors import StudyError
from lib.data.tasks.images import images_at, load_data, standardize
from lib.data.tasks.splits import split
from lib.data.tasks.task import get_task
from lib.networks.stages import Staged
from lib.runs.outputs import network_output
from lib.runs.run import Run, start_model
from lib.runs.spec import RunSpec
from lib.strategies.catalog import subset_stages
from lib.strategies.strategy import check_options
from lib.training.goals.segmentation import regions_table, segmentation_loss
from lib.training.step_cost import step_costs

SIGNALS = ("gain", "gradient", "shift")
COSTS = ("step_ms", "step_ratio", "memory_mb", "memory_ratio")
ALL = "all layers"  # beside which sets are measured
HALVES = 4  # random halvings of the target images
IMAGES = 40  # of either domain are looked at, at most
WINDOWS = 8  # the same of volumes, whose windows hold many times the values of an image


def common_layer_sets(model: Staged) -> dict[str, list[str]]:
    """The sets a practitioner would pick from, by name: both ends of both orderings, and both halves."""
    half, groups = len(model.encoder), {"path": len(model.stages), "level": len(model.levels)}
    wanted = [("path", min(2, half)), ("path", half), ("level", max(1, min(2, groups["level"] - 1)))]
    sets = {}
    for order, count in wanted:
        for side in ("shallow", "deep"):
            options = check_options("layer_subset", {"order": order, "side": side, "count": count})
            sets[set_label(order, side, count, groups[order])] = subset_stages(model, options)
    return sets


def rank_layer_sets(
    source: Run,
    task: str,
    *,
    volume: int | None = 20,
    seed: int = 0,
    fold: int = 0,
    sets: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Sets of layers of a source network, the most promising first, from the training images of a target task.

    Args:
        volume, seed, fold: choose the training images, as in a run's spec.
        sets: names of stages by a name of the set; default: `common_layer_sets`.

    Returns:
        One row per set: set, stages, parameters, and the signals. gain (ranks the table): by how much the loss on one
        half of the images falls, to first order, per unit of learning rate, when the set takes Adam's first step (the
        sign of its gradient) on the other half; a mean over random halvings. gradient: norm of the set's gradient /
        norm of its weights. shift: distance of the source's and the target's channel means in the set's activations,
        in standard deviations, a mean over channels and stages. combined: 1 for the set that is first in all signals, 0
        for the last in all (share of the other sets with a lower value, a mean over signals; those with an equal one
        count half). rank: 1 is the highest gain. A head that was not in the source moves with every set.

    Raises:
        StudyError: the source is a cascade, was trained on images and the task shows volumes or the other way round, an
            unknown task, too large a volume, or no checkpoint.
    """
    if source.spec.model == "cascade":
        raise StudyError(f"sets of layers are ranked of a U-Net; {source.path.name} is a {source.spec.model}")
    model = _model(source, task, seed, fold)
    target = _images(task, source.spec.size, volume, seed, fold)
    from_source = _images(source.spec.task, source.spec.size, None, source.spec.seed, source.spec.fold)
    fresh = get_task(task).outputs != get_task(source.spec.task).outputs
    return _ranked(model, task, target, _shifts(model, from_source[0], target[0]), seed, sets, fresh)


def rank_of_start(start: RunSpec, sets: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """The same of a network that starts from a file of weights: the signal `shift` is missing, as its images are.

    Args:
        start: what would be trained, from a file; its task, volume, seed and fold choose the images.
        sets: as of `rank_layer_sets`.
    """
    model = start_model(start).eval()
    target = _images(start.task, start.size, start.volume, start.seed, start.fold)
    nothing = pd.Series(math.nan, index=model.stages, name="shift")
    return _ranked(model, start.task, target, nothing, start.seed, sets, fresh=True)


def fine_tuning(source: Run, task: str, volume: int | None = 20, seed: int = 0, fold: int = 0) -> RunSpec:
    """The run that would train the whole network of a source on a task."""
    own = {"task": task, "volume": volume, "seed": seed, "fold": fold, "source": source.spec, "weights": None}
    return source.spec.but(strategy=WHOLE, options={}, **own)


def set_costs(start: RunSpec, table: pd.DataFrame, *, rounds: int = 8) -> pd.DataFrame:
    """What a training step of each set of a ranking costs here, and of the whole network in the last row, ALL.

    Columns: set, parameters (that move), COSTS: milliseconds a step, memory beside the weights in MB (see
    `lib.training.step_cost`), and both as shares of the whole network's.

    Args:
        start: what would be trained on the whole; its task, image size and batch are those of the steps.
        table: from `rank_layer_sets` or `rank_of_start`. rounds: steps that are timed of each.
    """
    sets = {row.set: row.stages.split() for row in table.itertuples()}  # type: ignore[union-attr]
    specs = {name: start.but(strategy="layer_subset", options={"stages": stages}) for name, stages in sets.items()}
    found = step_costs({**specs, ALL: start.but(strategy=WHOLE, options={})}, rounds=rounds)
    _, seconds, megabytes = found[ALL]
    rows = [
        (name, cost.trainable, 1e3 * cost.seconds, cost.seconds / seconds, cost.megabytes, cost.megabytes / megabytes)
        for name, cost in found.items()
    ]
    return pd.DataFrame(rows, columns=["set", "parameters", *COSTS])


def _ranked(
    model: Staged,
    task: str,
    target: tuple[Tensor, Tensor],
    shifts: pd.Series,
    seed: int,
    sets: Mapping[str, Sequence[str]] | None,
    fresh: bool,
) -> pd.DataFrame:
    chosen = common_layer_sets(model) if sets is None else sets
    stages = _stages(model, *target, regions_table(get_task(task), torch.device("cpu")), seed).join(shifts)
    rows = []
    for name, members in chosen.items():
        members = [*members, *(stage for stage in model.last if fresh and stage not in members)]
        own = stages.loc[members]
        rows.append(
            {
                "set": name,
                "stages": " ".join(members),
                "parameters": int(own.parameters.sum()),
                "gain": float(own.gain.sum()),
                "gradient": math.sqrt(own.gradient2.sum() / own.weight2.sum()),
                "shift": float(own["shift"].mean()),
            }
        )
    table = pd.DataFrame(rows).sort_values("gain", ascending=False, ignore_index=True)
    known = [name for name in SIGNALS if table[name].notna().all()]
    below = (table[known].rank() - 1) / max(1, len(table) - 1)
    return table.assign(combined=below.mean(axis=1), rank=np.arange(1, len(table) + 1))


def _model(source: Run, task: str, seed: int, fold: int) -> Staged:
    """The network that training on the task would start from: the source's, with a fresh head for other labels."""
    here, there = get_task(task), get_task(source.spec.task)
    if here.dim != there.dim:
        raise StudyError(
            f"a source and its target must both show images, or both volumes; {there.name!r} has {there.dim} "
            f"dimensions and {task!r} has {here.dim}"
        )
    model = source.model()
    if here.outputs != there.outputs:
        model = start_model(fine_tuning(source, task, source.spec.volume, seed, fold)).eval()
    return model


def _images(task: str, size: int, volume: int | None, seed: int, fold: int) -> tuple[Tensor, Tensor]:
    """Training images (n, c, s, s), standardized, and masks (n, s, s) of a task, at most IMAGES; of volumes windows."""
    data, volumes = load_data(task, size), get_task(task).dim == 3
    train = split(task, data.groups, fold=fold, volume=volume, seed=seed, folds=data.folds).train
    images, masks = images_at(task, size, train[: WINDOWS if volumes else IMAGES])
    return (images if volumes else standardize(images)), masks


def _gradients(model: Staged, images: Tensor, masks: Tensor, regions: Tensor | None) -> dict[str, Tensor]:
    """Gradient of the training loss, by parameter, with normalizations as in training; leaves the model as it is."""
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    parameters = dict(model.named_parameters())
    loss = segmentation_loss(network_output(model, images), masks, regions)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    model.load_state_dict(kept)  # a pass in training mode moved the running statistics
    return dict(zip(parameters, found, strict=True))


def _stages(model: Staged, images: Tensor, masks: Tensor, regions: Tensor | None, seed: int) -> pd.DataFrame:
    """Per stage: parameters, weight2 and gradient2 (squared norms), and gain."""
    model.requires_grad_(True)
    whole = _gradients(model, images, masks, regions)
    rows = pd.DataFrame(0.0, index=model.stages, columns=["parameters", "weight2", "gradient2", "gain"])
    for name, weight in model.named_parameters():
        stage = model.stage_of(name)
        rows.loc[stage, "parameters"] += weight.numel()
        rows.loc[stage, "weight2"] += float(weight.detach().square().sum())
        rows.loc[stage, "gradient2"] += float(whole[name].square().sum())
    draw = np.random.default_rng([seed, 0x6A1])
    for _ in range(HALVES):
        order = torch.from_numpy(draw.permutation(len(images)))
        first, second = (_gradients(model, images[half], masks[half], regions) for half in order.tensor_split(2))
        for name in first:
            gained = (first[name].sign() * second[name]).sum() + (second[name].sign() * first[name]).sum()
            rows.loc[model.stage_of(name), "gain"] += float(gained) / (2 * HALVES)
    return rows


@torch.no_grad()
def _shifts(model: Staged, source: Tensor, target: Tensor) -> pd.Series:
    """Per stage, `shift` of `rank_layer_sets`: the mean over channels of the standardized difference of means."""
    model.eval()
    last: dict[str, Tensor] = {}

    def keep(stage: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                last[stage] = output  # what a stage of several modules hands on is what its last one makes

        return hook

    layers = [(stage, module) for stage in model.stages for module in model.modules_of(stage)]
    hooks = [module.register_forward_hook(keep(stage)) for stage, module in layers]
    found: dict[str, list[tuple[Tensor, Tensor]]] = {stage: [] for stage in model.stages}
    for images in (source, target):
        last.clear()
        model(images)
        for stage, output in last.items():
            others = (0, *range(2, output.ndim))
            found[stage].append((output.mean(others), output.var(others)))
    for hook in hooks:
        hook.remove()
    shifts = {}
    for stage, ((mean, spread), (moved, other)) in ((stage, both) for stage, both in found.items() if both):
        shifts[stage] = float(((mean - moved).abs() / ((spread + other) / 2).sqrt().clamp_min(1e-6)).mean())
    return pd.Series(shifts, name="shift")
