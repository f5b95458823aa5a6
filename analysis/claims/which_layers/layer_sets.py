"""Sets of layers as tidy tables: which set a run trained, shallow against deep at equal count, cumulative curves.

A set is a number of groups of stages from one side of an ordering (`lib.networks.stages.layer_groups`), or one stage.
`encoder_only`, `decoder_only` and `head_only` are sets along the path under other names. A set is *matched* if it was
cut down to an exact number of parameters (`lib.strategies.partial_layers`).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.verdicts import CONDITIONS, REPLICATE
from analysis.statistics.intervals import ROUNDING, mean_interval
from analysis.tables.paired_gains import PAIR
from analysis.tables.results import finished_rows

WHOLE = "full_finetuning"
SETS_OF_LAYERS = ("layer_subset", "encoder_only", "decoder_only", "head_only")  # strategies that train one
ULTRASOUND = "ultrasound"
SET = ["order", "side", "count", "stages", "matched"]
CONDITION = ["task", "volume_label", "source"]
KEPT = [*PAIR, "run_id", "model", "title", "kind", "modality", "source", "volume", "arm", "status", "dice", "trainable"]


def layer_sets(frame: pd.DataFrame) -> pd.DataFrame:
    """The finished runs that trained a set of layers of their source, or all of it: KEPT + SET + groups, label.

    order: `path` or `level`; "" for single stages, and for the whole network. side: `shallow`, `deep`, `single` or
    `whole`. count: groups that move, `groups` of them in all. stages: of a single-stage set, joined by "+". matched:
    number of parameters that the set was cut down to, 0 if it is whole. label: the set in words, such as
    "path: 2 first of 10". Cascades are left out.
    """
    rows = finished_rows(frame)
    rows = rows[rows.stages.notna()]
    about = ["strategy", "options", "stages", "encoder_stages", "levels"]
    found = [_set_of(row) for row in rows[about].itertuples(index=False)]
    keep = np.array([each is not None for each in found], dtype=bool)
    described = pd.DataFrame([each for each in found if each], columns=[*SET, "groups", "label"])
    return pd.concat([rows[keep][KEPT].reset_index(drop=True), described], axis=1)


def _set_of(row: Any) -> dict[str, Any] | None:
    """The set of layers of a run; None where it trained no set of its source's layers."""
    along, half = {"path": int(row.stages), "level": int(row.levels)}, int(row.encoder_stages)
    sides = {
        "encoder_only": ("shallow", half),
        "decoder_only": ("deep", along["path"] - half),
        "head_only": ("deep", 1),
    }
    empty = {"order": "", "side": "whole", "count": 0, "stages": "", "matched": 0, "groups": 0, "label": "all layers"}
    if row.strategy == WHOLE:
        return empty
    if row.strategy in sides:
        options: dict[str, Any] = {"order": "path", "parameters": None, "stages": None}
        options["side"], options["count"] = sides[row.strategy]
    elif row.strategy == "layer_subset":
        options = json.loads(row.options)
    else:
        return None
    matched = options.get("parameters") or 0
    suffix = f", {matched} parameters" if matched else ""
    if options["stages"] is not None:
        names = "+".join(options["stages"])
        return empty | {"side": "single", "stages": names, "matched": matched, "label": names + suffix}
    order, side, count, groups = options["order"], options["side"], options["count"], along[options["order"]]
    label = set_label(order, side, count, groups) + suffix
    return empty | {"order": order, "side": side, "count": count, "matched": matched, "groups": groups, "label": label}


def set_label(order: str, side: str, count: int, groups: int) -> str:
    """A set in words: "path: 2 first of 10", "level: 1 bottom of 5"."""
    word = {"path": ("first", "last"), "level": ("top", "bottom")}[order][side == "deep"]
    return f"{order}: {count} {word} of {groups}"


def advantages(frame: pd.DataFrame) -> pd.DataFrame:
    """Shallow against deep: one row per pair of runs with equal order, count, size where matched, seed and fold.

    Columns: PAIR, source, title, kind, modality, volume, order, count, groups, matched, shallow, deep (test Dice),
    advantage (shallow - deep), status. The advantage is missing where one of the two diverged or was not run.
    """
    sets = layer_sets(frame)
    sets = sets[sets.side.isin(["shallow", "deep"])]
    same = [*PAIR, "source", "order", "count", "groups", "matched"]
    about = [*same, "title", "kind", "modality", "volume"]
    shallow, deep = (
        sets[sets.side == side][[*about, "dice", "status"]].rename(columns={"dice": side, "status": f"{side}_status"})
        for side in ("shallow", "deep")
    )
    pairs = shallow.merge(deep.drop(columns=["title", "kind", "modality", "volume"]), on=same, how="inner")
    lost = (pairs.pop("shallow_status") == "diverged").to_numpy() | (pairs.pop("deep_status") == "diverged").to_numpy()
    pairs["advantage"] = (pairs.shallow - pairs.deep).astype("float64").mask(lost)
    pairs["status"] = np.where(lost, "diverged", "done")
    return pairs


