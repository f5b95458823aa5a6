"""Figures and tables of filters on planted runs: what is drawn is what the tables hold."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import fake_run, frame, reseal, row
from matplotlib import pyplot as plt
from safetensors.torch import save_file

from analysis.claims.filter_change.figures import (
    affine_shares,
    change_by_stage,
    change_over_training,
    filter_mosaic,
    matched_filters,
)
from analysis.claims.filter_change.tables import change_table, matched_between_seeds, runs_of_arms
from analysis.claims.random_filters import frozen_encoder
from analysis.claims.random_filters.figures import (
    battery_results,
    level_of_tests,
    non_inferiority,
    power_of_tests,
    spectra,
)
from analysis.filters.randomness import calibration, pretrained_networks
from analysis.filters.randomness.battery import TESTS, battery
from analysis.filters.randomness.pretrained_networks import first_layers, pretrained_battery, wanted_weights
from analysis.tables import recorded_measurements
from analysis.tables.recorded_measurements import read_record, write_record
from analysis.tables.suite_grid import largest_cell
from analysis.teaching import trained_or_random
from lib.common import paths
from lib.common.errors import StudyError
from lib.common.seeding import generator
from lib.networks.unet import build
from lib.runs.run import Run
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import write_tensors

VALUES = {"width": 4, "depth": 1, "lr": 0.01}
SOURCE = RunSpec(task="sim_natural", **VALUES)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def plant(root: Path, strategy: str, seed: int, *, moved: float = 0.3, steps: tuple[int, ...] = (0, 400)) -> Run:
    """A finished run that walks away from its start by `moved` of its size, in as many checkpoints as asked."""
    source = None if strategy == "scratch" else SOURCE.but(seed=seed)
    spec = RunSpec(task="sim_radiograph", strategy=strategy, source=source, seed=seed, volume=20, **VALUES)
    run = fake_run(root, spec)
    start, draw = build(width=4, depth=1, norm="batch", seed=seed).state_dict(), generator(seed, 9)
    walk = {key: torch.randn(value.shape, generator=draw) for key, value in start.items() if value.dim() == 4}
    for step in steps:
        share = moved * step / 400
        state = {key: value + share * value.std() * walk[key] if key in walk else value for key, value in start.items()}
        write_tensors(run.checkpoint(step), state, {})
    reseal(run.path)
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    kept = (0, 1, 20, 400)
    return [plant(tmp_path, "scratch", seed, moved=0.6, steps=kept) for seed in range(3)] + [
        plant(tmp_path, "full_finetuning", seed) for seed in range(3)
    ]


def text(ax) -> str:
    return " ".join([ax.get_title(loc="left"), *(each.get_text() for each in ax.texts)]).replace("\n", " ")


# ---- tables -------------------------------------------------------------------------------------------------------


def test_runs_are_chosen_by_task_volume_and_arm(runs: list[Run]) -> None:
    assert runs_of_arms(iter(runs), "sim_radiograph", "20", ["scratch"]) == runs[:3]
    assert runs_of_arms(runs, "sim_radiograph", "all", ["scratch"]) == []


def test_changes_hold_a_row_per_run_and_stage_of_convolutions(runs: list[Run]) -> None:
    table = change_table(runs)
    assert len(table) == 6 * 3  # enc0, enc1, dec0; neither dec0.up nor the head
    assert set(table.kind) == {"simulated"}
    means = table.groupby("arm").angle_median.mean()
    assert means["scratch"] > 1.5 * means["full_finetuning"] > 10


def test_a_trajectory_takes_only_runs_with_checkpoints_on_the_way(runs: list[Run]) -> None:
    table = change_table(runs, trajectory=True)
    assert set(table.arm) == {"scratch"}
    assert sorted(set(table.step)) == [1, 20, 400]
    assert (table.sort_values("step").groupby(["run_id", "stage"]).angle_median.diff().dropna() > 0).all()
    assert len(change_table(runs[3:], trajectory=True)) == 0


def test_pairs_of_seeds_are_those_of_one_arm(runs: list[Run]) -> None:
    table = matched_between_seeds(runs[:3])
    assert set(table.seeds) == {"0 and 1", "0 and 2", "1 and 2"}
    assert len(matched_between_seeds(runs[:1])) == 0
    with pytest.raises(StudyError, match="one arm, got full_finetuning, scratch"):
        matched_between_seeds(runs)


def test_the_fullest_cell_has_the_most_arms_then_the_fewest_images() -> None:
    rows = [row("busi", arm, 0, 0.8, volume=volume) for arm in ("scratch", "full_finetuning") for volume in (20, None)]
    table = frame([*rows, row("usgra", "scratch", 0, 0.8, volume=10)])
    assert largest_cell(table) == ("busi", "20")
    assert largest_cell(frame([])) == ("", "")


# ---- figures ------------------------------------------------------------------------------------------------------


def test_angles_by_stage_are_drawn_where_the_table_has_them(runs: list[Run]) -> None:
    table = change_table(runs)
    ax = change_by_stage(table)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["enc0", "enc1", "dec0"]
    drawn = [
        float(np.ravel(line.get_ydata())[0])
        for line in ax.lines
        if line.get_marker() == "o" and len(line.get_xdata()) == 1
    ]
    means = table[table.arm == "scratch"].groupby("stage", sort=False).angle_median.mean()
    assert drawn == pytest.approx(means.tolist())
    assert "simulated" in text(ax)


def test_figures_without_runs_say_so() -> None:
    nothing = change_table([])
    for draw in (change_by_stage, affine_shares):
        assert "trained to its end" in text(draw(nothing))
    assert "between the first and the last" in text(change_over_training(nothing))
    assert "fewer than two seeds" in text(matched_filters(matched_between_seeds([])))
    assert "no pair of runs" in text(non_inferiority(frozen_encoder.losses(frame([])), 0.03))


def test_other_figures_of_change_draw(runs: list[Run]) -> None:
    steps = change_table(runs, trajectory=True)
    assert "scratch" in text(change_over_training(steps))
    assert len([line for line in change_over_training(steps).lines if len(line.get_xdata())]) == 3
    tuned = change_table(runs[3:])
    assert "full_finetuning" in text(affine_shares(tuned))
    ax = matched_filters(matched_between_seeds(runs[:3]))
    dashed = {str(line.get_label()): line.is_dashed() for line in ax.lines if not len(line.get_xdata())}
    assert dashed == {"best order": False, "random filters, best order": True, "as they stand": False}
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "enc0.conv1", "enc0.conv2", "enc1.conv1", "enc1.conv2", "dec0.conv1", "dec0.conv2"
    ]  # fmt: skip


def test_a_mosaic_holds_the_kernels_and_their_difference() -> None:
    start = {"a.weight": torch.randn((3, 2, 3, 3), generator=generator(0))}
    end = {"a.weight": start["a.weight"] + 0.01}
    axes = filter_mosaic({"start": start, "end": end}, "a", difference=True)
    pictures = [np.asarray(ax.images[0].get_array(), dtype=float) for ax in axes]
    assert [picture.shape for picture in pictures] == [(7, 11)] * 3  # six kernels in two rows of three, a line between
    np.testing.assert_allclose(pictures[0][:3, :3], start["a.weight"][0, 0])
    np.testing.assert_allclose(pictures[0][4:, 8:], start["a.weight"][2, 1])
    assert np.isnan(pictures[0][3]).all()
    np.testing.assert_allclose(pictures[2][~np.isnan(pictures[2])], 0.01, rtol=1e-5)
    assert "contrast x" in axes[2].get_title()


def mosaic(*shape: int) -> tuple[torch.Tensor, np.ndarray, str]:
    weights = {"a.weight": torch.randn(shape, generator=generator(0))}
    (ax,) = filter_mosaic({"only": weights}, "a")
    title = ax.get_figure().get_suptitle()
    return weights["a.weight"], np.asarray(ax.images[0].get_array(), dtype=float), title


def test_kernels_in_space_are_shown_slice_by_slice() -> None:
    kernels, picture, title = mosaic(2, 2, 3, 3, 3)
    assert "each as its slices side by side" in title
    assert picture.shape == (8, 24)  # two kernels in a row, two lines between them
    for number, (y, x) in enumerate([(0, 0), (0, 13), (5, 0), (5, 13)]):
        for depth in range(3):
            shown = picture[y : y + 3, x + 4 * depth : x + 4 * depth + 3]
            np.testing.assert_allclose(shown, kernels[number // 2, number % 2, :, :, depth])
    assert np.isnan(picture[:3, 3]).all()
    assert np.isnan(picture[:, 11:13]).all()
    assert np.isnan(picture[3:5]).all()


def test_kernels_that_leave_an_axis_alone_are_shown_as_those_of_the_plane() -> None:
    kernels, picture, title = mosaic(2, 3, 3, 3, 1)
    assert "slices" not in title
    assert picture.shape == (7, 11)
    np.testing.assert_allclose(picture[4:, 8:], kernels[1, 2, :, :, 0])


@pytest.mark.parametrize("shape", [(1, 1, 5), (4, 4, 1, 1), (4, 4, 1, 1, 1)], ids=str)
def test_single_and_pointwise_kernels_make_mosaics_too(shape: tuple[int, ...]) -> None:
    assert np.isfinite(mosaic(*shape)[1]).any()


def test_the_spectrum_names_the_energy_beyond_the_edge() -> None:
    start = {"a.weight": torch.randn((32, 16, 3, 3), generator=generator(0))}
    spike = torch.outer(torch.randn(32, generator=generator(1)), torch.randn(144, generator=generator(2)))
    end = {"a.weight": start["a.weight"] + spike.view(32, 16, 3, 3)}
    words = text(spectra(start, end, "a"))
    assert "start 0." in words
    assert "end 4" in words or "end 5" in words  # half of the energy was planted, and some of it lies below the edge


def test_the_battery_crosses_what_survives_and_dashes_what_does_not_apply() -> None:
    bank = torch.from_numpy(calibration.planted("gabor", (16, 4, 5, 5), 0.95, np.random.default_rng(0)).kernels)
    weights = {"bank.weight": bank, "plain.weight": torch.randn((8, 4, 1, 1), generator=generator(0))}
    table = battery(weights, draws=999)
    ax = battery_results(table, "Planted")
    marks = [each.get_text() for each in ax.texts]
    assert marks.count("x") == (table.p_holm < 0.05).sum() > 3
    assert marks.count("–") == table.p.isna().sum() > 0


def test_losses_are_drawn_with_the_margin() -> None:
    rows = [row("busi", arm, seed, {"scratch": 0.8, "frozen_random_encoder": 0.7}[arm] + 0.01 * seed**2, volume=20)
            for arm in ("scratch", "frozen_random_encoder") for seed in range(3)]  # fmt: skip
    losses = frozen_encoder.losses(frame(rows))
    ax = non_inferiority(losses, 0.03)
    assert any(list(line.get_xdata()) == [-0.03, -0.03] for line in ax.lines)
    assert "0.03" in text(ax)


# ---- records ------------------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_measurements, "RECORDS", tmp_path)
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y, z"]})
    write_record(tmp_path / "mine.csv", table, "made by hand")
    pd.testing.assert_frame_equal(read_record("mine"), table)
    assert read_record("mine").attrs["about"].startswith("made by hand; Python")


def test_the_records_of_calibration_hold_what_the_notebook_says() -> None:
    level = read_record("calibration_level")
    assert (level.layers >= 1000).all()
    assert level.within.mean() > 0.95  # of cells of exact tests one in a hundred lies outside
    pooled = level.groupby("test")[["rejected", "layers"]].sum()
    assert ((pooled.rejected / pooled.layers).between(0.04, 0.06)).all()
    assert set(level.test) == set(TESTS)
    controls = read_record("calibration_controls")
    for name, rows in controls.groupby("control"):
        least = 8 * rows.p.min()  # Bonferroni over the battery
        assert (least > 0.05) if name.startswith("random") else (least < 0.001), name
    level_of_tests(level)
    for shape in set(read_record("calibration_power")["shape"]):
        power_of_tests(read_record("calibration_power"), shape)


# ---- weights from elsewhere ---------------------------------------------------------------------------------------


def resnet_stem(kernels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Names as a ResNet's state has them."""
    return {"conv1.weight": kernels.float(), "bn1.weight": torch.ones(64), "fc.weight": torch.zeros(2, 64)}


