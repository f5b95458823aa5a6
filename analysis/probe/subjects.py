"""What a probe looks at: one or two series of checkpoints, with or without their network; what cannot be read, said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor, nn

from analysis.filters.kernels import Geometry, geometry, read_layers
from analysis.probe.networks import load_network, on_cpu
from lib.common.errors import StudyError
from lib.networks.checkpoint_files import common_prefix
from lib.networks.checkpoint_series import Moment, Series, fit, read_series
from lib.networks.loading import names_of_tensors
from lib.networks.stages import stage_of

_FACTORS = ("scale", "shift", "low_a", "low_b")  # names that this study's own strategies give to their factors
UNREAD = ["series", "file", "tensor", "status", "in the file", "expected"]


@dataclass(frozen=True)
class Subject:
    """A series of checkpoints of one network.

    Args:
        title: of the series, for tables and figures.
        series: the checkpoints.
        model: the network that they are loaded into, or None.
        left_out: layer -> why its filters are not read.
        said: what a reader should know, of the series and of what only the network could tell.
    """

    title: str
    series: Series
    model: nn.Module | None
    left_out: dict[str, str]
    said: tuple[str, ...] = ()

    def weights(self, moment: Moment) -> dict[str, Tensor]:
        """The tensors of a checkpoint but for layers that are left out, by the network's names where it is known."""
        found = self._found(moment)[0]
        return {name: value for name, value in found.items() if name.rpartition(".")[0] not in self.left_out}

    def _found(self, moment: Moment) -> tuple[dict[str, Tensor], list[tuple[str, ...]]]:
        weights = self.series.weights(moment)
        if self.model is None:
            return weights, []
        rows = fit(self.model, weights)
        first = set(names_of_tensors(self.model).values())
        loaded = {row.name for row in rows if row.status == "loaded"} & first
        state = self.model.state_dict()
        unread = [
            (
                self.title,
                moment.file.name,
                row.name,
                row.status,
                str(row.file_shape or "-"),
                str(row.model_shape or "-"),
            )
            for row in rows
            if row.status != "loaded"
        ]
        return {name: state[name].clone() for name in state if name in loaded}, unread

    def load(self, moment: Moment) -> nn.Module:
        """The network at a checkpoint, in evaluation mode.

        Raises:
            StudyError: there is no network, or the checkpoint does not fit it.
        """
        if self.model is None:
            raise StudyError("what layers compute needs the network; give --network")
        fit(self.model, self.series.weights(moment))
        return self.model.eval()

    def geometry(self, weights: Mapping[str, Tensor]) -> Geometry:
        """What the network says of the layers of these weights.

        Without it, biases say which convolutions are transposed; where they do not, they are taken for plain ones.

        Stages are those of the network where it has any (of a stage map, or the study's own); else the first part of a
        layer's name, without a beginning that all layers share.
        """
        known = Geometry(_told_by_biases(weights)) if self.model is None else geometry(self.model)
        layers = [name.rpartition(".")[0] for name, value in weights.items() if value.dim() >= 2]
        shared = common_prefix([f"{layer}.weight" for layer in layers])
        stages = {layer: known.stages.get(layer) or stage_of(layer.removeprefix(shared)) for layer in layers}
        shapes = known.shapes and {name: shape for name, shape in known.shapes.items() if f"{name}.weight" in weights}
        return Geometry(shapes, stages)

    def unread(self) -> pd.DataFrame:
        """Tensors that did not load, a row per checkpoint and tensor."""
        rows = [(self.title, file, *rest) for file, *rest in self.series.unread]
        for moment in self.series.moments:
            rows += self._found(moment)[1]
        return pd.DataFrame(rows, columns=UNREAD)

    def not_read(self) -> pd.DataFrame:
        """Layers whose filters are left out: series, layer, why."""
        return pd.DataFrame([(self.title, *each) for each in self.left_out.items()], columns=["series", "layer", "why"])


