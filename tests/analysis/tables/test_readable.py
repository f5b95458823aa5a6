"""Tables as readers see them: words, digits, gaps, and what a page needs to read them aloud."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from analysis.tables.readable import cell_text, p_text, shown


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (0.0, "p", "< 0.0001"),
        (0.00123, "p_holm", "0.0012"),
        (0.4567, "adjusted", "0.46"),
        (float("nan"), "dice", "–"),
        (None, "note", "–"),
        (np.True_, "chosen", "yes"),
        (False, "chosen", "no"),
        (12345, "trainable", "12,345"),
        (np.int64(2048), "seed", "2048"),
        (0.92949, "dice", "0.929"),
        (19.5404, "psnr", "19.54"),
        (0.000123, "nmse", "0.00012"),
        (0.01, "lr", "0.01"),
        (150.0, "half", "150"),
        (float("inf"), "ratio", "∞"),
        (0.25, "agreement", "25 %"),
        (["enc0", "dec0"], "stages", "enc0, dec0"),
        ("sim_ultrasound_hard", "task", "ultrasound, hard (simulated)"),
        ("of_my_own", "task", "of_my_own"),
    ],
)
def test_a_cell_reads_as_what_it_is(value: object, column: str, text: str):
    assert cell_text(value, column) == text


def test_no_p_value_is_told_as_zero():
    assert [p_text(p) for p in (1e-300, 9.9e-5, 1.1e-4, 1.0)] == ["< 0.0001", "< 0.0001", "0.0001", "1.00"]


def test_a_table_names_its_columns_rows_and_itself():
    table = pd.DataFrame({"arm": ["a <b>", "c"], "volume_label": ["20", "all"], "psnr": [19.5, np.nan]}, index=[7, 9])
    html = shown(table, "What & why", name="scores", names={"arm": "strategy"}).data
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', html) == ["strategy", "training set", "PSNR (dB)"]
    assert re.findall(r'<th scope="row"[^>]*>([^<]*)</th>', html) == ["a &lt;b&gt;", "c"]
    assert '<table class="shown" id="table-scores"><caption>What &amp; why</caption>' in html
    assert 'tabindex="0" role="region" aria-label="What &amp; why"' in html
    assert ' data-order="19.5">19.50</td>' in html
    assert not re.search(r"nan|None|>7<|>9<", html)


def test_an_index_with_a_name_is_a_column_and_levels_become_words():
    table = pd.DataFrame({"stage": ["x", "x"], "way": ["a", "b"], "n": [1, 2]}).pivot(
        index="stage", columns="way", values=["n"]
    )
    html = shown(table, "Counts").data
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', html) == ["stage", "n, a", "n, b"]
    assert "no row" in shown(table.iloc[:0], "Counts").data
