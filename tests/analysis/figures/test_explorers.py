"""Figures that react: planted data, looked at in a real browser by click and by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import evaluations, grid
from playwright.sync_api import Page

from analysis.figures.explorers import curves_explorer, explorer, gray_bytes, outlines_explorer
from lib.common.errors import StudyError

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
LAYERS = ["enc0", "enc1", "dec0"]


def planted(step: int, pair: int) -> list[float | None]:
    """Similarities that say where they stand: pair, step, row and column are digits."""
    return [round(0.1 * pair + 0.01 * step + 0.001 * place, 3) for place in range(8)] + [None]


def data_of(html: Any) -> Any:
    text = html.data.split('<script type="application/json">')[1].split("</script>")[0]
    return json.loads(text)


def layers_page() -> Any:
    pairs = [{"name": f"pair {at}", "values": [planted(step, at) for step in range(3)]} for at in range(2)]
    return explorer("layers", {"layers": LAYERS, "steps": [0, 5, 10], "measure": "CKA", "pairs": pairs}, "maps")


def filters_page() -> Any:
    frames = [gray_bytes(np.full((3, 4), value)) for value in (-1.0, 0.0, 1.0)]
    layer = {"name": "enc0.conv1", "width": 4, "frames": frames, "cosine": [1.0, 0.9, None]}
    return explorer("filters", {"steps": [0, 1, 2], "layers": [layer, {**layer, "name": "enc1.conv1"}]}, "kernels")


def curves_page() -> Any:
    table = grid(["us"], [None], 2, lambda *cell: 0.5)
    heights = {"scratch": 0.2, "full_finetuning": 0.6}
    drawn = evaluations(
        table, lambda run: [(at, heights[run.strategy] + 0.01 * run.seed + at / 1000) for at in (0, 10)]
    )
    return curves_explorer(drawn)


def outlines_page() -> Any:
    truth = np.zeros((2, 8, 8), dtype=np.uint8)
    truth[0, 2:6, 2:6] = 1
    half = truth.copy()
    half[0, 4:] = 0
    images = np.linspace(0, 1, 128).reshape(2, 8, 8)
    return outlines_explorer(images, truth, {"scratch": half, "full_finetuning": truth}, ["one", "two"], "squares")


def opened(page: Page, tmp_path: Path, *parts: Any) -> Page:
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>a</title>'
    body = "".join(part.data for part in parts)
    (tmp_path / "page.html").write_text(f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{body}</body></html>')
    page.goto((tmp_path / "page.html").as_uri())
    return page


def test_layers_react_to_click_and_key(page: Page, tmp_path: Path):
    found = opened(page, tmp_path, layers_page())
    told = found.locator(".told")
    assert told.inner_text() == "enc1 against enc1, pair 0, step 10: CKA 0.024"
    found.locator("rect[data-row='0'][data-column='2']").click()
    assert told.inner_text() == "enc0 against dec0, pair 0, step 10: CKA 0.022"
    found.get_by_label("checkpoint").press("Home")
    assert told.inner_text() == "enc0 against dec0, pair 0, step 0: CKA 0.002"
    found.get_by_label("networks").select_option("pair 1")
    assert told.inner_text() == "enc0 against dec0, pair 1, step 0: CKA 0.102"
    found.get_by_label("layer (row)").select_option("dec0")
    assert told.inner_text() == "dec0 against dec0, pair 1, step 0: CKA –"
    assert found.locator("polyline").count() == 3


def test_filters_are_drawn_at_every_checkpoint(page: Page, tmp_path: Path):
    found = opened(page, tmp_path, filters_page())
    gray = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 1, 1).data)"
    first, chosen = found.locator("canvas").all()
    assert (first.evaluate(gray)[0], chosen.evaluate(gray)[0]) == (0, 254)
    assert "step 2: the median filter has a cosine of –" in found.locator(".told").inner_text()
    found.get_by_label("checkpoint").press("ArrowLeft")
    assert (first.evaluate(gray)[0], chosen.evaluate(gray)[0]) == (0, 127)
    assert found.locator(".told").inner_text() == (
        "enc0.conv1, step 1: the median filter has a cosine of 0.900 with its start"
    )


def test_curves_tell_means_of_the_arms_that_are_chosen(page: Page, tmp_path: Path):
    found = opened(page, tmp_path, curves_page())
    told, lines = found.locator(".told"), found.locator("polyline")
    assert told.inner_text() == "step 10: scratch 0.215 (2 seeds); full_finetuning 0.615 (2 seeds)"
    assert lines.count() == 4
    found.get_by_label("scratch").uncheck()
    assert told.inner_text() == "step 10: full_finetuning 0.615 (2 seeds)"
    assert lines.count() == 2
    found.get_by_label("step", exact=True).press("ArrowLeft")
    assert told.inner_text() == "step 0: full_finetuning 0.605 (2 seeds)"
    found.locator("svg").click(position={"x": 440, "y": 100})
    assert told.inner_text().startswith("step 10:")
    found.get_by_label("full_finetuning").uncheck()
    assert told.inner_text() == "step 10: nothing chosen"


def test_outlines_follow_the_edges_of_masks(page: Page, tmp_path: Path):
    found = opened(page, tmp_path, outlines_page())
    assert found.locator(".told").inner_text() == "one: scratch Dice 0.67; full_finetuning Dice 1.00"
    lengths = [path.get_attribute("d").count("M") for path in found.locator("path").all()]
    assert lengths == [16, 12, 16]
    found.get_by_label("truth").uncheck()
    assert found.locator("path").count() == 2
    found.get_by_label("image").press("ArrowRight")
    assert found.locator(".told").inner_text() == "two: scratch Dice 1.00; full_finetuning Dice 1.00"


def test_several_explorers_stand_on_one_page_and_every_control_has_a_name(page: Page, tmp_path: Path):
    found = opened(page, tmp_path, layers_page(), filters_page(), curves_page(), outlines_page())
    assert found.locator(".told").count() == 4
    assert all(told.inner_text() for told in found.locator(".told").all())
    for control in found.locator("input, select").all():
        assert control.evaluate("each => each.labels[0].innerText.trim()")
    found.emulate_media(media="print")
    assert not any(each.is_visible() for each in found.locator(".explorer").all())


def test_names_are_text_and_data_are_whole(page: Page, tmp_path: Path):
    bad = "</script><img src=x onerror=alert(1)>"
    data = {"layers": [bad], "steps": [0], "measure": "CKA", "pairs": [{"name": bad, "values": [[0.5]]}]}
    found = opened(page, tmp_path, explorer("layers", data, bad))
    assert found.locator("img").count() == 0
    assert found.locator(".told").inner_text() == f"{bad} against {bad}, {bad}, step 0: CKA 0.500"
    curves = data_of(curves_page())
    assert [arm["name"] for arm in curves["arms"]] == ["scratch", "full_finetuning"]
    assert curves["cells"][0]["runs"][1]["values"] == [0.61, 0.62]


def test_what_cannot_be_explored_is_refused():
    with pytest.raises(StudyError, match="an explorer is one of layers, filters, curves, outlines, got 'pie'"):
        explorer("pie", {}, "")
    masks = np.zeros((1, 8, 8))
    with pytest.raises(StudyError, match="outlines of 6 arms"):
        outlines_explorer(masks, masks, {str(arm): masks for arm in range(6)}, ["one"], "")