def layer_set_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per set, task, volume and source: mean test Dice with its 95 % t interval over replicates.

    Columns: CONDITION, SET, groups, label, model, title, kind, modality, volume, mean, low, high, seeds, diverged,
    trainable.
    """
    sets, rows = layer_sets(frame), []
    for key, own in sets.groupby([*CONDITION, *SET, "groups", "label"], sort=False):
        done = own[own.status == "done"]
        interval = mean_interval(done.dice.astype("float64"))
        rows.append(
            {
                **dict(zip([*CONDITION, *SET, "groups", "label"], key, strict=True)),
                **{name: own[name].iloc[0] for name in ("model", "title", "kind", "modality", "trainable")},
                "volume": float(own.volume.astype("float64").mean()),
                **dict(zip(("mean", "low", "high", "seeds"), interval[:4], strict=True)),
                "diverged": len(own) - len(done),
            }
        )
    columns = [*CONDITION, *SET, "groups", "label", "model", "title", "kind", "modality", "volume"]
    return pd.DataFrame(rows, columns=[*columns, "mean", "low", "high", "seeds", "diverged", "trainable"])


def areas_between_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """Area between the cumulative curves from the shallow and from the deep end: one row per condition and replicate.

    At 0 groups and at all of them both curves are one, so between the interior points the difference is joined by
    straight lines, from 0 to 0, over the fraction of groups that move. Whole sets only.

    Columns: CONDITION, REPLICATE, order, points (interior counts that all replicates of the condition have), title,
    kind, modality, area (Dice; positive: shallow first lies above).
    """
    pairs = advantages(frame)
    pairs = pairs[(pairs.matched == 0) & pairs.advantage.notna()]
    rows = []
    for key, own in pairs.groupby([*CONDITION, "order"]):
        groups = int(own.groups.iloc[0])
        wide = own.pivot(index=REPLICATE, columns="count", values="advantage").dropna(axis=1)
        at = np.array([0.0, *(int(count) / groups for count in wide.columns), 1.0])
        for replicate, values in wide.iterrows():
            curve = np.array([0.0, *values.to_numpy(dtype=np.float64), 0.0])
            rows.append(
                {
                    **dict(zip([*CONDITION, "order"], key, strict=True)),
                    **dict(zip(REPLICATE, replicate, strict=True)),
                    **{name: own[name].iloc[0] for name in ("title", "kind", "modality")},
                    "points": wide.shape[1],
                    "area": float(np.trapezoid(curve, at)),
                }
            )
    columns = [*CONDITION, "order", *REPLICATE, "title", "kind", "modality", "points", "area"]
    return pd.DataFrame(rows, columns=columns)


def worst_is_last(frame: pd.DataFrame, least: int = 1) -> pd.DataFrame:
    """Whether the set with the lowest mean test Dice is one of the last layers: a row per task.

    The candidates are the whole sets that are no single stage, all those of the network's full depth left out, at the
    conditions (volume and source) that have the same ones, and the replicates that have all; a *last* set holds
    nothing but the output's side (`path`, deep, at most half of the groups). A diverged run counts with Dice 0.
    `chance` is the share of last sets among the candidates. Left out are rows without both kinds, with fewer than
    `least` replicates, and those where one of each kind is the lowest.

    Columns: task, kind, modality, lowest (label), sets, seeds, chance, last.
    """
    sets = layer_sets(frame)
    sets = sets[(sets.matched == 0) & sets.side.isin(["shallow", "deep"])]
    last = (sets.order == "path") & (sets.side == "deep") & (sets["count"] <= sets.groups // 2)
    sets = sets.assign(last=last, dice=sets.dice.astype("float64").fillna(0.0))
    rows = []
    for task, own in sets.groupby("task"):
        cells = own.pivot(index=REPLICATE, columns=[*CONDITIONS, "label"], values="dice")
        candidates = max((frozenset(part.label) for _, part in own.groupby(CONDITIONS)), key=len)
        alike = [cell for cell, part in own.groupby(CONDITIONS) if frozenset(part.label) == candidates]
        cells = cells.loc[:, [column[:2] in alike for column in cells.columns]].dropna()
        means = cells.mean().groupby(level="label").mean()
        kinds = own.drop_duplicates("label").set_index("label")["last"].reindex(means.index).astype(bool)
        lowest = means.index[means <= means.min() + ROUNDING]
        if len(cells) < least or kinds.nunique() < 2 or kinds[lowest].nunique() > 1:
            continue
        rows.append(
            {
                "task": task,
                **{name: own[name].iloc[0] for name in ("kind", "modality")},
                "lowest": lowest[0],
                "sets": len(means),
                "seeds": len(cells),
                "chance": float(kinds.mean()),
                "last": bool(kinds[lowest[0]]),
            }
        )
    columns = ["task", "kind", "modality", "lowest", "sets", "seeds", "chance", "last"]
    return pd.DataFrame(rows, columns=columns)
