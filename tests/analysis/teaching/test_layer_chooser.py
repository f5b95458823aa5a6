"""The clickable view and its static twin do the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba

from analysis import explore
from lib.errors import StudyError
from lib.models import build
from lib.runs import Run
from lib.spec import RunSpec
from tests import fakes


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunSpec]:
    """The specs that were asked for; instead of training, a run is planted whose Dice counts its stages."""
    asked: list[RunSpec] = []

    def plant(spec: RunSpec) -> Run:
        asked.append(spec)
        stages = spec.options.get("stages", explore.STAGES)
        root = tmp_path / str(len(asked))
        return fakes.fake_run(root, spec, dice=len(stages) / 10)

    monkeypatch.setattr(explore, "train", plant)
    return asked


def test_the_stages_are_those_of_the_network(trained: list[RunSpec]) -> None:
    assert build(width=1, depth=explore.DEPTH, norm="batch", seed=0).stages == explore.STAGES
    with pytest.raises(StudyError, match="unknown stage 'enc9'"):
        explore.tune("sim_ultrasound", ["enc9"])
    with pytest.raises(StudyError, match="stages must be a list with at least one"):
        explore.tune("sim_ultrasound", [])


def test_the_order_of_clicks_makes_no_other_run(trained: list[RunSpec]) -> None:
    explore.tune("sim_ultrasound", ["head", "enc0"])
    explore.tune("sim_ultrasound", ["enc0", "head"])
    explore.tune("sim_ultrasound", list(reversed(explore.STAGES)))
    assert trained[0] == trained[1]
    assert trained[0].options["stages"] == ["enc0", "head"]
    assert trained[2].strategy == "full_finetuning"
    assert trained[0].source == trained[2].source == explore.source()


def test_consequences_may_come_one_by_one(trained: list[RunSpec]) -> None:
    table = explore.consequences(explore.tune("sim_ultrasound", [stage]) for stage in ("enc0", "head"))
    assert table.tuned.tolist() == ["enc0", "head"]
    assert (table.seconds > 0).all()


def test_the_diagram_counts_what_moves() -> None:
    ax = explore.u_diagram(["head"])
    notes = [text.get_text() for text in ax.texts]
    assert any(note.startswith("5 of ") for note in notes)  # four weights and a bias
    colored = [patch.get_facecolor() == to_rgba(explore.MOVES) for patch in ax.patches]
    assert colored.count(True) == 1
    assert any(note.startswith("0 of ") for note in [text.get_text() for text in explore.u_diagram([]).texts])
    plt.close("all")


def test_clicking_does_what_the_static_twin_does(trained: list[RunSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    view = explore.layer_chooser("sim_ultrasound")
    row, _, go, _ = view.children
    assert [button.description for button in row.children] == explore.STAGES
    assert go.disabled  # nothing chosen
    row.children[0].value = True
    row.children[-1].value = True
    assert not go.disabled
    go.click()
    explore.tune("sim_ultrasound", ["enc0", "head"])
    assert trained[0] == trained[1]
    row.children[0].value = False
    go.click()
    table = shown[-1]
    assert table["tuned"].tolist() == ["enc0+head", "head"]  # the better one first, the earlier kept
    assert table["test Dice"].tolist() == [0.2, 0.1]
    assert not plt.get_fignums()
