"""Images, masks, splits and batches: groups stay whole, order is a pure function, image and mask move together."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lib.common.errors import StudyError
from lib.data.preparation.own_folder import add_own_folder
from lib.data.simulate.catalog import SIMULATORS
from lib.data.tasks.carried import Data, intensities
from lib.data.tasks.images import _load, first_images, load_task, standardize
from lib.data.tasks.splits import split
from lib.data.tasks.task import TASKS, Task, get_task
from lib.runs.spec import RunSpec
from lib.training import batches
from lib.training.batches import Batches, StackedBatches, augment, batch_order
from lib.training.goals.segmentation import Segmentation
from lib.training.people import split_of

CARD = """
name = "{name}"
title = "Planted"
what = "drawn for a test"
kind = "real"
modality = "drawn"
licence = "CC0-1.0"
citation = "none"
pairs = {pairs}
groups = {groups}
[split]
folds = {folds}
rule = "by group"
"""


@pytest.fixture(autouse=True)
def nothing_remembered():
    _load.cache_clear()
    yield
    _load.cache_clear()


def prepare(
    root: Path, images: list[np.ndarray], masks: list[np.ndarray], groups: list[str], *, name="planted", folds=3
) -> Path:
    """A prepared folder with its card, as a user's own data would lie there."""
    folder = root / name
    rows = ["id,source,group,cls,width,height,fg_fraction"]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index, (image, mask, group) in enumerate(zip(images, masks, groups, strict=True)):
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"p{index}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "masks" / f"p{index}.png")
        rows.append(f"p{index},,{group},x,{image.shape[1]},{image.shape[0]},{mask.mean():.3f}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    card = CARD.format(name=name, pairs=len(images), groups=len(set(groups)), folds=folds)
    (folder / "card.toml").write_text(card)
    return folder


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "sets"))
    (tmp_path / "sets").mkdir()
    return tmp_path / "sets"


def planted(root: Path, count: int = 9, **more) -> Path:
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (16, 16)) for _ in range(count)]
    return prepare(root, images, [image > 128 for image in images], [f"g{n // 2}" for n in range(count)], **more)


# ---- prepared folders -------------------------------------------------------------------------------------------


def test_images_are_averaged_and_masks_follow_the_majority(data_root: Path) -> None:
    """Blocks of 2 x 2 become one pixel; a block that is half foreground is foreground."""
    blocks = np.random.default_rng(1).integers(0, 256, (8, 8))
    parts = np.arange(64).reshape(8, 8) % 5  # foreground pixels in each block of four
    mask = np.zeros((8, 2, 8, 2))
    for place, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        mask[:, y, :, x] = parts > place
    image = np.kron(blocks, np.ones((4, 4)))
    masks = [np.kron(mask.reshape(16, 16), np.ones((2, 2)))] * 3
    prepare(data_root, [image] * 3, masks, ["a", "b", "c"])
    data = load_task("planted", 8)
    assert data.images.shape == (3, 1, 8, 8)
    assert data.masks.shape == (3, 8, 8)
    assert (data.images.dtype, data.masks.dtype) == (torch.float32, torch.uint8)
    assert torch.equal(data.masks[0], torch.from_numpy(parts >= 2).to(torch.uint8))
    same_size = load_task("planted", 32)
    assert torch.equal(same_size.images[0, 0], torch.from_numpy(image).to(torch.uint8))  # bytes, as they came
    assert torch.equal(same_size.masks[0], torch.from_numpy(masks[0]).to(torch.uint8))


