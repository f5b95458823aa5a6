"""How far linear fine-tuning is ahead, pair by pair, and how far training runs away from validation."""

from __future__ import annotations

import pandas as pd

from analysis.claims.verdicts import REPLICATE
from analysis.statistics.intervals import mean_interval
from analysis.tables.paired_gains import PAIR, pair_status
from analysis.tables.results import finished_rows

LINEAR, FULL = "scale_shift", "full_finetuning"


def paired_leads(frame: pd.DataFrame, first: str = LINEAR, second: str = FULL, metric: str = "psnr") -> pd.DataFrame:
    """How far one arm is ahead of another: one row per run of the first, in the unit of the metric.

    Pairs share target, sampling rate, volume, seed and fold, and where the second arm has a source, that too.

    Columns: PAIR, images (the target without its sampling rate), rate, title, kind, source, scenario, volume, first,
    second, lead, status. `lead` is missing where a run diverged or has no partner; nothing is dropped.
    """
    ended = finished_rows(frame[frame.goal == "reconstruction"])
    base = ended[ended.arm == second][[*PAIR, "source", metric, "status"]]
    same = [*PAIR, "source"] if (base.source != "").any() else PAIR
    base = base[[*same, metric, "status"]].rename(columns={metric: "second", "status": "other"})
    own = ended[ended.arm == first].rename(columns={metric: "first"})
    keep = [*PAIR, "title", "kind", "source", "scenario", "volume", "first", "status"]
    pairs = own[keep].merge(base, on=same, how="left", validate="many_to_one")
    pairs["status"] = pair_status(pairs.status, pairs.pop("other"), second)
    pairs["lead"] = (pairs["first"] - pairs.second).where(pairs.status == "done")
    named = pairs.task.str.split("@", expand=True).reindex(columns=[0, 1])
    return pairs.assign(images=named[0], rate=named[1].astype("float64"))


def lead_by_seed(pairs: pd.DataFrame) -> pd.Series:
    """The lead of each seed (with its fold), averaged over sources where a target was reached from several."""
    return pairs.groupby(REPLICATE).lead.mean().dropna()


def lead_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Leads in dB with their 95 % t intervals over seeds: a row per target, rate and volume.

    Columns: images, rate, volume_label, first, second (means), lead, low, high, seeds.
    """
    rows = []
    for (images, rate, label), own in pairs.groupby(["images", "rate", "volume_label"], sort=False):
        each = mean_interval(lead_by_seed(own))
        led = own[own.lead.notna()]
        means = (led["first"].mean(), led.second.mean())
        rows.append((images, rate, label, *means, each.estimate, each.low, each.high, each.n))
    columns = ["images", "rate", "volume_label", "first", "second", "lead", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=columns).round(3)


def generalization_gap(evaluations: pd.DataFrame) -> pd.DataFrame:
    """How far training runs away from validation: one row per run, mean over the evaluations after step 0.

    The gap is the PSNR on training slices less that on validation slices; what it was at step 0, where both arms of a
    pair are the same network, is taken off. Columns: run_id and growth (dB).
    """
    rows = evaluations.assign(gap=evaluations.train_psnr - evaluations.val_psnr).sort_values("step")
    start = rows[rows.step == 0].set_index("run_id").gap
    later = rows[rows.step > 0]
    grown = (later.gap - later.run_id.map(start)).groupby(later.run_id).mean()
    return grown.rename("growth").rename_axis("run_id").reset_index()