def publish_as(monkeypatch: pytest.MonkeyPatch, file: Path) -> Path:
    """The file under a published name that its content bears out; the study's own table says so from now on."""
    name = f"resnet18-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    table = pretrained_networks._networks()
    table["resnet18_imagenet"]["published"] = [name]
    monkeypatch.setattr(pretrained_networks, "_networks", lambda: table)
    return file.rename(file.with_name(name))


def test_a_published_file_is_the_positive_control_under_its_title(
    study_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first_layers() == {}
    assert len(pretrained_battery()) == 0
    assert all(str(paths.weights_dir()) in line for line in wanted_weights())
    bank = calibration.planted("gabor", (64, 3, 7, 7), 0.95, np.random.default_rng(0)).kernels
    paths.weights_dir().mkdir(parents=True)
    torch.save(resnet_stem(torch.from_numpy(bank)), paths.weights_dir() / "resnet18_imagenet.pth")
    file = publish_as(monkeypatch, paths.weights_dir() / "resnet18_imagenet.pth")
    assert set(first_layers()) == {"ResNet-18, ImageNet"}
    assert pretrained_battery(draws=499).p_holm.min() < 0.001
    content = bytearray(file.read_bytes())
    file.write_bytes(content + b"\0")  # under the same name, another content
    assert set(first_layers()) == {f"weights of {file.name}, not the published ones"}


@pytest.mark.parametrize("name", ["resnet18-f37072fd.pth", "resnet18_imagenet.pth", "resnet18_imagenet.safetensors"])
def test_an_untrained_network_of_the_right_name_is_not_shown_as_the_trained_one(study_home: Path, name: str) -> None:
    paths.weights_dir().mkdir(parents=True)
    torch.manual_seed(0)
    stem = resnet_stem(torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False).weight.detach())
    (save_file if name.endswith("s") else torch.save)(stem, paths.weights_dir() / name)
    table = pretrained_battery(draws=199)
    assert set(table.layer) == {f"weights of {name}, not the published ones"}