def test_pictures_of_any_shape_become_squares_that_show_all_of_them(data_root: Path) -> None:
    """The right half is bright and foreground, whatever the shape; larger and smaller pictures agree."""
    shapes = [(40, 64), (64, 40), (8, 6), (200, 16)]
    masks = [np.tile(np.arange(width) >= width / 2, (height, 1)) for height, width in shapes]
    prepare(data_root, [50 + 150 * mask for mask in masks], masks, list("abcd"))
    data = load_task("planted", 16)
    expected = torch.tensor([0] * 8 + [1] * 8, dtype=torch.uint8).expand(4, 16, 16)
    assert torch.equal(data.masks, expected)
    assert torch.equal((data.images[:, 0] > 0.5).to(torch.uint8), expected)
    assert data.images.min() == pytest.approx(50 / 255)
    assert data.images.max() == pytest.approx(200 / 255)


def test_what_a_size_does_to_pictures_is_said(data_root: Path) -> None:
    """Of the first the one pixel of foreground is lost, the second is enlarged, the third is empty from the start."""
    images = [np.zeros(shape) for shape in ((64, 64), (8, 6), (40, 40))]
    masks = [np.zeros(image.shape) for image in images]
    masks[0][5, 5], masks[1][:4] = 1, 1
    prepare(data_root, images, masks, list("abc"))
    assert load_task("planted", 16).notes == (
        "planted: 1 of 3 pictures are smaller than 16 pixels, and were enlarged",
        "planted: 1 of 3 masks lose all of their foreground at 16 pixels",
    )
    assert load_task("planted", 8).notes == ("planted: 1 of 3 masks lose all of their foreground at 8 pixels",)


def test_ids_and_groups_come_in_the_order_of_the_index(data_root: Path) -> None:
    planted(data_root, 9)
    data = load_task("planted", 16)
    assert data.ids == [f"p{n}" for n in range(9)]
    assert data.groups == [f"g{n // 2}" for n in range(9)]


def test_a_card_makes_a_task(data_root: Path) -> None:
    planted(data_root, folds=4)
    task = get_task("planted")
    assert (task.title, task.kind, task.modality, task.folds) == ("Planted", "real", "drawn", 4)


def test_a_card_that_comes_later_or_changes_is_noticed(data_root: Path) -> None:
    """A user writes the card for a folder that lay there before, in another window of the same session."""
    (data_root / "planted").mkdir()
    with pytest.raises(StudyError, match="unknown task 'planted'"):
        get_task("planted")
    planted(data_root, folds=3)
    assert get_task("planted").folds == 3
    planted(data_root, folds=4)
    assert get_task("planted").folds == 4


def test_a_change_of_the_data_changes_the_digest(data_root: Path) -> None:
    folder = planted(data_root)
    before = load_task("planted", 16).digest
    _load.cache_clear()
    assert load_task("planted", 16).digest == before
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "images" / "p3.png")
    _load.cache_clear()
    assert load_task("planted", 16).digest != before


def test_loading_again_costs_nothing_until_the_root_changes(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(data_root)
    first = load_task("planted", 16)
    assert load_task("planted", 16) is first
    planted(tmp_path / "other", 12)
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "other"))
    assert len(load_task("planted", 16).ids) == 12


def test_an_unknown_task_names_the_nearest_and_the_data_root(data_root: Path) -> None:
    planted(data_root)
    with pytest.raises(StudyError, match=r"unknown task 'plantd'; did you mean 'planted'\?") as caught:
        load_task("plantd", 16)
    assert "sim_ultrasound" in str(caught.value)
    assert f"data root: {data_root}" in str(caught.value)
    assert "STUDY_DATA" in str(caught.value)


def test_a_missing_picture_is_an_error_with_the_data_root(data_root: Path) -> None:
    (planted(data_root) / "masks" / "p4.png").unlink()
    with pytest.raises(StudyError, match=r"p4.png is listed in the index but missing; data root: "):
        load_task("planted", 16)


# ---- simulated sets ---------------------------------------------------------------------------------------------

SIMULATED = [
    name for name, task in TASKS.items() if task.kind == "simulated" and task.goal == "segmentation" and task.dim == 2
]


