"""What networks draw beside the truth: two tiny runs, held against their own masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny

from analysis.claims.transfer_value.drawings import drawings
from analysis.tables import run_table
from lib.data.tasks import images_at, load_data, split
from lib.runs.run import Run
from lib.training import train
from lib.training.goals.segmentation_metrics import dice

pytestmark = pytest.mark.usefixtures("blobs_as_data")


def trained() -> list[Run]:
    source = tiny.spec(seed=5)
    train(source)
    return [train(tiny.spec(strategy="full_finetuning", source=source)), train(tiny.spec())]


def test_the_masks_are_those_of_the_networks_on_the_first_test_images():
    runs = trained()
    found = drawings(run_table(runs), runs, count=4)
    assert found is not None
    assert list(found.drawn) == ["scratch", "full_finetuning"]  # in the order of arms, not that of the runs
    spec, data = runs[0].spec, load_data("blobs", 16)
    test = split("blobs", data.groups, fold=0, volume=6, seed=0, folds=data.folds).test[:4]
    images, truth = images_at("blobs", spec.size, test)
    np.testing.assert_array_equal(found.truth, truth.numpy() > 0)
    np.testing.assert_array_equal(found.drawn["scratch"], runs[1].segment(images))
    table = found.table()
    assert list(table.arm) == ["truth"] * 4 + ["scratch"] * 4 + ["full_finetuning"] * 4
    assert (table.dice[:4] == 1).all()
    expected = [dice(*pair) for pair in zip(runs[0].segment(images), truth.numpy(), strict=True)]
    np.testing.assert_allclose(table.dice[8:], expected)
    shown = json.loads(str(found.explorer().data).split('<script type="application/json">')[1].split("</script>")[0])
    assert [each["dice"][2] for each in shown["images"]] == [round(each, 3) for each in expected]
    assert len(found.figure().figure.axes) == 12


def test_what_is_ignored_is_inside_of_nothing(monkeypatch: pytest.MonkeyPatch):
    runs = trained()[1:]
    images, truth = images_at("blobs", 16, np.arange(2))
    truth[:, :4] = 255
    monkeypatch.setattr("analysis.claims.transfer_value.drawings.images_at", lambda *_: (images, truth))
    found = drawings(run_table(runs), runs)
    assert found is not None
    assert not found.truth[:, :4].any()


def test_where_nothing_was_trained_to_its_end_there_is_nothing_to_draw():
    runs = trained()
    table = run_table(runs)
    assert drawings(table.assign(status="diverged"), runs) is None
    assert drawings(table, []) is None
    assert drawings(table[:0], runs) is None
