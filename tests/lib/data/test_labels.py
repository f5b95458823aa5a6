"""Masks of several labels: named, numbered, reduced, ignored where it is said, trained on and judged label by label."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from prepared_sets import call
from torch.nn import functional as F

from analysis.figures.images import image_grid
from analysis.tables.results import label_table, run_table
from lib.common import paths
from lib.common.errors import StudyError
from lib.data.cards import find_card
from lib.data.prepared_folder import IGNORED, majority, read_prepared
from lib.data.tasks.images import _area, first_images, load_task
from lib.data.tasks.task import get_task
from lib.runs.outputs import masks_of
from lib.runs.run import Run, run_dir
from lib.runs.spec import RunSpec
from lib.training.goals.segmentation import segmentation_loss
from lib.training.goals.segmentation_metrics import dice, hd95, scores_of, summarize
from lib.training.loop import train
from lib.training.together import computation, train_stack

NAMES = "7=nucleus, 3=cell, 255=ignore"


def picture(number: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A gray disk with a bright core, and its mask: 3 where the disk is, 7 the core, 255 a column to be ignored."""
    y, x = np.mgrid[:side, :side]
    away = np.hypot(y - 12 - number % 5, x - 14 - number % 3)
    mask = np.where(away < 4, 7, np.where(away < 9, 3, 0)).astype(np.uint8)
    image = np.choose(np.searchsorted([0, 3, 7], mask), [30, 120, 220]).astype(np.uint8)
    mask[:, 0] = 255
    return image, mask


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(15):
        for kind, array in zip(("images", "masks"), picture(number), strict=True):
            Image.fromarray(array).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture
def known(cells: Path) -> None:
    """The labeled task, and beside it the one of drawn disks."""
    call("card", cells, "--labels", NAMES)
    tiny.make_blobs(paths.data_root())


def spec(**changes: Any) -> RunSpec:
    few: dict[str, Any] = {"width": 4, "depth": 1, "size": 32, "steps": 60, "evaluations": 2, "batch": 4, "lr": 0.03}
    return RunSpec(**{"task": "cells", "checkpoints": "ends", **few, **changes})


