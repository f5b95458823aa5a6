"""Which runs of a task are compared, on which images, and how alike they are layer by layer.

The runs of a comparison share task, volume and source; what differs is where they started. *Random* runs start from
random weights, *own* from a source run of their own seed, *shared* all from one source run; *shuffled* runs start at
random and learn from shuffled labels, which is a control. Layers are the stages of the U-Net without the head, whose
output is the answer itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.represent import Probe, represent_all
from analysis.representations.comparison.compare import Map, compare
from analysis.tables.results import finished_rows
from lib.common.device import computing_device
from lib.common.errors import StudyError
from lib.data.tasks.images import images_at, load_data
from lib.data.tasks.splits import split
from lib.data.tasks.task import get_task
from lib.runs.run import Run

RANDOM_STARTS = {"random": "scratch", "shuffled": "shuffled_labels"}
IMAGES = 96
WINDOWS = 24  # of volumes: each holds as many values as hundreds of images, and whole maps of all are in memory
WINDOWS_AT_ONCE = 4
MEASURE = "cka_debiased"


def bottleneck(layers: Sequence[str]) -> int:
    """Which of the stages lies deepest in the U: the last of the encoder."""
    return max((at for at, name in enumerate(layers) if name.startswith("enc")), default=0)


@dataclass(frozen=True)
class LayerMaps:
    """How alike checkpoints are, layer by layer.

    Args:
        checkpoints: one row each: run_id, strategy, seed, fold, source_seed, step, point ("start", "end" or "between").
        layers: in order along the data path. values: (layers, checkpoints, checkpoints).
        measure, about: the measure and the probe, for notes in figures.
    """

    checkpoints: pd.DataFrame
    layers: tuple[str, ...]
    values: np.ndarray
    measure: str
    about: str

    def places(self, group: str, point: str = "end") -> dict[int, int]:
        """Where the checkpoints of a group are: seed -> row, for seeds in ascending order.

        The seed whose own source run is the shared one belongs to *own* and to *shared*.
        """
        rows = self.checkpoints[self.checkpoints.point == point]
        start = rows.source_seed
        if group in RANDOM_STARTS:
            rows = rows[rows.strategy == RANDOM_STARTS[group]]
        elif group == "own":
            rows = rows[(start == rows.seed).fillna(value=False)]
        else:
            common = start[start.notna() & (start != rows.seed)]
            rows = rows[start == common.iloc[0]] if len(common) else rows.iloc[:0]
        return {int(seed): int(place) for place, seed in rows.sort_values("seed").seed.items()}

    def take(self, places: Sequence[int]) -> LayerMaps:
        """The same of some of the checkpoints, in this order."""
        rows = self.checkpoints.iloc[list(places)].reset_index(drop=True)
        return dataclasses.replace(self, checkpoints=rows, values=self.values[:, places][:, :, places])

    @property
    def depth(self) -> np.ndarray:
        """Position of each layer along the data path: 0 for the first, 1 for the last."""
        return np.linspace(0, 1, len(self.layers))

    @property
    def bottleneck(self) -> int:
        """Which layer lies deepest in the U."""
        return bottleneck(self.layers)

    @property
    def early(self) -> int:
        """How many layers are the first half of the encoder, rounded up."""
        return (self.bottleneck + 1) // 2


_MAPS: dict[Any, list[tuple[list[tuple[str, int | None]], LayerMaps]]] = {}  # in this process: of which checkpoints


def comparable_runs(
    frame: pd.DataFrame, task: str, arms: Sequence[str] = ("full_finetuning", "scratch")
) -> pd.DataFrame:
    """The runs of a task to be compared: both arms, done, at the smallest volume that has both, from one source.

    Runs on shuffled labels at that volume come along, where there are any. Of several sources the one with the most
    runs is taken. Empty where an arm is missing.
    """
    rows = finished_rows(frame)
    rows = rows[(rows.task == task) & rows.strategy.isin([*arms, "shuffled_labels"]) & (rows.status == "done")]
    counts = rows[rows.strategy.isin(arms)].groupby("volume_label").strategy.nunique()
    rows = rows[rows.volume_label.isin(counts.index[counts == len(arms)])]
    if not len(rows):
        return rows
    rows = rows[rows.volume_label == rows.loc[rows.volume.astype("float64").idxmin(), "volume_label"]]
    origin = rows.source.str.replace(r" \(seed \d+\)$", "", regex=True)
    return rows[(rows.source == "") | (origin == origin[rows.source != ""].mode().iloc[0])]


def probe_images(
    task: str, size: int, runs: Sequence[Run], count: int | None = None, seed: int = 0
) -> tuple[torch.Tensor, str]:
    """Images of a task (count, c, size, size) on which runs are compared, drawn by `seed`, in order; and which.

    Of volumes, windows (count, c, x, y, z) of the runs' size around the middle of what is labeled. They come from
    groups (patients) of which none of the runs saw an image in training. Where those are too few, as when the runs of
    several folds trained on all images, others fill up, and the words say how many.

    Args:
        count: how many, where there are so many; None: IMAGES, or of volumes WINDOWS.
    """
    data = load_data(task, size)
    seen = set[str]()
    for run in runs:
        spec = run.spec
        train = split(task, data.groups, fold=spec.fold, volume=spec.volume, seed=spec.seed, folds=data.folds).train
        seen |= {data.groups[at] for at in train}
    unseen = np.array([at for at, group in enumerate(data.groups) if group not in seen], dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(data.groups)), unseen)
    draw = np.random.default_rng([seed, 0x9B0])
    count = count or {2: IMAGES, 3: WINDOWS}[get_task(task).dim]
    chosen = np.concatenate([draw.permutation(unseen), draw.permutation(rest)])[:count]
    known = max(0, len(chosen) - len(unseen))
    words = f"{known} of them seen in training" if known else "none seen in training"
    return images_at(task, size, np.sort(chosen))[0], words


def stages_without_head(run: Run) -> list[str]:
    """The stages of a run's network without its head."""
    return [stage for stage in run.model(0).stages if stage != "head"]


