"""Figures: what stands in them, on tidy tables and on awkward ones; warnings are errors, also while drawing."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fakes import climb, evaluations, frame, grid, row
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from analysis.claims.ledger.evaluate import evaluate
from analysis.claims.ledger.figure import VERDICT_COLORS, ledger_figure
from analysis.claims.transfer_value.figures import gain_by_difficulty, gain_forest, plateau_times
from analysis.figures.performance import (
    _short,
    accuracy_by_volume,
    learning_curves,
    learning_rates,
    strategy_scores,
)
from analysis.figures.style import ARM_STYLES, arm_style
from analysis.tables import convergence, paired_gains
from analysis.tables.results import summary
from lib.common.errors import StudyError
from lib.strategies.strategy import STRATEGIES

ARMS = ["scratch", "full_finetuning", "frozen_random_encoder", "frozen_source_encoder", "encoder_only", "decoder_only",
        "head_only", "norm_only"]  # fmt: skip
LONG = "A task whose title somebody wrote without ever having seen the figure that it was to stand in"


def dice(task, strategy, volume, seed):
    return (
        0.6 + 0.05 * (strategy != "scratch") + 0.1 * (volume is None) + 0.01 * seed * (1 + 0.5 * len(strategy)) ** 0.5
    )


TABLE = grid(["sim_ultrasound", "busi", "cxr"], [20, None], 3, dice, ARMS)
PAIR = TABLE[TABLE.strategy.isin(ARMS[:2])]
CURVES = evaluations(TABLE, lambda run: climb(run.dice, 100 + 20 * ARMS.index(run.strategy) + 5 * run.seed))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def drawn(ax):
    """Draw the figure, so that whatever goes wrong at that point goes wrong here, and return its texts."""
    ax.get_figure(root=True).draw_without_rendering()
    texts = [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)]
    texts += [text.get_text() for text in [*ax.get_xticklabels(), *ax.get_yticklabels()]]
    legend = ax.get_legend()
    return " | ".join(texts + ([text.get_text() for text in legend.get_texts()] if legend else []))


def bars(ax):
    """How many intervals are drawn."""
    drawn = [each for each in ax.containers if type(each).__name__ == "ErrorbarContainer"]
    segments = [segment for each in drawn for lines in each[2] for segment in lines.get_segments()]
    return sum(len(segment) > 0 and bool(np.isfinite(segment).all()) for segment in segments)


def points(ax):
    """How many single seeds are drawn."""
    return sum(len(each.get_offsets()) for each in ax.collections if type(each).__name__ == "PathCollection")


def on_one_seed(table):
    return table[table.seed == 0]


def with_diverged(table):
    table = table.copy()
    table.loc[(table.strategy == "full_finetuning") & (table.seed == 1), ["status", "dice", "val_dice"]] = [
        "diverged", np.nan, np.nan,
    ]  # fmt: skip
    return table


def with_holes(table):
    return table[~((table.strategy == "scratch") & (table.volume_label == "20"))]


def with_long_titles(table):
    return table.assign(title=LONG)


def with_two_sources(table):
    other = table[table.strategy == "full_finetuning"].assign(source="ccp")
    return pd.concat([table, other.assign(run_id=other.run_id + "-ccp")])


AWKWARD = [on_one_seed, with_diverged, with_holes, with_long_titles, with_two_sources]


# ---- looks ----------------------------------------------------------------------------------------------------------


def test_every_strategy_has_a_look_of_its_own():
    assert set(STRATEGIES) <= set(ARM_STYLES)
    assert len({look.color for look in ARM_STYLES.values()}) == len(ARM_STYLES)
    assert len({look.marker for look in ARM_STYLES.values()}) == len(ARM_STYLES)


def test_an_unknown_arm_keeps_its_look():
    assert arm_style("layer_subset (count=2)") == arm_style("layer_subset (count=2)")
    assert arm_style("layer_subset (count=2)") != arm_style("layer_subset (count=3)")
    assert arm_style("mine").color.startswith("#")
    natural, people = (arm_style(f"full_finetuning from {source}") for source in ("sim_natural", "ccp"))
    assert natural.color == people.color == arm_style("full_finetuning").color
    assert natural.marker != people.marker


def test_figures_leave_the_settings_of_matplotlib_alone():
    before = dict(plt.rcParams)
    ax = accuracy_by_volume(PAIR, "busi")
    assert dict(plt.rcParams) == before
    assert ax.xaxis.label.get_size() >= 11
    assert all(text.get_size() >= 11 for text in [*ax.texts, *ax.get_legend().get_texts(), *ax.get_xticklabels()])


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: accuracy_by_volume(PAIR, "busi", ax=ax),
        lambda ax: learning_curves(CURVES, "busi", "20", ax=ax),
        lambda ax: learning_rates(PAIR.assign(chosen=True), ax=ax),
        lambda ax: strategy_scores(TABLE, "busi", "20", ax=ax),
        lambda ax: plateau_times(convergence.time_to_plateau(PAIR, CURVES), ax=ax),
        lambda ax: gain_forest(paired_gains.gain(PAIR), ax=ax),
        lambda ax: gain_by_difficulty(paired_gains.gain(PAIR), paired_gains.difficulty(PAIR), ax=ax),
        lambda ax: ledger_figure(evaluate(PAIR, CURVES), ax=ax),
    ],
)
def test_figures_draw_on_the_axes_given(draw):
    _, ax = plt.subplots()
    assert draw(ax) is ax
    assert len(plt.get_fignums()) == 1
    drawn(ax)


# ---- accuracy -------------------------------------------------------------------------------------------------------


def test_accuracy_has_an_interval_per_cell_and_a_dot_per_run():
    ax = accuracy_by_volume(TABLE, "busi")
    text = drawn(ax)
    assert bars(ax) == len(ARMS) * 2
    assert points(ax) == len(ARMS) * 2 * 3
    assert "mean and 95 % t interval over seeds; dots: single seeds" in text
    assert "all (240)" in text
    assert ax.get_xscale() == "log"
    assert "simulated" not in text
    assert all(arm in text for arm in ARMS)


def test_simulated_data_say_so():
    assert "(simulated)" in drawn(accuracy_by_volume(TABLE, "sim_ultrasound"))
    assert "(simulated)" in drawn(learning_curves(CURVES, "sim_ultrasound", "20"))
    assert "(simulated)" in drawn(strategy_scores(TABLE, "sim_ultrasound", "20"))
    assert drawn(gain_forest(paired_gains.gain(PAIR))).count("(simulated)") == 2


def test_one_seed_has_no_interval():
    ax = accuracy_by_volume(on_one_seed(TABLE), "busi")
    drawn(ax)
    assert (bars(ax), points(ax)) == (0, len(ARMS) * 2)


def test_diverged_runs_are_counted_in_the_legend():
    table = with_diverged(PAIR)
    assert "full_finetuning (2 diverged)" in drawn(accuracy_by_volume(table, "busi"))
    assert "2 seeds, 1 diverged" in drawn(strategy_scores(table, "busi", "20"))
    assert "2 seeds, 1 without a gain" in drawn(gain_forest(paired_gains.gain(table)))
    curves = evaluations(table, lambda run: climb(0.7, 100))
    assert "full_finetuning (1 diverged)" in drawn(learning_curves(curves, "busi", "20"))


@pytest.mark.parametrize("awkward", AWKWARD)
def test_awkward_tables_can_be_drawn(awkward):
    table = awkward(TABLE[TABLE.strategy.isin(ARMS[:3]) & (TABLE.task != "cxr")])
    pair = table[table.strategy.isin(ARMS[:2])]
    curves = evaluations(table, lambda run: climb(0.7, 100 + 20 * ARMS.index(run.strategy)))
    gains = paired_gains.gain(pair)
    for ax in (
        accuracy_by_volume(table, "busi"),
        learning_curves(curves, "busi", "20"),
        learning_rates(table.assign(chosen=True)),
        strategy_scores(table, "busi", "20"),
        plateau_times(convergence.time_to_plateau(pair, curves)),
        gain_forest(gains),
        gain_by_difficulty(gains, paired_gains.difficulty(pair), large=0.03, hard=0.2),
    ):
        assert ax.get_title(loc="left")
        drawn(ax)


def test_two_sources_are_told_apart():
    text = drawn(accuracy_by_volume(with_two_sources(TABLE), "busi"))
    assert "full_finetuning from ccp" in text
    assert "full_finetuning from sim_natural" in text


@pytest.mark.parametrize(
    "draw",
    [
        lambda none: accuracy_by_volume(none, "busi"),
        lambda none: learning_curves(evaluations(none, None), "busi", "20"),
        lambda none: learning_rates(none.assign(chosen=True)),
        lambda none: strategy_scores(none, "busi", "20"),
        lambda none: plateau_times(convergence.time_to_plateau(none, evaluations(none, None))),
        lambda none: gain_forest(paired_gains.gain(none)),
        lambda none: gain_by_difficulty(paired_gains.gain(none), paired_gains.difficulty(none)),
        lambda none: ledger_figure([]),
    ],
)
def test_nothing_to_draw_says_so(draw):
    ax = draw(frame([]))
    assert drawn(ax).strip(" |")
    assert ax.texts[0].get_text().startswith("no ")
    assert not ax.axison


# ---- learning -------------------------------------------------------------------------------------------------------


def test_curves_have_a_line_and_a_band_per_arm_and_the_fractions():
    ax = learning_curves(CURVES, "busi", "20", fractions=(0.9, 0.95))
    text = drawn(ax)
    assert len([line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata())]) == len(ARMS)
    assert len(ax.collections) == len(ARMS)
    levels = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    plateau = np.mean([dice("busi", "scratch", 20, seed) for seed in range(3)])
    assert levels == pytest.approx([0.9 * plateau, 0.95 * plateau])
    assert "dotted: 90, 95 % of the scratch plateau" in text.replace("\n", " ")


def test_a_run_that_stopped_early_keeps_its_last_value():
    rows = PAIR[(PAIR.task == "busi") & (PAIR.volume_label == "20") & (PAIR.strategy == "scratch")]
    curves = evaluations(rows, lambda run: [(0, 0.0), (100, 0.5)] + ([(200, 0.8)] if run.seed else []))
    ax = learning_curves(curves, "busi", "20")
    assert ax.lines[0].get_ydata()[-1] == pytest.approx((0.5 + 0.8 + 0.8) / 3)


def test_rates_frame_the_choice_of_every_seed_and_tell_diverged_runs():
    """Seeds 0 and 2 choose .001, seed 1 chooses .01, where one arm of seed 2 diverged."""
    own = PAIR[(PAIR.task == "busi") & (PAIR.volume_label == "20")]
    low, high = own.assign(lr=1e-3, chosen=own.seed != 1), own.assign(lr=1e-2, chosen=own.seed == 1)
    gone = (high.strategy == "scratch") & (high.seed == 2)
    high.loc[gone, ["status", "val_score"]] = ["diverged", np.nan]
    ax = learning_rates(pd.concat([low, high]))
    framed = [patch for patch in ax.patches if patch.get_linewidth() > 1.5]
    places = sorted((round(patch.get_y()), round((patch.get_x() + 0.46) * 3 / 0.92)) for patch in framed)
    second = round(1 * 3 / 0.92)  # where the column of the second rate begins, in strips
    assert places == [(row, strip) for row in (0, 1) for strip in (0, 2, second + 1)]
    assert len(ax.patches) == 2 * 2 * 3
    assert drawn(ax).count("1 diverged") == 1


def test_strategies_are_ranked_with_what_they_train():
    ax = strategy_scores(TABLE, "busi", "20")
    text = drawn(ax)
    assert bars(ax) == len(ARMS)
    assert text.count("1.9 M · 3 seeds") == len(ARMS)
    means = summary(TABLE[(TABLE.task == "busi") & (TABLE.volume_label == "20")]).set_index("arm")["mean"]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert [means[name] for name in names] == sorted(means, reverse=True)


@pytest.mark.parametrize(("count", "text"), [(870, "870"), (12_345, "12.3 k"), (1_953_000, "1.95 M")])
def test_counts_are_short(count, text):
    assert _short(count) == text


# ---- what transfer is worth -----------------------------------------------------------------------------------------


def test_times_join_pairs_and_state_the_ratio():
    ax = plateau_times(convergence.time_to_plateau(PAIR, CURVES))
    text = drawn(ax)
    joined = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_color() == "#BBBBBB"]
    assert len(joined) == 6 * 3
    assert "never reached" not in text
    assert "95 % t interval of log ratios" in text.replace("\n", " ")
    assert sum("[" in each.get_text() for each in ax.texts) == 6


def test_runs_that_never_get_there_are_open_with_an_arrow():
    curves = evaluations(PAIR, lambda run: climb(0.8 if run.strategy == "scratch" else 0.2, 100))
    ax = plateau_times(convergence.time_to_plateau(PAIR, curves))
    assert "never reached (at its budget)" in drawn(ax)
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None) is not None]
    assert len(arrows) == 6 * 3
    assert {float(arrow.xy[0]) for arrow in arrows} == {400.0}


def test_forest_is_sorted_and_marks_zero():
    ax = gain_forest(paired_gains.gain(PAIR))
    text = drawn(ax)
    assert (bars(ax), points(ax)) == (6, 18)
    assert text.count("3 seeds") == 6
    assert "Dice of full_finetuning - Dice of scratch, same seed" in text
    marks = [line for line in ax.lines if line.get_marker() == ARM_STYLES["full_finetuning"].marker]
    means = [float(line.get_xdata()[0]) for line in marks]
    assert means == sorted(means, reverse=True)


def test_an_interval_that_leaves_the_picture_is_admitted():
    table = PAIR[PAIR.seed < 2].copy()
    table.loc[table.seed == 1, "dice"] += np.where(table[table.seed == 1].strategy == "scratch", 0, 0.02)
    text = drawn(gain_forest(paired_gains.gain(table))).replace("\n", " ")
    assert "some intervals run out of the picture" in text


def test_gains_by_difficulty_number_and_list_the_tasks():
    ax = gain_by_difficulty(paired_gains.gain(PAIR), paired_gains.difficulty(PAIR), large=0.03, hard=0.2)
    text = drawn(ax).replace("\n", " ")
    assert "20 images" in text
    assert "all images" in text
    assert "dashed: large gain 0.03, hard task 0.2" in text
    numbers = [each for each in ax.texts if each.get_text() in {"1", "2", "3"}]
    assert len(numbers) == 3
    assert len({round(each.get_position()[0], 4) for each in numbers}) == 3  # equal difficulties are pushed apart


def test_ledger_has_a_box_per_verdict():
    rows = evaluate(PAIR, CURVES)
    ax = ledger_figure(rows)
    text = drawn(ax)
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_width() > 0]
    assert len(boxes) == len(rows) > 4
    colors = [to_hex(patch.get_facecolor()).upper() for patch in boxes]
    assert colors == [VERDICT_COLORS[row["verdict"]] for row in rows]
    assert [bool(patch.get_hatch()) for patch in boxes] == [row["fragile"] for row in rows]
    shown = [row for row in rows if row["effect"] is not None]
    assert shown
    assert all(f"{row['effect']:.3g}\n[{row['interval'][0]:.3g}, " in text for row in shown)
    assert all(word in text for word in [*VERDICT_COLORS, "fragile"])
    assert all(f"holds {row['side']} {row['line']:.3g}" in text for row in shown)


def test_distances_are_named_by_their_unit_and_never_mixed():
    rows = [row("busi", arm, seed, 0.8) for arm in ("scratch", "full_finetuning") for seed in range(2)]
    assert strategy_scores(frame(rows), "busi", "all", metric="hd95").get_xlabel() == "HD95 on test images (pixels)"
    millimeters = [{**each, "hd95_unit": "mm"} for each in rows]
    assert strategy_scores(frame(millimeters), "busi", "all", metric="hd95").get_xlabel().endswith("(mm)")
    assert accuracy_by_volume(frame(millimeters), "busi", metric="hd95").get_ylabel().endswith("(mm)")
    with pytest.raises(StudyError, match="must have one unit, got mm and px; draw a figure each"):
        strategy_scores(frame([*rows[:2], *millimeters[2:]]), "busi", "all", metric="hd95")
