"""What a strategy is: start, marks, options; how a network starts and what of it is frozen (the contract)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.common.errors import StudyError, nearest
from lib.common.registry import Registry
from lib.common.seeding import generator
from lib.networks.initial_weights import redraw_kernels
from lib.networks.loading import LoadedTensor, load_weights
from lib.networks.stages import Staged, check_stages, moving_entries
from lib.strategies import adapters
from lib.strategies.frozen_normalization import tracking_norms

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


Mark = Callable[[Staged, dict[str, Any], torch.Generator], set[str]]


@dataclass(frozen=True)
class Strategy:
    """A row of the registry.

    Args:
        title: a few words for figures and tables.
        start: `random`, `drawn`, `source`, `encoder` or `stages`.
        mark: `(model, options, draw) -> names of the tensors that may change`; `draw` is for parameters it adds.
        options: the options it takes, with their defaults. `calibrate` has the statistics of frozen normalizations
            estimated from the training images before step 0; `alpha` is the strength of `pull`.
        pull: whether an L2 penalty, `alpha`/2 times the squared distance, pulls the weights back to their start.
        shuffled: whether the training images get each other's masks, which leaves nothing to learn but their mean.
    """

    title: str
    start: str
    mark: Mark
    options: Mapping[str, Any] = field(default_factory=dict)
    pull: bool = False
    shuffled: bool = False

    @property
    def needs_source(self) -> bool:
        """Whether a source run must be given."""
        return self.start not in ("random", "drawn")


STRATEGIES: Registry[Strategy] = Registry("strategy")


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The strategy's options, completed by their defaults.

    Raises:
        StudyError: the strategy or an option is unknown.
    """
    known = STRATEGIES[name].options
    if not isinstance(options, Mapping):
        raise StudyError(f"options must be a table of names and values, got {options!r}")
    for option in options:
        if option not in known:
            raise StudyError(nearest(f"option of {name}", option, known))
    return {**known, **options}


def load_start(
    model: Staged, name: str, options: Mapping[str, Any], source: Mapping[str, Tensor] | None
) -> list[LoadedTensor]:
    """Give a freshly initialized model those weights of the source that the strategy starts from.

    A head of another shape than the source's, as other labels need, stays as it was drawn. Factors that the source was
    trained with are multiplied and added into its weights first.

    Returns:
        What happened to every tensor that was to be loaded; none when the strategy starts at random.

    Raises:
        StudyError: the source is missing, unwanted or does not fit, or an option is wrong.
    """
    strategy, options = STRATEGIES[name], check_options(name, options)
    if strategy.needs_source != (source is not None):
        raise StudyError(f"strategy {name!r} {'needs a source run' if strategy.needs_source else 'takes no source'}")
    if strategy.start == "drawn":
        redraw_kernels(model, model.encoder, options["law"])
    if source is None:
        return []
    own = model.state_dict()
    source = adapters.merged(source, own)
    heads = [key for key in own if model.stage_of(key) in model.last and key in source]
    other_head = any(own[key].shape != source[key].shape for key in heads)
    wanted = {
        model.stage_of(key) for key in (*own, *source)
    }  # all there are: what only one of the two has does not fit
    if strategy.start != "source":
        wanted = set(model.encoder if strategy.start == "encoder" else check_stages(model, options["stages"]))
    wanted -= set(model.last) if other_head else set()
    taken = {key: value for key, value in source.items() if model.stage_of(key) in wanted}
    stays = {key: value for key, value in own.items() if model.stage_of(key) not in wanted}
    return [row for row in load_weights(model, {**taken, **stays}) if row.name in taken]


def freeze(model: Staged, name: str, options: Mapping[str, Any], draw: torch.Generator, *, head: bool = False) -> None:
    """Add the strategy's parameters, and freeze every tensor that it does not mark.

    Args:
        draw: where parameters that start at random come from.
        head: the head was not taken from the source, and moves whatever the strategy says: nobody can use a head that
            was never trained.

    Raises:
        StudyError: an option is wrong, or nothing is left to train.
    """
    strategy, options = STRATEGIES[name], check_options(name, options)
    marked = strategy.mark(model, options, draw)
    parameters = dict(model.named_parameters())
    if head:
        marked = marked | {key for key in parameters if model.stage_of(key) in model.last}
    unknown = marked - model.state_dict().keys()
    if unknown:
        raise StudyError(f"strategy {name!r} marks {sorted(unknown)}, which the model does not have")
    if not marked & parameters.keys():
        raise StudyError(f"strategy {name!r} with {options} marks no parameter of this model: nothing to train")
    for key, parameter in parameters.items():
        parameter.requires_grad_(key in marked)
    for key, module in tracking_norms(model):
        module.tracks = f"{key}.running_mean" in marked  # type: ignore[assignment]


def training_masks(name: str, index: np.ndarray, seed: int) -> np.ndarray:
    """Where the masks of the training images at `index` are: there, or, where a strategy shuffles them, dealt out anew.

    Raises:
        StudyError: unknown strategy.
    """
    if not STRATEGIES[name].shuffled:
        return index
    return index[torch.randperm(len(index), generator=generator(seed, 0x5F1E)).numpy()]


def trainable(model: nn.Module) -> int:
    """Number of parameters that may change, those of a tensor that moves in part counted one by one."""
    return sum(moving_entries(model).values())