def whole_map_probe(images: torch.Tensor) -> Probe:
    """Whole maps of these images, whose Gram matrices serve every measure."""
    return Probe(images, Reduction("flatten"), chunk=WINDOWS_AT_ONCE if images.ndim == 5 else Probe.chunk)


def similarity_map(
    checkpoints: Sequence[tuple[Run, int | None]],
    probe: tuple[torch.Tensor, str],
    measure: str = MEASURE,
    report: Callable[[str], None] | None = None,
) -> Map:
    """Every layer of every checkpoint against every other, on whole maps of `probe_images`.

    Raises:
        StudyError: there is no such checkpoint, or the networks differ in their stages.
    """
    layers = [stages_without_head(run) for run, _ in checkpoints]
    if any(each != layers[0] for each in layers):
        raise StudyError(f"networks to be compared must have the same stages, got {sorted(set(map(tuple, layers)))}")
    images, which = probe
    device = computing_device()
    kept = represent_all(checkpoints, layers[0], whole_map_probe(images), device=device, report=report)
    found = compare(kept, None, measure, device=device)
    return dataclasses.replace(found, about=f"{found.about}, {which}")


def layer_maps(found: Map, runs: Mapping[str, Run]) -> LayerMaps:
    """Of a whole map, what compares a layer with the same layer elsewhere."""
    layers = tuple(dict.fromkeys(label.layer for label in found.rows))
    count = len(found.rows) // len(layers)
    rows = []
    for label in found.rows[:: len(layers)]:
        spec, steps = runs[label.run].spec, runs[label.run].steps()
        rows.append(
            {
                "run_id": label.run,
                "strategy": spec.strategy,
                "seed": spec.seed,
                "fold": spec.fold,
                "source_seed": spec.source.seed if spec.source else None,
                "step": label.step,
                "point": {0: "start", steps[-1]: "end"}.get(label.step, "between"),
            }
        )
    values = np.einsum("albl->lab", found.values.reshape(count, len(layers), count, len(layers)))
    checkpoints = pd.DataFrame(rows).astype({"source_seed": "Int64"})
    return LayerMaps(checkpoints, layers, values, found.measure, found.about)


def layer_maps_of_runs(
    frame: pd.DataFrame,
    runs: Mapping[str, Run],
    task: str,
    *,
    arms: Sequence[str] = ("full_finetuning", "scratch"),
    measure: str = MEASURE,
    images: int | None = None,
    report: Callable[[str], None] | None = None,
) -> LayerMaps | None:
    """The runs of `cell` before and after training, layer by layer; those with a shared source after it only.

    Representations are kept in the runs' folders, and similarities in memory: a second call only reads them. Images are
    the same for every part of `runs` that the table picks.

    Args:
        frame: of `results.run_table`, runs with a shared source included. runs: by `run_id`; others are left out.
        images: how many to compare on; None: see `probe_images`.

    Returns:
        None where fewer than two runs are there.
    """
    rows = comparable_runs(frame, task, arms)
    rows = rows[np.array([name in runs for name in rows.run_id], dtype=bool)]
    if len(rows) < 2:
        return None
    chosen = [runs[name] for name in rows.run_id]
    shared = dict(zip(rows.run_id, (rows.source_seed.notna() & (rows.source_seed != rows.seed)), strict=True))
    points = [(run, step) for run in chosen for step in ([None] if shared[run.path.name] else [0, None])]
    alike = [run for run in runs.values() if _images_of(run) == _images_of(chosen[0])]
    results = [(run, result) for run in alike if (result := run.result)]
    like = [run for run, _ in results]
    key = (measure, images, frozenset((run.path, result["seal"]) for run, result in results))
    asked, known = [(run.path.name, step) for run, step in points], _MAPS.setdefault(key, [])
    found = next((each for each in known if set(asked) <= set(each[0])), None)
    if found is None:
        probe = probe_images(chosen[0].spec.task, chosen[0].spec.size, like, images)
        found = asked, layer_maps(similarity_map(points, probe, measure, report), runs)
        known.append(found)
    return found[1].take([found[0].index(each) for each in asked])


def _images_of(run: Run) -> tuple[Any, ...]:
    """What decides which images a run may have seen, but for its seed and fold."""
    return run.spec.task, run.spec.volume, run.spec.size
