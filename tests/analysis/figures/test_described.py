"""Figures in words and in the dark: planted numbers are found again, and what stands on a picture keeps its color."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba

from analysis.figures.charts import heat_map
from analysis.figures.dark import INK, PAPER, darken, on_dark
from analysis.figures.described import LETTERS, described
from analysis.figures.images import image_grid, picture_table
from analysis.figures.performance import strategy_scores
from analysis.figures.style import ARM_STYLES, empty_axes

NOTHING = pd.DataFrame()


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def scores() -> pd.DataFrame:
    rows = [
        {"arm": arm, "strategy": arm, "seed": seed, "dice": mean + shift, "task": "blobs", "title": "blobs"}
        for arm, mean in (("scratch", 0.5), ("full_finetuning", 0.75))
        for seed, shift in enumerate((-0.01, 0.0, 0.01))
    ]
    more = {
        "kind": "simulated",
        "source": "",
        "status": "done",
        "goal": "segmentation",
        "volume": 20.0,
        "seconds": 1.0,
        "fold": 0,
    }
    return pd.DataFrame(rows).assign(**more, volume_label="20", trainable=10, score=lambda each: each.dice)


def test_rows_are_told_with_their_intervals():
    ax = strategy_scores(scores(), "blobs", "20")
    words = described(ax.get_figure(root=True), NOTHING)
    assert words.startswith("Rows of values: blobs (simulated), 20 images. x: Dice on test images")
    assert "full_finetuning 0.75 [0.725, 0.775]; scratch 0.5 [0.475, 0.525]" in words  # 0.01 / sqrt(3) x 4.303


def test_a_heat_map_is_told_by_its_extremes():
    figure, ax = plt.subplots()
    heat_map(ax, pd.DataFrame({"left": [0.1, 0.9], "right": [0.5, np.nan]}, index=["top", "low"]), 0, 1)
    words = described(figure, NOTHING)
    assert "2 rows (top to low) by 2 columns (left to right)" in words
    assert "lowest 0.1 (top, left), highest 0.9 (low, left), mean 0.5" in words


def test_pictures_are_told_from_their_table():
    masks = [np.zeros((8, 8), dtype=np.uint8), np.zeros((8, 8), dtype=np.uint8)]
    masks[1][:4] = 1
    images = [np.full((8, 8), 0.5)] * 2
    table = picture_table(masks, run="run_a", dice=[0.25, 0.75])
    assert table.outlined.tolist() == [0, 0.5]
    words = described(image_grid(images, masks, "Drawn")[0, 0].get_figure(root=True), table)
    assert words.startswith("2 pictures: Drawn")
    assert words.count("run run_a") == 1
    assert "dice 0.25, outlined 0; dice 0.75, outlined 0.5, labels 1" in words


def test_nothing_drawn_says_why():
    _, ax = plt.subplots()
    empty_axes(ax, "Gains", "no pair of runs")
    assert described(ax.get_figure(root=True), NOTHING) == "Nothing is drawn: Gains. no pair of runs."


def test_words_have_an_end():
    figure, ax = plt.subplots()
    for each in range(40):
        ax.plot([0, 1], [each, 1.0], marker="o", label=f"{each} " + "word " * 30)
    words = described(figure, NOTHING)
    assert len(words) <= LETTERS
    assert words.endswith("…")


def test_ink_turns_light_and_dim_colors_are_lifted():
    assert on_dark("black") == INK + "ff"
    assert on_dark("white") == PAPER + "ff"
    assert to_rgba(on_dark("#444444"))[0] > 0.6
    assert to_rgba(on_dark((0, 0, 0, 0.2)))[3] == 0.2
    assert len(ARM_STYLES) > 10
    for style in ARM_STYLES.values():
        channels = np.array(to_rgba(on_dark(style.color))[:3])
        assert (channels**2.2) @ (0.2126, 0.7152, 0.0722) > 0.19, style


def test_what_stands_on_a_picture_keeps_its_color():
    figure, (left, right) = plt.subplots(1, 2)
    left.imshow(np.ones((2, 2)), vmin=0, vmax=1)
    cell = left.text(0, 0, "cell", color="black")
    title = left.set_title("title", color="black")
    bar = right.barh(0, 1.0, color="#E3E3E3")
    on_bar, beside = right.text(0.5, 0, "x", ha="center"), right.text(1.5, 0, "y")
    right.set_xlim(0, 3)
    figure.savefig(io.BytesIO())
    darken(figure)
    assert [to_hex(each.get_color()) for each in (cell, on_bar)] == ["#000000"] * 2
    assert [to_hex(each.get_color()) for each in (title, beside)] == [INK] * 2
    assert to_hex(bar[0].get_facecolor()) == "#e3e3e3"
    assert to_hex(figure.get_facecolor()) == PAPER