def open_subjects(folders: Sequence[str], networks: Sequence[str] = (), path: str = "") -> list[Subject]:
    """One or two folders of checkpoints to look at.

    Args:
        networks: see `analysis.probe.networks.load_network`; one for all folders, or one for each, or none.
        path: folder in which modules are looked for first.

    Raises:
        StudyError: not one or two folders, or other than so many networks; see `read_series`, `load_network`, `fit`.
    """
    if not 1 <= len(folders) <= 2:
        raise StudyError(f"give one folder of checkpoints, or two to be set side by side; got {len(folders)}")
    names = for_each(networks, len(folders), "network")
    series = [read_series(Path(folder)) for folder in folders]
    titles = [each.name for each in series]
    if len(set(titles)) < len(titles):
        titles = ["/".join(Path(folder).resolve().parts[-2:]) for folder in folders]
    if len(set(titles)) < len(titles):
        titles = [f"{title} ({at})" for at, title in enumerate(titles, 1)]
    found = []
    for title, each, name in zip(titles, series, names, strict=True):
        model = on_cpu(load_network(name, path)) if name else None
        whole = Subject(title, each, model, {})
        left: dict[str, str] = {}
        for moment in each.moments:
            left |= _unreadable(whole, whole.weights(moment))
        found.append(Subject(title, each, model, left, (*each.said, *_untold(Subject(title, each, model, left)))))
    return found


def for_each(given: Sequence[str], folders: int, what: str) -> list[str]:
    """A value for each folder: the one that was given for all, or as many as there are folders; "" without any.

    Raises:
        StudyError: other than so many.
    """
    if len(given) not in (0, 1, folders):
        raise StudyError(f"give one --{what} for all folders or one for each of the {folders}, got {len(given)}")
    return list(given) * (folders if len(given) == 1 else 1) or [""] * folders


def _untold(subject: Subject) -> list[str]:
    """That without the network convolutions were taken for plain ones, and how many."""
    if subject.model is not None:
        return []
    weights = subject.weights(subject.series.moments[0])
    told, layers = _told_by_biases(weights), read_layers(weights, subject.geometry(weights)).values()
    plain = sum(each.kind == "convolution" and each.name not in told for each in layers)
    said = (
        "layers are taken for plain convolutions, as neither weights nor biases tell a transposed one; --network does"
    )
    return [f"no network is given: {plain} {said}"] if plain else []


def _told_by_biases(weights: Mapping[str, Tensor]) -> dict[str, tuple[bool, int]]:
    """(transposed, groups) of convolutions of which the bias tells which axis of the weight is that of its outputs."""
    told = {}
    for name, value in weights.items():
        layer, _, part = name.rpartition(".")
        outputs = len(weights.get(f"{layer}.bias", ()))
        if part == "weight" and value.dim() > 2 and value.shape[0] != value.shape[1] and outputs in value.shape[:2]:
            told[layer] = (outputs == value.shape[1], 1)
    return told


def _unreadable(subject: Subject, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Layers whose filters cannot be read as such, and why."""
    left = {}
    for name, value in weights.items():
        layer, _, part = name.rpartition(".")
        if name.endswith((".weight_orig", ".parametrizations.weight.original")):
            layer = layer.removesuffix(".parametrizations.weight")
            left[layer] = "parametrized (spectral norm, pruning or the like): its weight is not in the file"
        elif part in _FACTORS:
            left[layer] = f"holds a tensor called {part}, which would be taken for a factor of a convolution"
        elif part == "weight" and value.dim() >= 2:
            told = subject.model is not None or layer in _told_by_biases(weights)
            if not told and _looks_transposed(layer, value):
                left[layer] = "may be a transposed convolution, which neither weight nor bias tells: give --network"
                continue
            own = {key: each for key, each in weights.items() if key in (name, f"{layer}.bias")}
            try:
                read_layers(own, subject.geometry(own))[layer].alive()
            except StudyError as error:
                left[layer] = str(error)
    return left


def _looks_transposed(layer: str, value: Tensor) -> bool:
    """By its name, or by kernels of two taps a side, which hardly any other convolution has."""
    try:
        read_layers({f"{layer}.weight": value})
    except StudyError:
        return True
    own = layer.rpartition(".")[2] == "up"  # of this study's U-Net; other layers of such a name are refused above
    return not own and value.dim() > 2 and set(value.shape[2:]) <= {1, 2} and max(value.shape[2:]) == 2