def test_labels_get_numbers_in_the_order_in_which_they_are_named(
    cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("card", cells, "--labels", NAMES) == 0
    assert "labels nucleus, cell" in capsys.readouterr().out
    card = find_card("cells")
    assert card.labels == get_task("cells").labels == ("nucleus", "cell")
    expected = picture(0)[1]
    expected = np.select([expected == 7, expected == 3, expected == 255], [1, 2, IGNORED], 0)
    np.testing.assert_array_equal(read_prepared(card).masks[0], expected)
    assert call("check", "cells") == 0
    np.testing.assert_array_equal(load_task("cells", 32).masks[0].numpy(), expected)
    before = load_task("cells", 32).digest
    text = card.file.read_text()
    card.file.write_text(text.replace('"nucleus", "cell"', '"cell", "nucleus"'))
    assert load_task("cells", 32).digest != before  # what a result is of changed, though no picture did


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--labels", "3=cell, 7=nucleus"],
            "masks hold the value 255, which has no name; the values found are 0, 3, 7",
        ),
        (["--labels", NAMES + ", 9=other"], "no mask holds the value 9; the values found are 0, 3, 7, 255"),
        (["--labels", "3=cell, 7=cell, 255=ignore"], "labels must be different names of values other than 0"),
        (["--labels", "3=ignore"], "labels must be different names"),
        (["--labels", "0=air, 3=cell, 7=nucleus, 255=ignore"], "other than 0, which is background"),
        (["--labels", NAMES, "--foreground", "3"], "masks have labels or a foreground, not both"),
    ],
)
def test_labels_that_do_not_fit(cells: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        call("card", cells, *arguments)


COLORS = {0: (0, 0, 0), 3: (255, 0, 0), 7: (0, 128, 255), 255: (255, 255, 255)}


def test_colors_are_labels_too(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("card", cells, "--name", "gray", "--labels", NAMES)
    for file in (cells / "masks").iterdir():
        values = np.asarray(Image.open(file))
        colored = np.stack(
            [np.select([values == v for v in COLORS], [c[part] for c in COLORS.values()]) for part in range(3)], 2
        )
        Image.fromarray(colored.astype(np.uint8)).save(file)
    with pytest.raises(StudyError, match='got a color picture with 4 colors; name them with --labels "#ff0000=NAME"'):
        call("card", cells)
    with pytest.raises(
        StudyError, match="masks hold the value #0080ff, which has no name; the values found are 0, #0080ff"
    ):
        call("card", cells, "--labels", "#ff0000=nucleus, #ffffff=ignore")
    call("card", cells, "--labels", "#FF0000=cell, #0080ff=nucleus, #ffffff=ignore")
    assert find_card("cells").labels == ("cell", "nucleus")
    number = np.zeros(256, np.uint8)
    number[[1, 2, 255]] = [2, 1, 255]
    gray, colored = (read_prepared(find_card(name)).masks[4] for name in ("gray", "cells"))
    np.testing.assert_array_equal(colored, number[gray])


@pytest.mark.parametrize("text", ["#ff00=a", "front", "1:front", "a=front", "1=", "1=a,1=b"])
def test_labels_that_cannot_be_read(cells: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("card", cells, "--labels", text)
    assert "VALUE=NAME with commas between them" in capsys.readouterr().err


def test_several_masks_of_one_picture_give_a_pixel_one_label(cells: Path) -> None:
    folder = cells.parent / "beside"
    folder.mkdir()
    for number in range(15):
        image, mask = picture(number)
        Image.fromarray(image).save(folder / f"{number}.png")
        for ending, value in (("_mask", 3), ("_mask_1", 7), ("_mask_2", 255)):
            Image.fromarray(np.where(mask == value, value, 0).astype(np.uint8)).save(folder / f"{number}{ending}.png")
    call("card", folder, "--labels", NAMES)
    call("card", cells, "--labels", NAMES)
    several, one = (read_prepared(find_card(name)).masks for name in ("beside", "cells"))
    assert all(map(np.array_equal, several, one))
    Image.fromarray(np.full((32, 32), 3, np.uint8)).save(folder / "4_mask.png")
    with pytest.raises(StudyError, match=r"4.png: its masks give a pixel two labels"):
        call("card", folder, "--name", "again", "--labels", NAMES)


def test_a_foreign_value_in_a_prepared_mask_is_refused(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("card", cells, "--labels", NAMES)
    file = find_card("cells").path / "masks" / "0003.png"
    mask = np.asarray(Image.open(file)).copy()
    mask[5, 5] = 3
    Image.fromarray(mask).save(file)
    with pytest.raises(StudyError, match=r"0003.png: a mask must hold 0 to 2 \(nucleus, cell\) or 255, ignored, got"):
        load_task("cells", 32)
    assert call("check", "cells") == 1
    assert "mask 0003 must hold 0 to 2 (nucleus, cell)" in capsys.readouterr().out


def test_a_reduced_mask_holds_the_label_that_covers_most() -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[:2, :2] = [[1, 1], [1, 2]]
    mask[:2, 2:4] = [[2, 2], [0, 1]]
    mask[2:, 6:] = IGNORED
    np.testing.assert_array_equal(
        majority(np.repeat(mask, 2, axis=0), lambda part: _area(part, 4)),
        [[1, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 255]],
    )


def test_the_loss_is_cross_entropy_and_dice_over_what_is_known() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 6, 5, generator=draw, dtype=torch.float64)
    masks = torch.randint(0, 4, (3, 6, 5), generator=draw).to(torch.uint8)
    masks[:, 2] = IGNORED
    entropy = F.cross_entropy(logits, masks.long(), ignore_index=IGNORED)
    chance, terms = logits.softmax(1), []
    for image in range(3):
        for label in (1, 2, 3):
            known = masks[image] != IGNORED
            p, t = chance[image, label][known], (masks[image][known] == label).double()
            terms.append(float((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)))
    assert float(segmentation_loss(logits, masks)) == pytest.approx(float(entropy) + 1 - np.mean(terms), abs=1e-12)
    changed = logits.clone()
    changed[:, :, 2] += 100 * torch.randn(3, 4, 5, generator=draw, dtype=torch.float64)
    assert segmentation_loss(changed, masks) == segmentation_loss(logits, masks)
    assert torch.equal(masks_of(logits, ("cell", "nucleus")), logits.argmax(1).to(torch.uint8))


def judged(found: np.ndarray, truth: np.ndarray, parts: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return summarize([scores_of(*pair, parts) for pair in zip(found, truth, strict=True)], list("abcd"))


def test_scores_are_those_of_every_label_and_their_mean() -> None:
    rng = np.random.default_rng(0)
    truth, found = (rng.integers(0, 3, (4, 9, 9)).astype(np.uint8) for _ in range(2))
    truth[0][truth[0] == 2] = 0
    truth[1][:3] = IGNORED
    said = judged(found, truth, {"cell": (1,), "nucleus": (2,)})
    known = truth != IGNORED
    for number, name in ((1, "cell"), (2, "nucleus")):
        expected = judged((found == number) & known, truth == number, {})
        for score in ("dice", "hd95", "misses", "empty"):
            assert said["labels"][name][score] == expected[score]
        assert said["labels"][name]["per_image"]["dice"][1] == dice((found[1] == number) & known[1], truth[1] == number)
        assert said["labels"][name]["per_image"]["hd95"][3] == hd95(found[3] == number, truth[3] == number)
    assert said["dice"] == pytest.approx(np.mean([said["labels"][name]["dice"] for name in ("cell", "nucleus")]))
    assert said["labels"]["nucleus"]["empty"] == 1
    assert said["empty"] == 0
    changed = np.where(known, found, 1 + found % 2).astype(np.uint8)
    assert judged(changed, truth, {"cell": (1,), "nucleus": (2,)}) == said  # what is ignored does not count


def test_labels_are_learned_and_told_one_by_one(known: None) -> None:
    run = train(spec(width=8, depth=2, steps=100, lr=0.01))
    assert run.result is not None
    test = run.result["test"]
    assert test["labels"].keys() == {"cell", "nucleus"}
    assert min(each["dice"] for each in test["labels"].values()) > 0.7  # gray and bright, plain to see
    assert {"val_dice", "val_dice_cell", "val_dice_nucleus"} < run.metrics()[-1].keys()
    assert run.model().head.weight.shape[0] == 3
    rows = label_table([run])
    assert rows.label.tolist() == ["nucleus", "cell"]
    assert rows.dice.mean() == pytest.approx(run_table([run]).dice[0])
    assert label_table([train(tiny.spec())]).label.tolist() == ["foreground"]


@pytest.mark.parametrize("strategy", ["full_finetuning", "encoder_only", "frozen_source_encoder", "transplant"])
def test_a_head_for_other_labels_starts_at_random_and_moves(known: None, strategy: str) -> None:
    source = spec(task="blobs", steps=3, evaluations=1)
    options = {"stages": ["enc0", "head"]} if strategy == "transplant" else {}
    run = train(spec(strategy=strategy, source=source, options=options, steps=3, evaluations=1))
    first, last, before = run.weights(0), run.weights(), Run(run_dir(source)).weights()
    assert first["head.weight"].shape[0] == 3
    assert not torch.equal(first["head.weight"], last["head.weight"])
    assert torch.equal(first["enc0.conv1.weight"], before["enc0.conv1.weight"])
    moved = {name.split(".")[0] for name in first if not torch.equal(first[name], last[name])}
    assert moved >= {"head"}
    if strategy == "encoder_only":
        assert moved == {"enc0", "enc1", "head"}


def test_runs_of_several_labels_train_in_a_stack(known: None) -> None:
    specs = [spec(seed=seed, steps=4, norm="none") for seed in range(2)]
    assert computation(specs[0]) == computation(specs[1]) != computation(spec(task="blobs", steps=4, norm="none"))
    alone = [json.loads((train(each).path / "result.json").read_text())["test"] for each in specs]
    for each in specs:
        shutil.rmtree(run_dir(each))
    stacked = [(run.result or {})["test"] for run in train_stack(specs, device="cpu")]
    for one, other in zip(alone, stacked, strict=True):
        assert other["dice"] == pytest.approx(one["dice"], abs=0.02)


# ---- images in color ------------------------------------------------------------------------------------------------


@pytest.fixture
def stains(tmp_path: Path) -> Path:
    """A blue disk and a red one of the same brightness on gray: nothing but color tells them apart."""
    folder = tmp_path / "stains"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    y, x = np.mgrid[:32, :32]
    for number in range(15):
        red, blue = np.hypot(y - 8 - number % 5, x - 9) < 6, np.hypot(y - 23, x - 20 - number % 3) < 6
        if number % 2:
            red, blue = blue, red
        image = np.full((32, 32, 3), 60, np.uint8)
        image[red], image[blue] = (180, 60, 60), (73, 73, 255)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray((red + 2 * blue).astype(np.uint8)).save(folder / "masks" / f"{number}.png")
    return folder


def test_color_is_kept_where_it_is_asked_for(stains: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("card", stains, "--labels", "1=red, 2=blue")
    assert "15 of 15 pictures are in color" in capsys.readouterr().out
    call("card", stains, "--name", "colored", "--labels", "1=red, 2=blue", "--color")
    assert "in color" not in capsys.readouterr().out
    assert call("check", "colored") == 0
    data = load_task("colored", 32)
    assert data.images.shape == (15, 3, 32, 32)
    assert load_task("colored", 16).images.dtype == torch.float32
    whole = np.asarray(Image.open(stains / "images" / "0.png"))
    np.testing.assert_array_equal(data.images[0].movedim(0, 2).numpy(), whole)
    images, masks = first_images("colored", 2, 32)
    assert images.shape == (2, 32, 32, 3)
    image_grid(images, masks, "Stains")
    plt.close("all")
    few: dict[str, Any] = {"width": 8, "depth": 2, "steps": 80, "lr": 0.01}
    dices = {}
    for name in ("colored", "stains"):
        run = train(spec(task=name, **few))
        assert run.result is not None
        dices[name] = run.result["test"]["dice"]
        assert run.model().enc0.conv1.weight.shape[1] == (3 if name == "colored" else 1)
    assert dices["colored"] > 0.9 > 0.75 > dices["stains"]


def test_what_does_not_fit_color_is_refused(stains: Path, known: None) -> None:
    call("card", stains, "--labels", "1=red, 2=blue", "--color")
    with pytest.raises(
        StudyError, match=r"inputs must be that of the source, 1 on 'blobs', got 3 on 'stains'; .* another task"
    ):
        spec(task="stains", strategy="full_finetuning", source=spec(task="blobs"))
    card = find_card("stains")
    card.file.write_text(card.file.read_text().replace("channels = 3", "channels = 2"))
    with pytest.raises(StudyError, match=r"channels must be 1 \(gray\) or 3 \(red, green, blue\), got 2"):
        find_card("stains")
    card.file.write_text(card.file.read_text().replace("channels = 2\n", ""))
    with pytest.raises(StudyError, match="must be 8-bit gray"):
        load_task("stains", 32)
    deep = np.linspace(0, 60000, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(deep).save(stains / "images" / "3.png")
    with pytest.raises(StudyError, match=r"3.png: has more than 8 bits and no color; make the card without --color"):
        call("card", stains, "--name", "deep", "--labels", "1=red, 2=blue", "--color")
