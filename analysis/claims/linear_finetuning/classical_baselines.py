"""Learned reconstruction beside what needs no training, on the same slices from the same samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.statistics.intervals import mean_interval
from analysis.tables.run_row import run_row
from lib.imaging.total_variation import total_variation
from lib.networks.cascade import unpack, zero_filled
from lib.runs.run import Run
from lib.training.goals.reconstruction import Reconstruction, reconstruction
from lib.training.goals.reconstruction_metrics import psnr, summarize_images

TUNED_ON = 8  # validation slices, evenly spread
METRICS = ("psnr", "ssim", "nmse")
MEANS = ["task", "title", "kind", "method", "psnr", "psnr_low", "psnr_high", "ssim", "ssim_low", "ssim_high", "nmse"]
MEANS += ["slices", "subjects", "networks", "weight"]
COLUMNS = ["task", "title", "kind", "fold", "method", "seeds", "weight", "subject", "id", *METRICS]
NETWORKS = {"cascade": "cascade", "unet": "U-Net"}


def scores_by_method(runs: Iterable[Run], *, folds: int | None = 1) -> pd.DataFrame:
    """Scores of every test slice by method: zero-filled, total variation, networks trained from scratch on all data.

    The weight of the total variation is tuned on validation slices of the same fold. A network's score of a slice is
    the mean over the seeds that were tested on it.

    Args:
        runs: finished runs; those of another strategy, goal or volume are left out.
        folds: take so many folds of every task, the lowest ones, as total variation takes its time; None for all.

    Returns:
        One row per task, fold, method and slice: task (with its rate), title, kind, fold, method, seeds, weight,
        subject, id, and psnr (dB), ssim, nmse with the range of the slice's volume.
    """
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        spec, about = run.spec, run_row(run)
        whole = spec.goal == "reconstruction" and spec.strategy == "scratch" and spec.volume is None
        if whole and about["status"] == "done":
            groups.setdefault((about["task"], spec.fold), []).append(run)
    kept = {task: sorted(fold for name, fold in groups if name == task)[:folds] for task, _ in groups}
    tables = [_fold_table(found) for (task, fold), found in sorted(groups.items()) if fold in kept[task]]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


@torch.no_grad()
def _fold_table(runs: list[Run]) -> pd.DataFrame:
    """Every method on the test slices of runs that share task, rate and fold."""
    about = run_row(runs[0])
    what = reconstruction(runs[0].spec, torch.device("cpu"))
    weight = best_weight(what)
    measured = what.inputs(what.split.test)
    images = {"zero-filled": zero_filled(measured), "total variation": total_variation(*unpack(measured), weight)}
    truth = what.truth[torch.from_numpy(what.split.test)].abs()
    ids, subjects = ([each[place] for place in what.split.test] for each in (what.data.ids, what.data.groups))
    parts = []
    for method, image in images.items():
        scores = summarize_images(image.abs(), truth, ids, subjects)["per_image"]
        parts.append(pd.DataFrame(scores).assign(method=method, seeds=0, subject=subjects))
    parts[1] = parts[1].assign(weight=weight)
    for model, method in NETWORKS.items():
        own = [(run.result or {})["test"]["per_image"] for run in runs if run.spec.model == model]
        if own:
            means = {metric: np.mean([scores[metric] for scores in own], axis=0) for metric in METRICS}
            parts.append(pd.DataFrame({"id": ids, **means}).assign(method=method, seeds=len(own), subject=subjects))
    same = {name: about[name] for name in ("task", "title", "kind", "fold")}
    return pd.concat(parts, ignore_index=True).assign(**same).reindex(columns=COLUMNS)


def best_weight(what: Reconstruction) -> float:
    """The weight of the total variation that serves `TUNED_ON` validation slices of an objective best."""
    val = what.split.val
    index = val[np.unique(np.round(np.linspace(0, len(val) - 1, min(TUNED_ON, len(val)))).astype(int))]
    truth = what.truth[torch.from_numpy(index)].abs()
    return float(tune(*unpack(what.inputs(index)), truth).weight[0])


def method_table(table: pd.DataFrame) -> pd.DataFrame:
    """Mean PSNR, SSIM and NMSE of every task and method, with the 95 % t interval of PSNR and SSIM over test slices.

    Slices of one person are alike, so that an interval for other people would be wider.
    """
    rows = []
    for _, own in table.groupby(["task", "method"], sort=False):
        row = own.iloc[0][["task", "title", "kind", "method"]].to_dict()
        for metric in ("psnr", "ssim"):
            each = mean_interval(own[metric])
            row |= {metric: each.estimate, f"{metric}_low": each.low, f"{metric}_high": each.high}
        row |= {"nmse": own.nmse.mean(), "slices": len(own), "subjects": own.subject.nunique()}
        rows.append(row | {"networks": int(own.groupby("fold").seeds.first().sum()), "weight": own.weight.mean()})
    return pd.DataFrame(rows, columns=MEANS)


WEIGHTS = (0.001, 0.003, 0.01, 0.03, 0.1)  # tried by `tune`, where images reach from 0 to 1


def tune(
    kspace: Tensor, maps: Tensor, mask: Tensor, truth: Tensor, *, weights: Sequence[float] = WEIGHTS
) -> pd.DataFrame:
    """Mean PSNR of validation images by weight, best first: columns weight, psnr (dB), edge.

    `edge` says that the best weight is the lowest or highest that was tried, so that a better one may lie beyond.

    Args:
        truth: magnitudes (n, h, w) with a range of 1, of the same images.
    """
    rows = [
        {"weight": weight, "psnr": float(psnr(total_variation(kspace, maps, mask, weight).abs(), truth).mean())}
        for weight in sorted(weights)
    ]
    table = pd.DataFrame(rows).sort_values("psnr", ascending=False, ignore_index=True)
    return table.assign(edge=bool(table.weight[0] in (min(weights), max(weights))))
