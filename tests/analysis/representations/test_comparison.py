"""All pairs at once give what the measures give one by one; what was computed is kept; intervals cover the truth."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_blobs, spec
from torch import Tensor

from analysis.representations.capture.activations import capture
from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.represent import (
    Label,
    Probe,
    Representations,
    from_features,
    join,
    represent,
    represent_all,
    represent_model,
)
from analysis.representations.comparison import all_pairs, uncertainty
from analysis.representations.comparison.compare import compare
from analysis.representations.measures.catalog import LINEAR, MEASURES, Measure
from analysis.representations.measures.cca import FewSamples
from lib.common.errors import StudyError
from lib.data.tasks.images import standardize
from lib.networks.unet import build
from lib.runs.run import Run
from lib.training.loop import train

LAYERS = ["enc0.conv1", "enc1", "dec0.conv2", "head"]


def images(count: int = 24, size: int = 8) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))


def one_by_one(a: dict[str, Tensor], b: dict[str, Tensor], measure: str, **options) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewSamples)
        return np.array([[MEASURES[measure](x, y, **options) for y in b.values()] for x in a.values()])


def features(seed: int, n: int = 90) -> dict[str, Tensor]:
    """Layers of different widths that share something."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).standard_normal((n, 5))
    found = {}
    for at, width in enumerate((3, 12, 7, 12), 3):
        mixed = shared @ rng.standard_normal((5, width)) + rng.standard_normal((n, width))
        found[f"layer{at}"] = torch.from_numpy(mixed * 10.0**at + at)
    return found


# ---- agreement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("n", [90, 14])
def test_all_pairs_of_features_are_those_of_the_measure(measure: str, n: int) -> None:
    a, b = features(0, n), features(1, n)
    if n == 14 and MEASURES[measure].canonical:
        a, b = ({name: each[:, :4] for name, each in side.items()} for side in (a, b))
    found = compare(from_features(a), from_features(b), measure)
    assert np.allclose(found.values, one_by_one(a, b, measure), rtol=0, atol=1e-10)
    own = compare(from_features(a), measure=measure)
    assert np.allclose(own.values, one_by_one(a, a, measure), rtol=0, atol=1e-10)
    assert np.allclose(np.diag(own.values), 1, rtol=0, atol=1e-10)


