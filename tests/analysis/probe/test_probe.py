"""Probe of foreign checkpoints: planted truths, equality with the study's own runs, refusals, the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from probed import LEAVES, RETRAINED, network, retrained, save_series
from torch import nn

from analysis.__main__ import main
from analysis.probe import with_images
from analysis.probe.networks import called_layers, choose_layers
from analysis.probe.probe_images import read_images
from analysis.probe.subjects import open_subjects
from analysis.probe.weights_alone import moves, randomness, when_moved
from analysis.probe.with_images import activations_of, block, counterparts, dimensions, panels, similarities, to_ends
from lib.common.errors import StudyError
from lib.imaging.grids import Grid, write_grid


def test_the_layers_that_were_retrained_are_named_and_no_others(code: str, tmp_path: Path):
    save_series(tmp_path / "a", 0)
    for given in ("", code):
        (subject,) = open_subjects([str(tmp_path / "a")], [given] if given else [])
        assert not len(subject.not_read())
        summary = when_moved(moves(subject)).set_index("layer")
        assert set(summary.index) == set(LEAVES)
        assert summary.kind["rise"] == "transposed"  # without the network its bias tells it
        assert any("2 layers are taken for plain" in line for line in subject.said) == (not given)
        assert set(summary.index[summary.moved]) == set(RETRAINED)
        assert set(summary.half[summary.moved]) == {"step 200"}
        assert (summary.angle[~summary.moved] == 0).all()
        found, table, null = randomness(subject)
        assert "law found at step 0: uniform" in null
        last = found[found.checkpoint == "step 200"].set_index("layer").verdict
        assert set(last.index[last == "not random"]) == set(RETRAINED)
        assert set(found[found.checkpoint == "step 0"].verdict) == {"looks random"}
        assert set(table.checkpoint) == {"step 0", "step 200"}


def test_without_step_0_a_verdict_needs_all_laws_and_a_trained_start_gives_none(code: str, tmp_path: Path):
    state = save_series(tmp_path / "a", 1, steps=(10, 200))
    (subject,) = open_subjects([str(tmp_path / "a")])
    found, _, null = randomness(subject)
    assert "no checkpoint is known to be of step 0" in null
    last = found[found.checkpoint == "step 200"].set_index("layer").verdict
    assert set(last.index[last == "not random"]) == set(RETRAINED)
    (tmp_path / "b").mkdir()
    for step in (0, 5):
        torch.save({"step": step, "model": retrained(state, 0.6 + step / 100)}, tmp_path / "b" / f"{step}.pt")
    (subject,) = open_subjects([str(tmp_path / "b")])
    last = randomness(subject)[0].query("checkpoint == 'step 5'").set_index("layer").verdict
    assert all(last[name].startswith("no verdict: step 0 fails as well") for name in RETRAINED)


def test_two_series_side_by_side_and_layers_chosen_along_the_path(code: str, tmp_path: Path):
    save_series(tmp_path / "a", 0)
    save_series(tmp_path / "b", 1, steps=(0, 200))
    subjects = open_subjects([str(tmp_path / "a"), str(tmp_path / "b")], [code])
    torch.save({"images": torch.randn(24, 1, 16, 16)}, tmp_path / "images.pt")
    kept, said = activations_of(subjects, str(tmp_path / "images.pt"))
    assert "7 layers chosen automatically" in said
    assert [label.layer for label in kept.labels][:7] == LEAVES
    found = similarities(kept)
    shown = panels(found, subjects)
    assert len(shown) == 8
    assert all(values.shape == (7, 7) for values in shown.values())
    assert np.allclose(np.diag(block(found, ("a", 0), ("a", 0))), 1)
    ends = to_ends(found, subjects[0])
    start = ends[ends["at"] == 0]
    assert np.allclose(start.start, 1)
    unmoved = ends[ends.layer == "stem.0"]
    assert np.allclose(unmoved.end, 1, atol=1e-6)  # what lies before all that was retrained
    assert ends[(ends.layer == "down.1") & (ends["at"] == 0)].end.item() < 0.99
    spread = dimensions(kept, subjects)
    assert spread.dimension.between(1, 23).all()
    assert list(counterparts(kept, [subjects[0], subjects[0]])[0].counterpart) == LEAVES * 2


def test_memory_stays_within_the_bound_by_parting_layers_and_leaving_out_images(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_series(tmp_path / "a", 0, steps=(0,))
    torch.save({"images": torch.randn(24, 1, 16, 16)}, tmp_path / "images.pt")
    subjects = open_subjects([str(tmp_path / "a")], [code])
    whole, _ = activations_of(subjects, str(tmp_path / "images.pt"))
    monkeypatch.setattr(with_images, "BUDGET_MB", 4 * 12 * 256 * 24 / 1e6)  # the largest layer alone
    parted, said = activations_of(subjects, str(tmp_path / "images.pt"))
    assert "would not fit" not in said
    assert parted.labels == whole.labels
    np.testing.assert_allclose(similarities(parted).values, similarities(whole).values, atol=1e-6)
    monkeypatch.setattr(with_images, "BUDGET_MB", 4 * 12 * 256 * 18 / 1e6)
    fewer, said = activations_of(subjects, str(tmp_path / "images.pt"))
    assert fewer.samples == 18
    assert "the first 18, as more would not fit" in said
    monkeypatch.setattr(with_images, "BUDGET_MB", 0.01)
    with pytest.raises(StudyError, match=r"16 images are needed, there are 24 and the maps of stem.0"):
        activations_of(subjects, str(tmp_path / "images.pt"))


def test_layers_by_pattern_and_in_deep_networks(code: str):
    model, image = network(0), torch.randn(1, 1, 16, 16)
    called = called_layers(model, image)
    assert [each.name for each in choose_layers(model, "deep.*, mix", called)[0]] == [
        "deep.0",
        "deep.1",
        "deep.2",
        "mix",
    ]
    with pytest.raises(StudyError, match="unknown layer 'deeep'; did you mean 'deep'"):
        choose_layers(model, "deeep", called)
    deep = nn.Sequential(nn.Sequential(*[nn.Linear(4, 4) for _ in range(40)]))
    chosen = choose_layers(deep, "", called_layers(deep, torch.randn(1, 4)))[0]
    assert len(chosen) == 12
    assert (chosen[0].name, chosen[-1].name) == ("0.0", "0.39")


def test_images_from_folders_and_files(tmp_path: Path):
    pictures, volumes = tmp_path / "pictures", tmp_path / "volumes"
    pictures.mkdir()
    volumes.mkdir()
    draw = np.random.default_rng(0)
    for at in range(3):
        Image.fromarray(draw.integers(0, 255, (40, 30 + at, 3)).astype(np.uint8)).save(pictures / f"{at}.png")
        grid = Grid(draw.normal(size=(1, 70, 60 + at, 20)).astype(np.float32), np.eye(4))
        write_grid(volumes / f"{at}.nii.gz", grid)
    gray, said = read_images(str(pictures), 1)
    assert gray.shape == (3, 1, 128, 128)
    assert "3 pictures of pictures (of 3), standardized" in said
    assert gray.mean(dim=(1, 2, 3)).abs().max() < 1e-4
    assert read_images(str(pictures), 3)[0].shape == (3, 3, 128, 128)
    assert read_images(str(volumes), 1)[0].shape == (3, 1, 64, 64, 64)
    np.save(tmp_path / "a.npy", draw.normal(size=(5, 2, 8, 8)))
    assert read_images(str(tmp_path / "a.npy"), 2)[0].shape == (5, 2, 8, 8)
    with pytest.raises(StudyError, match=r"the network takes 1 channels and the images of .* have 2"):
        read_images(str(tmp_path / "a.npy"), 1)
    with pytest.raises(StudyError, match="unknown task"):
        read_images("nowhere", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="holds no pictures"):
        read_images(str(tmp_path / "empty"), 1)
    torch.save({"a": torch.zeros(2, 2), "b": torch.zeros(3, 2)}, tmp_path / "two.pt")
    with pytest.raises(StudyError, match="must hold one tensor"):
        read_images(str(tmp_path / "two.pt"), 1)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(StudyError, match=r"tensor files end in .npy"):
        read_images(str(tmp_path / "a.txt"), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no folder at nothing"),
        (["a", "--network", "foreign_net"], "unknown model 'foreign_net'"),
        (["a", "--network", "foreign_nett:build"], "foreign_nett cannot be imported here (ModuleNotFoundError"),
        (["a", "--network", "foreign_net:buidl"], "did you mean 'build'"),
        (["a", "--network", "foreign_net:number"], "gives a int, which is no torch.nn.Module"),
        (["a", "--network", "foreign_net:broken"], "cannot be made with {}: RuntimeError: no weights here"),
        (["other", "--network", "foreign_net:build"], "the weights do not fit the network"),
        (["a", "--images", "images.pt"], "images say something through a network only"),
        (["a", "--network", "foreign_net:build", "--images", "flat.pt"], "the network does not take images of shape"),
        (["a", "a", "a"], "give one folder of checkpoints, or two"),
        (["cut"], "cut.ckpt"),
        (["text"], "text.pt"),
        (["none"], "none holds no checkpoints; they end in .pt"),
        (["a", "--layers", "mix"], "--layers chooses among layers that are seen on images; give --images"),
        (
            ["a", "--network", "foreign_net:build", "--network", "foreign_net:build"],
            "give one --network for all folders",
        ),
        (["a", "--network", "monai"], "unknown model 'monai'"),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_starts(
    arguments: list[str], message: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    save_series(tmp_path / "a", 0, steps=(0,))
    (tmp_path / "other").mkdir()
    torch.save({"x.weight": torch.randn(3, 3, 3, 3)}, tmp_path / "other" / "x.pt")
    torch.save({"images": torch.randn(20, 1, 3, 3, 3)}, tmp_path / "flat.pt")
    for name in ("cut", "text", "none"):
        (tmp_path / name).mkdir()
    whole = (tmp_path / "a" / "step=0.ckpt").read_bytes()
    (tmp_path / "cut" / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text" / "text.pt").write_text("no checkpoint")
    assert main(["probe", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_layers_that_cannot_be_read_are_said_and_the_others_are(tmp_path: Path):
    folder = tmp_path / "odd"
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    state = {
        "enc.conv.weight": torch.randn(8, 4, 3, 3, generator=draw),
        "upconv1.weight": torch.randn(8, 4, 3, 3, generator=draw),
        "spectral.weight_orig": torch.randn(8, 4, 3, 3, generator=draw),
        "pruned.weight": torch.randn(8, 4, 3, 3, generator=draw) * (torch.rand(8, 4, 3, 3, generator=draw) < 0.5),
        "act.scale": torch.ones(1),
        "zero.weight": torch.zeros(4, 4, 3, 3),
    }
    torch.save({"step": 0, "model": state}, folder / "a.pt")
    moved = {name: value + 0.1 if name.startswith("enc") else value for name, value in state.items()}
    torch.save({"step": 9, "model": moved}, folder / "b.pt")
    (subject,) = open_subjects([str(folder)])
    left = subject.not_read().set_index("layer").why
    assert set(left.index) == {"upconv1", "spectral", "pruned", "act"}
    assert "may be a transposed convolution" in left["upconv1"]
    assert set(moves(subject).layer) == {"enc.conv", "zero"}
    verdict = randomness(subject)[0].query("checkpoint == 'step 9'").set_index("layer").verdict
    assert verdict["zero"] == "no verdict: no test applies"


@pytest.mark.notebook
def test_the_command_writes_a_report_with_tables_beside(code: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    save_series(tmp_path / "a", 0)
    save_series(tmp_path / "b", 1)
    torch.save({"images": torch.randn(20, 1, 16, 16)}, tmp_path / "images.pt")
    given = ["--network", code, "--images", "images.pt", "--out", "out"]
    assert main(["probe", "a", "b", *given]) == 0, capfd.readouterr().out
    out = tmp_path / "out"
    page = (out / "probe.html").read_text()
    assert "What did training do to this network?" in page
    assert "probe.html" in (out / "index.html").read_text()
    tables = {path.stem for path in (out / "probe").glob("*.csv")}
    assert tables == {"unread", "left_out", "moves", "when_moved", "verdicts", "battery", "layers", "to_ends",
                      "dimensions", "counterparts"}  # fmt: skip
    figures = {path.stem for path in (out / "probe").glob("*.svg")}
    assert figures == {"moves", "verdicts", "layers", "to_ends", "dimensions", "counterparts"}
    summary = pd.read_csv(out / "probe" / "when_moved.csv")
    assert set(summary[summary.moved].layer) == set(RETRAINED)