def test_a_first_layer_is_found_behind_a_prefix(study_home: Path) -> None:
    paths.weights_dir().mkdir(parents=True)
    kernels = torch.randn(64, 3, 3, 3, generator=generator(0))
    torch.save({"state_dict": {"model.features.0.weight": kernels}}, paths.weights_dir() / "vgg16_imagenet.pth")
    assert torch.equal(first_layers()["weights of vgg16_imagenet.pth, not the published ones"], kernels)


def test_published_names_hold_the_beginning_of_a_checksum() -> None:
    names = [name for entry in pretrained_networks._networks().values() for name in entry["published"]]
    assert len(names) == 6
    assert all(re.fullmatch(r"[a-z0-9]+-[0-9a-f]{8}\.pth", name) for name in names)


def test_a_file_without_the_layer_is_refused(study_home: Path) -> None:
    paths.weights_dir().mkdir(parents=True)
    save_file({"fc.weight": torch.zeros(2, 2)}, paths.weights_dir() / "resnet18_imagenet.safetensors")
    with pytest.raises(StudyError, match=r"must hold 'conv1.weight', the first layer of ResNet-18, ImageNet"):
        first_layers()


# ---- riddles ------------------------------------------------------------------------------------------------------


def trained() -> dict[str, torch.Tensor]:
    return build(width=4, depth=2, norm="batch", seed=0).state_dict()