def test_a_measure_that_somebody_registers_is_computed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the fast form of another one; and of Gram matrices only where turning the features changes nothing."""

    def top(x: Any, y: Any) -> float:
        return float(torch.as_tensor(x).abs().max() / torch.as_tensor(y).abs().max())

    def share(x: Any, y: Any) -> float:
        (q, _), b = torch.linalg.qr(x - x.mean(0)), y - y.mean(0)
        return float((q.mT @ b).square().sum() / b.square().sum())

    monkeypatch.setitem(MEASURES, "top", Measure("top", top, invariant_x=frozenset(), invariant_y=frozenset()))
    monkeypatch.setitem(MEASURES, "share", Measure("share", share, invariant_x=LINEAR, symmetric=False))
    a, b = features(0), features(1)
    for measure in ("top", "share"):
        found = compare(from_features(a), from_features(b), measure)
        assert np.allclose(found.values, one_by_one(a, b, measure), rtol=0, atol=1e-10)
        assert found.chance.shape == found.values.shape
    spread = from_features(a | {"dead": torch.ones(90, 2)})
    assert np.isnan(compare(spread, measure="share").values[-1]).all()
    model = build(width=2, depth=1, norm="batch", seed=0)
    flat = represent_model(model, LAYERS, Probe(images(), Reduction("flatten")))
    assert np.isfinite(compare(flat, measure="share").values).all()
    with pytest.raises(StudyError, match="top needs features"):
        compare(flat, measure="top")


@pytest.mark.parametrize("measure", ["cka", "cka_debiased", "svcca", "procrustes", "pwcca", "rsa", "cka_minibatch"])
def test_little_memory_gives_the_same_values(measure: str) -> None:
    a = from_features(features(0) | {"dead": torch.ones(90, 2)})
    assert np.allclose(
        compare(a, measure=measure, budget_mb=0.1).values,
        compare(a, measure=measure).values,
        rtol=0, atol=1e-10, equal_nan=True,
    )  # fmt: skip


def test_feature_space_and_sample_space_agree() -> None:
    wide = {name: torch.hstack([each] * 20) for name, each in features(0).items()}  # n < p: Gram matrices
    for measure in ("cka", "cka_debiased"):
        assert np.allclose(
            compare(from_features(wide), measure=measure).values,
            compare(from_features(features(0)), measure=measure).values,
            atol=1e-10,
        )


def test_groups_fill_up_to_their_width() -> None:
    assert all_pairs.width_groups([3, 3, 3, 9, 1], 6) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 5)]


@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("batch", [None, 8])
def test_streamed_gram_matrices_are_those_of_the_maps(chunk: int | None, batch: int | None) -> None:
    model = build(width=2, depth=1, norm="batch", seed=0)
    probe = Probe(images(), Reduction("flatten"), batch=batch, chunk=chunk)
    found = represent_model(model, LAYERS, probe)
    maps = capture(model.double(), LAYERS, images().double(), reduce="flatten")
    if batch is None:
        for measure in ("cka", "cka_debiased", "rsa", "procrustes", "cka_minibatch"):
            assert np.allclose(compare(found, measure=measure).values, one_by_one(maps, maps, measure), atol=1e-6)
    else:
        expected = one_by_one(maps, maps, "cka_minibatch", batch=8)
        assert np.allclose(compare(found, measure="cka_minibatch").values, expected, atol=1e-6)


def test_memory_for_maps_is_taken_once_and_never_shows() -> None:
    probe = Probe(images(22), Reduction("flatten"), batch=8, chunk=3)
    models = [build(width=2, depth=1, norm="batch", seed=seed) for seed in (0, 1)]
    first = represent_model(models[0], LAYERS, probe)
    held = {name: each.data_ptr() for name, each in probe.workspace.items()}
    assert set(held) == set(LAYERS)
    second = represent_model(models[1], LAYERS, probe)
    assert {name: each.data_ptr() for name, each in probe.workspace.items()} == held
    alone = represent_model(models[1], LAYERS, replace(probe))
    assert all(torch.equal(*each) for each in zip(second.grams, alone.grams, strict=True))
    assert not torch.equal(first.grams[0], second.grams[0])


def test_svcca_of_flattened_maps_comes_from_their_gram_matrix() -> None:
    low = torch.from_numpy(np.random.default_rng(0).standard_normal((60, 4)))
    maps = {"a": low @ torch.ones(4, 90).double().cumsum(1) ** 0.5, "b": torch.hstack([low] * 30)}
    from analysis.representations.measures.gram import center_gram, gram, pack

    grams = torch.stack([pack(center_gram(gram(each))) for each in maps.values()])
    found = Representations(tuple(Label("", 0, name) for name in maps), grams=(grams,))
    assert np.allclose(compare(found, measure="svcca").values, one_by_one(maps, maps, "svcca"), atol=1e-6)


def test_offsets_of_a_hundred_deviations_in_float32_keep_their_digits() -> None:
    model = build(width=2, depth=1, norm="none", seed=0)
    plain = represent_model(model, ["enc0.conv1"], Probe(images(), Reduction("flatten"), chunk=8))
    with torch.no_grad():
        model.enc0.conv1.bias += 100.0
    moved = represent_model(model, ["enc0.conv1"], Probe(images(), Reduction("flatten"), chunk=8))
    values = compare(plain, moved, "cka_debiased").values
    assert values[0, 0] == pytest.approx(1, abs=1e-4)


# ---- notes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", sorted(set(MEASURES) - {"rsa_correlation"}))
def test_dead_layers_are_reported_and_do_not_spoil_the_others(measure: str) -> None:
    a = features(0) | {"dead": torch.full((90, 6), 0.3)}
    table = compare(from_features(a, run="r", step=7), from_features(features(1)), measure).table()
    dead = table[table["layer_a"] == "dead"]
    assert len(dead) == 4
    assert dead["value"].isna().all()
    assert dead["note"].str.contains("dead").all()
    assert table[table["layer_a"] != "dead"]["value"].notna().all()
    assert set(table["run_a"]) == {"r"}
    assert set(table["step_a"]) == {7}


def test_a_layer_that_answers_to_one_sample_is_reported() -> None:
    lone = torch.zeros(90, 6)
    lone[4] = 1
    found = compare(from_features(features(0) | {"lone": lone}), measure="cka_debiased")
    assert np.isnan(found.values[-1]).all()
    assert "constant for all samples but one" in found.row_notes[-1]


def test_dead_layers_of_flattened_maps_are_reported() -> None:
    model = build(width=2, depth=1, norm="none", seed=0)
    with torch.no_grad():
        model.enc1.conv1.weight.zero_()
        model.enc1.conv1.bias.fill_(0.1)
    for chunk, batch, measure in ((None, None, "cka"), (5, None, "cka_debiased"), (5, 8, "cka_minibatch")):
        probe = Probe(images(), Reduction("flatten"), batch=batch, chunk=chunk)
        found = compare(represent_model(model, ["enc0", "enc1.conv1"], probe), measure=measure)
        assert np.isnan(found.values).tolist() == [[False, True], [True, True]]
        assert found.row_notes[1].startswith("enc1.conv1: constant")


def test_few_samples_are_noted_and_too_few_refused_layer_by_layer() -> None:
    a = {"few": torch.randn(60, 8), "many": torch.randn(60, 2), "all": torch.randn(60, 70)}
    found = compare(from_features(a), measure="cca")
    assert "60 samples for 8 directions" in found.row_notes[0]
    assert found.row_notes[1] == ""
    assert "all of them would be 1 whatever the data" in found.row_notes[2]
    assert np.isnan(found.values[2]).all()
    assert np.isfinite(found.values[:2, :2]).all()
    table = found.table()
    assert table.loc[0, "note"] == found.row_notes[0]
    assert (table["samples"] == 60).all()


def test_nothing_that_can_be_compared_is_a_table_of_notes() -> None:
    found = compare(from_features({"dead": torch.ones(9, 2)}), measure="svcca")
    assert np.isnan(found.values).all()


def test_nan_is_an_error() -> None:
    spoiled = features(0)
    spoiled["layer4"][3] = torch.nan
    with pytest.raises(StudyError, match="'layer4' must be finite, got NaN or infinity in 1 of 90 samples"):
        compare(from_features(spoiled))


def test_overflow_in_a_network_is_an_error() -> None:
    model = build(width=2, depth=1, norm="none", seed=0)
    with torch.no_grad():
        model.enc1.conv1.weight.mul_(1e30)
    with pytest.raises(StudyError, match=r"layers \['enc1.conv1'\] give NaN, or values whose squares overflow"):
        represent_model(model, ["enc0", "enc1.conv1"], Probe(images(), Reduction("flatten")))


# ---- chance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["cka", "cca", "svcca", "pwcca", "procrustes", "cka_debiased", "rsa"])
def test_the_chance_level_is_what_noise_gives(measure: str) -> None:
    draws = [
        compare(from_features({"x": torch.randn(80, 12)}), from_features({"y": torch.randn(80, 9)}), measure)
        for _ in range(20)
    ]
    values = np.array([each.values[0, 0] for each in draws])
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert np.mean([each.chance[0, 0] for each in draws]) == pytest.approx(values.mean(), abs=0.01 + 4 * error)


def test_the_chance_level_of_cka_is_the_same_from_features_and_gram_matrices() -> None:
    narrow, wide = features(0), {name: torch.hstack([each] * 20) for name, each in features(0).items()}
    assert np.allclose(
        compare(from_features(narrow), measure="cka").chance, compare(from_features(wide), measure="cka").chance
    )


# ---- what is kept ------------------------------------------------------------------------------------------------


@pytest.fixture
def run(study_home, monkeypatch) -> Run:
    monkeypatch.setenv("STUDY_DATA", str(make_blobs(study_home / "data")))
    return train(spec())


@pytest.mark.parametrize("kind", ["pool", "positions", "flatten"])
def test_a_checkpoint_is_run_once(run: Run, kind: str, monkeypatch) -> None:
    probe = Probe(images(), Reduction(kind, per_image=3))
    first = represent(run, None, LAYERS, probe)
    fresh = represent(run, None, LAYERS, probe, cache=False)
    monkeypatch.setattr(Run, "model", lambda *_: pytest.fail("the network ran again"))
    again = represent(Run(run.path), run.steps()[-1], LAYERS, Probe(images().clone(), Reduction(kind, per_image=3)))
    assert again.labels == first.labels == tuple(Label(run.path.name, run.steps()[-1], name) for name in LAYERS)
    about = [(each.about, each.per_image, each.samples, each.probe) for each in (first, again, fresh)]
    assert about == [(first.about, first.per_image, first.samples, probe.digest)] * 3
    for kept, made in zip([*again.features, *again.grams], [*fresh.features, *fresh.grams], strict=True):
        assert torch.allclose(kept, made)


def test_another_probe_checkpoint_or_layer_is_another_file(run: Run) -> None:
    probes = [Probe(images()), Probe(images().flip(0)), Probe(images(), Reduction("flatten"))]
    probes += [
        replace(probes[2], batch=8),
        Probe(images(), Reduction("positions", 2)),
        Probe(images(), Reduction("positions", 3)),
    ]
    for probe in probes:
        represent(run, None, LAYERS, probe)
    represent(run, 0, LAYERS, probes[0])
    represent(run, None, LAYERS[:2], probes[0])
    assert len(list((run.path / "similarity").iterdir())) == len(probes) + 2


def test_new_weights_are_not_taken_for_old_ones(run: Run) -> None:
    from lib.runs.tensor_files import read_tensors, write_tensors

    before = represent(run, 0, LAYERS, Probe(images()))
    (run.path / "result.json").unlink()  # of a run that is trained again
    weights = read_tensors(run.checkpoint(0))
    write_tensors(
        run.checkpoint(0), {name: each + 1 if each.is_floating_point() else each for name, each in weights.items()}, {}
    )
    assert not torch.allclose(before.features[0], represent(run, 0, LAYERS, Probe(images())).features[0])


def test_a_file_under_a_wrong_name_or_cut_short_is_made_anew(run: Run) -> None:
    before = represent(run, 0, LAYERS, Probe(images()))
    represent(run, None, LAYERS, Probe(images()))
    first, second = sorted((run.path / "similarity").iterdir())
    whole = first.read_bytes()
    for content in (second.read_bytes(), whole[: len(whole) // 2]):
        first.write_bytes(content)
        again = represent(run, 0, LAYERS, Probe(images()))
        assert all(torch.equal(*each) for each in zip(before.features, again.features, strict=True))
        assert first.read_bytes() == whole


def test_a_series_of_checkpoints_is_one_map(run: Run) -> None:
    lines: list[str] = []
    series = represent_all([(run, step) for step in run.steps()], None, Probe(images()), report=lines.append)
    assert len(lines) == len(run.steps())
    assert lines[0].startswith(f"[1/{len(run.steps())} checkpoints] {run.path.name} step 0 (")
    table = compare(series).table()
    assert len(table) == (4 * len(run.steps())) ** 2
    same = (table["step_a"] == table["step_b"]) & (table["layer_a"] == table["layer_b"])
    assert np.allclose(table[same]["value"], 1)
    assert set(table["probe"]) == {"pool of 24 images"}
    head = series.where(lambda label: label.layer == "head")
    assert np.allclose(compare(head, series).values, compare(series).values[3::4])
    direct = [
        capture(run.model(step), ["head"], standardize(images()))["head"] for step in (run.steps()[0], run.steps()[-1])
    ]
    ends = compare(head).values[0, -1]
    assert ends == pytest.approx(MEASURES["cka_debiased"](*direct), abs=1e-5)


def test_a_map_is_kept_by_its_content(tmp_path, monkeypatch) -> None:
    a = from_features(features(0) | {"dead": torch.ones(90, 2)})
    first = compare(a, measure="svcca", cache=tmp_path / "maps")
    compare(a, measure="cka", cache=tmp_path / "maps")
    compare(a.at([0, 1]), a, "svcca", cache=tmp_path / "maps")
    monkeypatch.setattr(
        "analysis.representations.comparison.precomputed.bases", lambda *_: pytest.fail("computed again")
    )
    again = compare(a, measure="svcca", cache=tmp_path / "maps")
    assert again.table().equals(first.table())
    files = sorted((tmp_path / "maps").iterdir())
    assert [each.name.split("-")[0] for each in files] == ["cka", "svcca", "svcca"]
    files[1].write_bytes(files[0].read_bytes())
    files[2].write_bytes(files[0].read_bytes())
    monkeypatch.undo()
    assert compare(a, measure="svcca", cache=tmp_path / "maps").table().equals(first.table())


def test_features_of_other_samples_are_not_compared() -> None:
    a, b = from_features(features(0), probe="patients 1 to 90"), from_features(features(1), probe="patients 91 to 180")
    with pytest.raises(StudyError, match="both sides must share a probe"):
        compare(a, b)
    with pytest.raises(StudyError, match="can be joined when they share a probe"):
        join([a, b])
    assert len(join([a, a]).labels) == 2 * len(a.labels)


def test_what_cannot_be_done_is_said() -> None:
    model = build(width=2, depth=1, norm="batch", seed=0)
    flat = represent_model(model, LAYERS, Probe(images(), Reduction("flatten")))
    parts = represent_model(model, LAYERS, Probe(images(), Reduction("flatten"), batch=8))
    assert (flat.samples, parts.samples) == (24, 24)
    with pytest.raises(StudyError, match="pwcca needs features, but of flattened maps only Gram matrices are kept"):
        compare(flat, measure="pwcca")
    with pytest.raises(StudyError, match="cka needs one Gram matrix of all images, but there are 3 of batches"):
        compare(parts, measure="cka")
    with pytest.raises(StudyError, match="did you mean 'procrustes'"):
        compare(flat, measure="procrustus")
    with pytest.raises(StudyError, match="both sides must share a probe, got 'flatten of 24 images' and"):
        compare(flat, parts, "cka_minibatch")
    others = represent_model(model, LAYERS, Probe(images().flip(0), Reduction("flatten")))
    with pytest.raises(StudyError, match="must share a probe, got 'flatten of 24 images' and other images"):
        compare(flat, others)
    with pytest.raises(StudyError, match="can be joined when they share a probe"):
        join([flat, parts])
    with pytest.raises(StudyError, match=r"all representations must have the same samples, got .*'b': 4"):
        from_features({"a": torch.ones(3, 1), "b": torch.ones(4, 1)})
    for shape in ((3,), (0, 2), (2, 3, 4)):
        with pytest.raises(StudyError, match="features of 'a' must be a matrix"):
            from_features({"a": torch.ones(shape)})
    with pytest.raises(StudyError, match="flattened maps need images of one size"):
        represent_model(model, LAYERS, Probe([torch.rand(1, 8, 8), torch.rand(1, 9, 9)], Reduction("flatten")))
    with pytest.raises(StudyError, match="images can be drawn from one Gram matrix of all"):
        parts.take(torch.arange(3))


# ---- uncertainty -------------------------------------------------------------------------------------------------


def noisy_pair(seed: int, n: int) -> tuple[Representations, Representations]:
    draw = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, 3, generator=draw)
    a, b = (shared + torch.randn(n, 3, generator=draw) for _ in range(2))
    return from_features({"x": a}), from_features({"x": b})


def test_half_samples_cover_the_truth_as_often_as_they_say() -> None:
    truth = float(compare(*noisy_pair(12345, 40000)).values[0, 0])
    spreads = [uncertainty.half_samples(*noisy_pair(seed, 60), draws=40, seed=seed) for seed in range(24)]
    covered = sum(bool(each.low[0, 0] <= truth <= each.high[0, 0]) for each in spreads)
    assert covered >= 18  # fewer than 18 of 24 at 95 % each come once in ten thousand
    spread = np.std([each.map.values[0, 0] for each in spreads], ddof=1)
    assert np.mean([each.error[0, 0] for each in spreads]) == pytest.approx(spread, rel=0.4)
    assert spreads[0].method == "95 % interval over 60 probe images, 40 half-samples"


def test_images_of_one_patient_stay_together() -> None:
    a, b = noisy_pair(0, 20)
    copies = torch.arange(20).repeat_interleave(4)
    alone = uncertainty.half_samples(a, b, draws=40)
    fourfold = [each.take(copies) for each in (a, b)]
    grouped = uncertainty.half_samples(*fourfold, "cka", groups=[f"p{each}" for each in copies.tolist()], draws=40)
    careless = uncertainty.half_samples(*fourfold, "cka", draws=40)
    assert grouped.error[0, 0] > 1.5 * careless.error[0, 0]
    assert grouped.error[0, 0] == pytest.approx(alone.error[0, 0], rel=0.6)
    with pytest.raises(StudyError, match="at least 8 images or groups, got 2"):
        uncertainty.half_samples(a, b, groups=[0, 1] * 10)
    with pytest.raises(StudyError, match="one for each of the 20 images, got 3"):
        uncertainty.half_samples(a, b, groups=[0, 1, 2])


def test_positions_of_an_image_stay_together() -> None:
    a = replace(from_features({"x": torch.arange(12.0)[:, None]}), per_image=3)
    assert a.take(torch.tensor([2, 0])).features[0][:, 0].tolist() == [6, 7, 8, 0, 1, 2]


def test_gram_matrices_are_resampled_like_features() -> None:
    model = build(width=2, depth=1, norm="batch", seed=0)
    chosen = torch.tensor([5, 3, 20, 11, 2, 9])
    whole = represent_model(model, LAYERS, Probe(images(), Reduction("flatten")))
    part = represent_model(model, LAYERS, Probe(images()[chosen], Reduction("flatten")))
    assert np.allclose(compare(whole.take(chosen)).values, compare(part).values, atol=1e-5)


def test_the_jackknife_error_is_the_spread_over_new_images() -> None:
    model = build(width=2, depth=1, norm="none", seed=3)
    spreads = []
    for seed in range(12):
        probe = Probe(
            torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(seed)), Reduction("flatten"), batch=8
        )
        spreads.append(uncertainty.jackknife(represent_model(model, ["enc0", "head"], probe)))
    found = np.array([each.map.values[0, 1] for each in spreads])
    assert np.mean([each.error[0, 1] for each in spreads]) == pytest.approx(found.std(ddof=1), rel=0.6)
    assert spreads[0].method == "95 % jackknife over 10 batches"
    assert np.allclose(spreads[0].error.diagonal(), 0, atol=1e-6)
    with pytest.raises(StudyError, match="needs Gram matrices of at least 3, got 0"):
        uncertainty.jackknife(from_features(features(0)))


def test_permutation_finds_the_layer_that_shares_something() -> None:
    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(40, 3, generator=draw)
    a = {"with": shared, "without": torch.randn(40, 3, generator=draw), "dead": torch.ones(40, 3)}
    b = {"with": shared + torch.randn(40, 3, generator=draw)}
    p = uncertainty.map_permutation_p(from_features(a), from_features(b), draws=99)
    assert p[0, 0] == 0.01
    assert p[1, 0] > 0.02
    assert np.isnan(p[2, 0])
