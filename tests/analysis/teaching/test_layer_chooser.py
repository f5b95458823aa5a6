"""The clickable view and its static twin do the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba

from analysis.teaching import layer_chooser
from lib.common.errors import StudyError
from lib.networks.unet import build
from lib.runs.run import Run
from lib.runs.spec import RunSpec


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunSpec]:
    """The specs that were asked for; instead of training, a run is planted whose Dice counts its stages."""
    asked: list[RunSpec] = []

    def plant(spec: RunSpec) -> Run:
        asked.append(spec)
        stages = spec.options.get("stages", layer_chooser.STAGES)
        root = tmp_path / str(len(asked))
        return fakes.fake_run(root, spec, dice=len(stages) / 10)

    monkeypatch.setattr(layer_chooser, "train", plant)
    return asked


def test_the_stages_are_those_of_the_network(trained: list[RunSpec]) -> None:
    assert build(width=1, depth=layer_chooser.DEPTH, norm="batch", seed=0).stages == layer_chooser.STAGES
    with pytest.raises(StudyError, match="unknown stage 'enc9'"):
        layer_chooser.tuned_run("sim_ultrasound", ["enc9"])
    with pytest.raises(StudyError, match="stages must be a list with at least one"):
        layer_chooser.tuned_run("sim_ultrasound", [])


def test_the_order_of_clicks_makes_no_other_run(trained: list[RunSpec]) -> None:
    layer_chooser.tuned_run("sim_ultrasound", ["head", "enc0"])
    layer_chooser.tuned_run("sim_ultrasound", ["enc0", "head"])
    layer_chooser.tuned_run("sim_ultrasound", list(reversed(layer_chooser.STAGES)))
    assert trained[0] == trained[1]
    assert trained[0].options["stages"] == ["enc0", "head"]
    assert trained[2].strategy == "full_finetuning"
    assert trained[0].source == trained[2].source == layer_chooser.source_run()


def test_consequences_may_come_one_by_one(trained: list[RunSpec]) -> None:
    table = layer_chooser.tuning_table(layer_chooser.tuned_run("sim_ultrasound", [stage]) for stage in ("enc0", "head"))
    assert table.tuned.tolist() == ["enc0", "head"]
    assert (table.seconds > 0).all()


def test_the_diagram_counts_what_moves() -> None:
    ax = layer_chooser.u_diagram(["head"])
    notes = [text.get_text() for text in ax.texts]
    assert any(note.startswith("5 of ") for note in notes)  # four weights and a bias
    colored = [patch.get_facecolor() == to_rgba(layer_chooser.MOVES) for patch in ax.patches]
    assert colored.count(True) == 1
    assert any(note.startswith("0 of ") for note in [text.get_text() for text in layer_chooser.u_diagram([]).texts])
    plt.close("all")


def test_clicking_does_what_the_static_twin_does(trained: list[RunSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    view = layer_chooser.layer_chooser("sim_ultrasound")
    row, _, go, _ = view.children
    assert [button.description for button in row.children] == layer_chooser.STAGES
    assert go.disabled  # nothing chosen
    row.children[0].value = True
    row.children[-1].value = True
    assert not go.disabled
    go.click()
    layer_chooser.tuned_run("sim_ultrasound", ["enc0", "head"])
    assert trained[0] == trained[1]
    row.children[0].value = False
    go.click()
    table = shown[-1]
    assert table["tuned"].tolist() == ["enc0+head", "head"]  # the better one first, the earlier kept
    assert table["test Dice"].tolist() == [0.2, 0.1]
    assert not plt.get_fignums()


def test_the_button_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)

    def fail(spec: RunSpec) -> Run:
        raise OSError("no space left on device")

    monkeypatch.setattr(layer_chooser, "train", fail)
    row, _, go, _ = layer_chooser.layer_chooser("sim_ultrasound").children
    row.children[0].value = True
    go.click()
    assert shown[-1] == "Not trained: no space left on device"
    assert (go.disabled, go.description) == (False, "Tune these")


def test_the_seed_of_a_student_is_that_of_the_runs(trained: list[RunSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.display.display", lambda thing: None)
    row, _, go, _ = layer_chooser.layer_chooser("sim_ultrasound", 7).children
    row.children[0].value = True
    go.click()
    assert trained[0].seed == 7
    assert trained[0].source == layer_chooser.source_run(7)