def test_a_riddle_hides_the_trained_panel_and_its_scale() -> None:
    layers = ["enc0.conv1", "enc1.conv2", "dec0.conv2"]
    seen = set()
    start = trained()
    for seed in range(6):
        for each in trained_or_random.panel_pairs(start, layers, seed=seed):
            name = f"{each.layer}.weight"
            other = {"A": "B", "B": "A"}[each.answer]
            assert torch.equal(each.panels[each.answer][name], start[name])
            fresh = each.panels[other][name]
            assert not torch.equal(fresh, start[name])
            torch.testing.assert_close(fresh.flatten(1).norm(dim=1), start[name].flatten(1).norm(dim=1))
            seen.add(each.answer)
    assert seen == {"A", "B"}


def test_guesses_are_scored_against_a_coin() -> None:
    made = trained_or_random.panel_pairs(trained(), ["enc0.conv1", "enc0.conv2", "enc1.conv1", "enc1.conv2"])
    right = "".join(each.answer for each in made)
    table, coin = trained_or_random.score(made, right.lower())
    assert table.right.all()
    assert coin == pytest.approx(1 / 16)
    _, wrong = trained_or_random.score(made, right.translate(str.maketrans("AB", "BA")))
    assert wrong == pytest.approx(1)
    for guesses in ("AB", "ABCA", ""):
        with pytest.raises(StudyError, match="guesses must be 4 letters, each A or B"):
            trained_or_random.score(made, guesses)


def test_a_riddle_needs_its_layer() -> None:
    with pytest.raises(StudyError, match="must have the layer 'enc9'"):
        trained_or_random.panel_pairs(trained(), ["enc9"])