@pytest.mark.parametrize("name", SIMULATED)
def test_simulated_sets_are_drawn_once_and_read_afterwards(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, name, dataclasses.replace(TASKS[name], images=6))
    first = load_task(name, 32)
    assert first.images.shape == (6, 1, 32, 32)
    assert first.masks.shape == (6, 32, 32)
    assert first.images.dtype == torch.uint8
    assert 0 <= first.images.min() < first.images.max() <= 255
    assert first.masks.unique().tolist() == [0, 1]
    assert len(set(first.ids)) == len(set(first.groups)) == 6
    _load.cache_clear()
    monkeypatch.setattr("lib.data.tasks.images.simulate", None)  # must not be called again
    again = load_task(name, 32)
    assert again is not first
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert (first.ids, first.groups, first.digest) == (again.ids, again.groups, again.digest)


def constant(index: int, *, size: int = 32, seed: int = 0, level: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """A simulator of the user's own: a gray image and the mask of its left half."""
    mask = np.zeros((size, size), np.uint8)
    mask[:, : size // 2] = 1
    return np.full((size, size), level, np.float32), mask


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setitem(SIMULATORS, "constant", constant)
    task = Task("own", "own", "simulated", "none", simulator="constant", dials={"level": 0.2}, images=5)
    monkeypatch.setitem(TASKS, "own", task)
    return task


def stored(home: Path) -> list[Path]:
    return sorted((home / "data" / "simulated").glob("*"))


def test_a_simulator_of_the_users_own_makes_a_task(own: Task) -> None:
    data = load_task("own", 32)
    assert torch.equal(data.images, torch.full((5, 1, 32, 32), 51, dtype=torch.uint8))
    assert data.masks.float().mean() == 0.5


def test_other_settings_are_drawn_anew(own: Task, study_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_task("own", 32)
    load_task("own", 40)
    for change in ({"images": 6}, {"dials": {"level": 0.4}}):
        _load.cache_clear()
        monkeypatch.setitem(TASKS, "own", dataclasses.replace(own, **change))
        load_task("own", 32)
    assert len(stored(study_home)) == 4
    assert intensities(load_task("own", 32).images).mean() == pytest.approx(0.4)


def test_a_change_of_the_simulators_code_is_drawn_anew(
    own: Task, study_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the change is in what the simulators share."""
    shared = tmp_path / "simulate"
    shared.mkdir()
    (shared / "fields.py").write_text("first = 1")
    monkeypatch.setattr("lib.data.tasks.images.SIMULATORS_CODE", shared)
    for _ in range(2):
        load_task("own", 32)
        _load.cache_clear()
    assert len(stored(study_home)) == 1
    (shared / "fields.py").write_text("second = 2")
    load_task("own", 32)
    assert len(stored(study_home)) == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY", b"not an archive"])
def test_a_damaged_store_says_what_to_delete(own: Task, study_home: Path, content: bytes) -> None:
    load_task("own", 32)
    (file,) = stored(study_home)
    file.write_bytes(content)
    _load.cache_clear()
    with pytest.raises(StudyError, match=r"own-32-.*\.npz is damaged .*; delete it, and it is drawn again"):
        load_task("own", 32)
    file.unlink()
    load_task("own", 32)


def test_a_store_cut_in_half_is_damaged_too(own: Task, study_home: Path) -> None:
    load_task("own", 32)
    (file,) = stored(study_home)
    file.write_bytes(file.read_bytes()[:3000])
    _load.cache_clear()
    with pytest.raises(StudyError, match="is damaged"):
        load_task("own", 32)


def test_a_look_at_a_simulated_set_shows_its_first_images(own: Task, study_home: Path) -> None:
    images, masks = first_images("own", 2, 32)
    assert stored(study_home) == []
    data = load_task("own", 32)
    np.testing.assert_array_equal(images, intensities(data.images[:2, 0]).numpy())
    np.testing.assert_array_equal(masks, data.masks[:2].numpy())


def test_a_look_at_a_prepared_set_shows_its_first_images(data_root: Path) -> None:
    planted(data_root)
    images, masks = first_images("planted", 2, 16)
    data = load_task("planted", 16)
    np.testing.assert_array_equal(images, intensities(data.images[:2, 0]).numpy())
    np.testing.assert_array_equal(masks, data.masks[:2].numpy())


# ---- splits -----------------------------------------------------------------------------------------------------

GROUPS = [f"patient{n}" for n in np.random.default_rng(3).integers(0, 23, 120)]


def parts(fold: int = 0, volume: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    return vars(split("sim_natural", GROUPS, fold=fold, volume=volume, seed=seed))


@pytest.mark.parametrize("fold", range(5))
def test_no_group_is_in_two_parts_and_no_image_is_lost(fold: int) -> None:
    found = parts(fold)
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(len(GROUPS)))
    members = [{GROUPS[n] for n in part} for part in found.values()]
    assert not members[0] & members[1] | members[0] & members[2] | members[1] & members[2]
    assert all(len(part) for part in found.values())


def test_every_image_is_tested_once_and_validates_the_fold_before() -> None:
    folds = [parts(fold) for fold in range(5)]
    assert sorted(np.concatenate([each["test"] for each in folds]).tolist()) == list(range(len(GROUPS)))
    for fold in range(5):
        assert set(folds[fold]["val"]) == set(folds[(fold + 1) % 5]["test"])


def test_volumes_are_nested_and_come_from_the_training_part() -> None:
    whole = set(parts()["train"])
    chosen = {volume: parts(volume=volume)["train"] for volume in (5, 20, 50, len(whole))}
    for volume, train in chosen.items():
        assert len(train) == len(set(train)) == volume
    assert set(chosen[5]) < set(chosen[20]) < set(chosen[50]) < whole == set(chosen[len(whole)])


def test_the_volume_is_chosen_by_seed_and_the_rest_is_not() -> None:
    one, two = parts(volume=20, seed=0), parts(volume=20, seed=1)
    assert set(one["train"]) != set(two["train"])
    assert set(one["train"]) == set(parts(volume=20, seed=0)["train"])
    for part in ("val", "test"):
        np.testing.assert_array_equal(one[part], two[part])
    np.testing.assert_array_equal(parts(seed=0)["train"], parts(seed=1)["train"])


def test_the_order_of_images_does_not_decide_who_is_tested() -> None:
    order = np.random.default_rng(0).permutation(len(GROUPS))
    shuffled = split("sim_natural", [GROUPS[n] for n in order], fold=2, volume=None, seed=0)
    assert {GROUPS[n] for n in parts(2)["test"]} == {GROUPS[order[n]] for n in shuffled.test}


@pytest.mark.parametrize("fold", [-1, 5, 99])
def test_a_fold_that_does_not_exist_is_refused(fold: int) -> None:
    with pytest.raises(StudyError, match=f"fold must be between 0 and 4 for task 'sim_natural', got {fold}"):
        parts(fold)


def test_a_volume_that_is_not_there_is_refused() -> None:
    most = len(parts()["train"])
    with pytest.raises(StudyError, match=f"volume must be at most {most}, the training images of .* got {most + 1}"):
        parts(volume=most + 1)
    for volume in (0, -3):
        with pytest.raises(StudyError, match=f"volume must be at least 1, got {volume}"):
            parts(volume=volume)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(StudyError, match="5 folds need at least as many groups, got 4 groups"):
        split("sim_natural", ["a", "b", "c", "d"] * 5, fold=0, volume=None, seed=0)


def test_the_folds_of_a_card_are_used(data_root: Path) -> None:
    planted(data_root, folds=4)
    groups = load_task("planted", 16).groups
    assert len(split("planted", groups, fold=3, volume=None, seed=0).test)
    with pytest.raises(StudyError, match="fold must be between 0 and 3 for task 'planted', got 4"):
        split("planted", groups, fold=4, volume=None, seed=0)


# ---- the order of images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch"), [(10, 5), (12, 5), (7, 16), (1, 4), (16, 16), (23, 1)])
def test_every_pass_is_a_permutation(count: int, batch: int) -> None:
    steps = 6 * count
    stream = np.concatenate([batch_order(count, seed=1, step=step, batch=batch) for step in range(steps)])
    assert len(stream) == steps * batch
    for epoch in range(len(stream) // count):
        assert sorted(stream[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


def test_the_order_is_a_pure_function_of_seed_and_step() -> None:
    forward = [batch_order(50, seed=2, step=step, batch=8) for step in range(40)]
    batches._shuffle.cache_clear()
    backward = [batch_order(50, seed=2, step=step, batch=8) for step in reversed(range(40))]
    np.testing.assert_array_equal(forward, backward[::-1])
    assert not np.array_equal(forward[0], batch_order(50, seed=3, step=0, batch=8))


def test_passes_differ_and_the_batch_size_does_not_change_the_stream() -> None:
    stream = [batch_order(12, seed=0, step=step, batch=12) for step in range(3)]
    assert not np.array_equal(stream[0], stream[1])
    assert not np.array_equal(stream[1], stream[2])
    halves = [batch_order(12, seed=0, step=step, batch=6) for step in range(6)]
    np.testing.assert_array_equal(np.concatenate(stream), np.concatenate(halves))


def test_batches_are_those_of_the_order_and_reproducible() -> None:
    images, masks = scene(7)
    train = np.array([1, 2, 4, 5, 6])
    labels = train[::-1].copy()
    plain = Batches(images, masks, train, labels, 3, 4, False, torch.device("cpu"))
    order = batch_order(5, seed=3, step=5, batch=4)
    index, other = torch.from_numpy(train[order]), torch.from_numpy(labels[order])
    assert torch.equal(plain.at(5)[0], images[index])
    assert torch.equal(plain.at(5)[1], masks[other])
    moved = dataclasses.replace(plain, augmented=True)
    expected = augment(images[index], masks[other], seed=3, step=5)
    assert all(torch.equal(a, b) for a, b in zip(moved.at(5), expected, strict=True))
    as_bytes = dataclasses.replace(plain, images=(images * 255).round().to(torch.uint8))
    assert torch.equal(as_bytes.at(5)[0], as_bytes.images[index].float() / 255)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("augmented", [False, True])
def test_batches_of_a_stack_are_those_of_its_runs(
    streamed: bool, augmented: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks, one kept as bytes; three runs, of which two share a task; on the device, or fetched step by step."""
    images, masks = scene(9)
    brighter = ((images * 0.8 + 0.1) * 255).round().to(torch.uint8)
    here = torch.device("cpu")
    runs = [
        Batches(kept, masks, np.arange(low, 9), np.arange(9 - low), seed, 4, augmented, here)
        for kept, low, seed in [(images, 0, 0), (brighter, 2, 1), (images, 3, 2)]
    ]
    monkeypatch.setattr(StackedBatches, "recorded", not streamed)
    stacked = StackedBatches(runs, 6)
    assert len(stacked.images) == 18
    for step in (0, 5):
        found = stacked.at(step, torch.tensor(step))
        for part, kind in enumerate(found):
            torch.testing.assert_close(kind, torch.cat([each.at(step)[part] for each in runs]))


def test_a_set_beyond_the_budget_lies_in_a_file_and_is_the_same(
    data_root: Path, study_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(data_root)
    expected = load_task("planted", 16)
    monkeypatch.setattr("lib.data.tasks.room.memory_budget_mb", lambda device: 0.001)
    _load.cache_clear()
    found = load_task("planted", 16)
    assert found is not expected
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.masks, expected.masks)
    assert not [each for each in (study_home / "data").rglob("*") if each.is_file()]  # the file has no name
    monkeypatch.setattr("shutil.disk_usage", lambda folder: types.SimpleNamespace(free=10))
    _load.cache_clear()
    with pytest.raises(StudyError, match=r"images at this size take .* GB, and the disk of .* has 0.0 GB free"):
        load_task("planted", 16)


def test_a_set_is_copied_to_a_device_once_and_not_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    images, masks = scene(3)
    meta = torch.device("meta")
    for budget, place in [(1.0, "meta"), (0.001, "cpu")]:
        data = Data(images, masks, list("abc"), list("abc"), "")
        monkeypatch.setattr("lib.data.tasks.room.memory_budget_mb", lambda device, budget=budget: budget)
        assert [each.device.type for each in data.on(meta)] == [place, place]
        assert data.on(meta)[0] is data.on(meta)[0]


# ---- augmentation -----------------------------------------------------------------------------------------------


def scene(count: int = 16, size: int = 48) -> tuple[Tensor, Tensor]:
    """Lopsided bright shapes on black, and masks equal to the thresholded images."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    shape = ((x + 0.2) ** 2 / 0.3 + (y - 0.1) ** 2 / 0.08 < 1) | ((x > 0.1) & (x < 0.3) & (y < 0.1) & (y > -0.7))
    masks = shape.to(torch.uint8).expand(count, -1, -1).contiguous()
    return masks.unsqueeze(1).float(), masks


def test_image_and_mask_move_together() -> None:
    images, masks = scene()
    moved, followed = augment(images, masks, seed=0, step=0)
    inside = moved[:, 0] / moved.amax(dim=(1, 2, 3)).view(-1, 1, 1) > 0.4
    overlap = (inside & followed.bool()).sum((1, 2)) * 2 / (inside.sum((1, 2)) + followed.sum((1, 2)))
    assert overlap.min() > 0.95
    still = (inside & masks.bool()).sum((1, 2)) * 2 / (inside.sum((1, 2)) + masks.sum((1, 2)))
    assert still.median() < 0.9  # so that the test above says something


def test_augmentation_keeps_shape_type_and_range() -> None:
    images, masks = torch.rand(5, 1, 20, 20), torch.randint(0, 2, (5, 20, 20), dtype=torch.uint8)
    moved, followed = augment(images, masks, seed=0, step=3)
    assert (moved.shape, followed.shape) == (images.shape, masks.shape)
    assert (moved.dtype, followed.dtype) == (torch.float32, torch.uint8)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert followed.unique().tolist() == [0, 1]


def test_augmentation_is_a_pure_function_and_leaves_its_input_alone() -> None:
    images, masks = scene(4)
    before = images.clone(), masks.clone()
    first = augment(images, masks, seed=1, step=2)
    torch.rand(3)
    again = augment(images, masks, seed=1, step=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])
    for other in ({"seed": 1, "step": 3}, {"seed": 2, "step": 2}):
        assert not torch.equal(augment(images, masks, **other)[0], first[0])


def test_images_of_a_batch_are_moved_differently() -> None:
    moved, _ = augment(*scene(6), seed=0, step=0)
    assert all(not torch.equal(moved[a], moved[b]) for a in range(6) for b in range(a))


def test_about_half_of_the_images_are_flipped_and_moves_stay_within_bounds() -> None:
    """Seen from the center and the orientation of a lopsided shape, over many draws."""
    images, masks = scene(400, 32)
    _, moved = augment(images, masks, seed=0, step=0)
    grid = torch.linspace(-1, 1, 32)
    area = moved.sum((1, 2)).float()
    x = (moved * grid).sum((1, 2)) / area
    skew = (moved * (grid - x.view(-1, 1, 1)) ** 3).sum((1, 2)) / area
    own = (masks[:1] * grid).sum() / masks[0].sum()
    own_skew = (masks[:1] * (grid - own) ** 3).sum() / masks[0].sum()
    flipped = (skew * own_skew < 0).float().mean()
    assert 0.4 < flipped < 0.6
    ratio = area / masks[0].sum()
    assert 0.55 < ratio.min() < 0.75  # scaled down by up to 1.25 on a side
    assert 1.4 < ratio.max() < 1.7  # and up by up to 1 / 0.8


def test_rotations_reach_15_degrees_to_both_sides_and_no_more() -> None:
    """Read from the direction of a bar's longest axis."""
    x, y = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="xy")
    bar = ((x.abs() < 0.6) & (y.abs() < 0.06)).to(torch.uint8).expand(200, -1, -1)
    _, moved = augment(bar.unsqueeze(1).float(), bar, seed=0, step=0)
    weight = moved / moved.sum((1, 2), keepdim=True)
    dx = x - (weight * x).sum((1, 2)).view(-1, 1, 1)
    dy = y - (weight * y).sum((1, 2)).view(-1, 1, 1)
    xx, yy, xy = ((weight * each).sum((1, 2)) for each in (dx * dx, dy * dy, dx * dy))
    degrees = torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2)
    assert 13 < degrees.max() < 16.5
    assert -16.5 < degrees.min() < -13


def test_a_constant_image_is_only_relit() -> None:
    images = torch.full((8, 1, 16, 16), 0.5)
    moved, _ = augment(images, torch.zeros(8, 16, 16, dtype=torch.uint8), seed=0, step=0)
    assert torch.allclose(moved, moved[:, :, :1, :1].expand_as(moved), atol=1e-6)
    assert moved.std() > 0.01


# ---- standardizing ----------------------------------------------------------------------------------------------


def test_every_image_gets_mean_0_and_deviation_1_of_its_own() -> None:
    images = torch.rand(5, 1, 24, 20) * torch.linspace(0.1, 1, 5).view(-1, 1, 1, 1) + 0.2
    plain = standardize(images)
    assert plain.shape == images.shape
    torch.testing.assert_close(plain.mean((1, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.std((1, 2, 3), correction=0), torch.ones(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(plain[:1], standardize(images[:1]))


def test_standardizing_undoes_brightness_and_contrast() -> None:
    images = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(standardize(images * 0.5 + 0.1), standardize(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_constant_image_becomes_zero(level: float) -> None:
    plain = standardize(torch.full((2, 1, 33, 31), level))
    assert plain.isfinite().all()
    assert plain.abs().max() < 1e-3


def test_distances_are_in_pixels_of_the_picture_and_not_of_what_it_was_resized_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of 48 x 96 at 16 x 16: a row is 3 pixels high, a column 6 wide; larger originals count as they were."""
    folder = tmp_path / "wide"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(6):
        mask = np.zeros((48, 96) if number else (480, 960), np.uint8)
        mask[: mask.shape[0] // 2, : mask.shape[1] // 2] = 255
        for kind in ("images", "masks"):
            Image.fromarray(mask).save(folder / kind / f"{number}.png")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    add_own_folder(folder, show=lambda line: None)
    data = load_task("wide", 16)
    assert data.pixels is not None
    np.testing.assert_array_equal(data.pixels, [[30.0, 60.0], *[[3.0, 6.0]] * 5])
    spec = RunSpec(task="wide", size=16, width=2, depth=1, steps=1, evaluations=1)
    judge = Segmentation(spec, data, split_of(spec, data), torch.device("cpu"))

    def shifted(index: np.ndarray) -> torch.Tensor:
        return torch.roll(data.masks[torch.from_numpy(index)].float(), 2, dims=2) - 0.5

    said = judge.test(shifted)
    assert said["unit"] == "px"
    expected = [120.0 if data.ids[each] == "0000" else 12.0 for each in judge.split.test]
    assert said["per_image"]["hd95"] == pytest.approx(expected)
