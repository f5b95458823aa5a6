"""A user's pictures and masks as a viewer shows them, and everything in the folder read, told or refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image, ImageOps
from prepared_sets import call

from analysis.tables import run_table
from lib.common.errors import StudyError
from lib.data.cards import find_card
from lib.data.preparation.own.pairing import pairs_in
from lib.data.preparation.pictures import mask_values, open_picture, to_gray
from lib.data.prepared_folder import read_prepared
from lib.data.tasks.images import load_task
from lib.data.tasks.splits import split
from lib.training.loop import train

SIDE = 40
DISK = np.add.outer((np.arange(SIDE) - 15) ** 2, (np.arange(SIDE) - 25) ** 2) < 60
IMAGE = (np.add.outer(np.arange(SIDE), 2 * np.arange(SIDE)) * 2).astype(np.uint8)
Save = Callable[[Path, int], None]


def plain_image(file: Path, number: int) -> None:
    Image.fromarray(np.roll(IMAGE, number, 0)).save(file)


def plain_mask(file: Path, number: int) -> None:
    Image.fromarray(DISK.astype(np.uint8) * 255).save(file)


def folder_of(root: Path, image: Save = plain_image, mask: Save = plain_mask, names: str = "s{}.png") -> Path:
    """Six pairs in images/ and masks/."""
    folder = root / "pictures"
    for kind, save in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True)
        for number in range(6):
            save(folder / kind / names.format(number), number)
    return folder


def prepared_masks(folder: Path) -> list[np.ndarray]:
    assert call("card", folder, "--licence", "x") == 0
    return read_prepared(find_card("pictures")).masks


def in_alpha(color: int) -> Save:
    def save(file: Path, number: int) -> None:
        pixels = np.dstack([np.full((SIDE, SIDE, 3), color), DISK * 255]).astype(np.uint8)
        Image.fromarray(pixels).save(file)

    return save


def gray_palette(file: Path, number: int) -> None:
    """Every other file has its palette the other way round, and so the other numbers."""
    first = number % 2
    picture = Image.fromarray((DISK ^ bool(first)).astype(np.uint8), mode="P")
    picture.putpalette([255 * first] * 3 + [255 - 255 * first] * 3)
    picture.save(file)


def turned(file: Path, number: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6  # the camera was held upright
    Image.fromarray(np.rot90(DISK).astype(np.uint8) * 255).save(file, exif=tags)


def as_16_bit(file: Path, number: int) -> None:
    Image.fromarray(DISK.astype(np.uint16)).save(file)


def white_is_zero(file: Path, number: int) -> None:
    Image.fromarray(((~DISK) * 65535).astype(np.uint16)).save(file, tiffinfo={262: 0})


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (plain_mask, "s{}.bmp"),
        (plain_mask, "s{}.gif"),
        (plain_mask, "S{}.PNG"),
        (in_alpha(255), "s{}.png"),
        (in_alpha(0), "s{}.png"),
        (gray_palette, "s{}.png"),
        (turned, "s{}.png"),
        (as_16_bit, "s{}.tif"),
        (white_is_zero, "s{}.tif"),
    ],
)
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_the_mask_is_the_one_that_is_seen(tmp_path: Path, study_home: Path, mask: Save, names: str):
    for found in prepared_masks(folder_of(tmp_path, mask=mask, names=names)):
        assert (found == DISK).all()


def pages(file: Path, number: int) -> None:
    sheets = [Image.fromarray(np.roll(IMAGE, each, 1)) for each in range(3)]
    sheets[0].save(file, save_all=True, append_images=sheets[1:])


def see_through(file: Path, number: int) -> None:
    Image.fromarray(np.dstack([IMAGE] * 3 + [IMAGE])).save(file)


def colored(palette: list[int]) -> Save:
    def save(file: Path, number: int) -> None:
        picture = Image.fromarray(DISK.astype(np.uint8), mode="P")
        picture.putpalette(palette if number < 4 else palette[::-1])
        picture.save(file)

    return save


@pytest.mark.parametrize(
    ("image", "mask", "names", "message"),
    [
        (pages, plain_mask, "s{}.tif", "holds 3 pages; save each of them"),
        (see_through, plain_mask, "s{}.png", "has transparent parts"),
        (lambda f, n: Image.new("LAB", (SIDE, SIDE)).save(f), plain_mask, "s{}.tif", "color model LAB; save it as"),
        (plain_image, lambda f, n: Image.fromarray(DISK.astype(np.float32) / 255).save(f), "s{}.tif",
         "mask values must be whole numbers, one per label"),
        (plain_image, colored([0, 0, 0, 200, 10, 10]), "s{}.png", "the palettes of the set differ"),
        (plain_image, see_through, "s{}.png", "a mask must be gray or transparent, this one is both"),
        (plain_image, lambda f, n: Image.fromarray((DISK * (1 if n < 3 else 255)).astype(np.uint8)).save(f), "s{}.png",
         "each mask is binary, but they differ: 1, 255. If all of these are foreground, give --foreground 1,255"),
        (plain_image, lambda f, n: Image.fromarray(np.where(DISK, 250 + IMAGE % 6, IMAGE % 5).astype(np.uint8)).save(f),
         "s{}.png", "they look like 0 and 255 saved with loss"),
        (plain_image, lambda f, n: Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(f), "s{}.png",
         "no mask outlines anything"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_what_may_mean_two_things_is_refused(tmp_path: Path, image: Save, mask: Save, names: str, message: str):
    with pytest.raises(StudyError, match=message):
        call("card", folder_of(tmp_path, image, mask, names))


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (lambda f, n: Image.fromarray(np.full((SIDE, SIDE), 255, np.uint8)).save(f),
         "6 masks cover the whole picture"),
        (lambda f, n: Image.fromarray(((DISK ^ (n < 2)) * 255).astype(np.uint8)).save(f),
         "2 masks are foreground at the border and 4 are not: inverted? (s0, s1)"),
        (lambda f, n: Image.fromarray((DISK * (n > 3) * 255).astype(np.uint8)).save(f), "4 masks outline nothing"),
        (lambda f, n: Image.fromarray(((~DISK) * 255).astype(np.uint8)).save(f), "most masks cover most of the"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_told(tmp_path: Path, mask: Save, told: str, capsys: pytest.CaptureFixture[str]):
    assert call("card", folder_of(tmp_path, mask=mask)) == 0
    assert told in capsys.readouterr().out


def test_the_folder_ends_with_what_was_read(tmp_path: Path, study_home: Path, capsys: pytest.CaptureFixture[str]):
    folder = folder_of(tmp_path)
    (folder / "readme.txt").write_text("hello")
    (folder / "images" / "scan.dcm").write_bytes(b"")
    (folder / "index.csv").write_text("file,patient_id\ns0.png,P1\n")
    (folder / ".DS_Store").write_bytes(b"")
    assert call("card", folder) == 0
    out = capsys.readouterr().out
    assert "note: 2 files were left out: images/scan.dcm, readme.txt" in out
    assert "note: index.csv was left out: it has no column 'group' (file, patient_id)" in out
    share = DISK.mean()
    assert f"masks cover {share:.1%} of a picture on average, {share:.1%} to {share:.1%}; look at" in out
    with Image.open(study_home / "data" / "pictures" / "overview.png") as picture:
        red = (np.asarray(picture) == (230, 40, 40)).all(2)
        assert picture.size == (640, 320)
    assert 6 * 15 < red.sum() < 6 * 400
    assert call("check", "pictures") == 0


def test_lines_that_are_thinner_than_a_pixel_of_the_reduction_are_told(tmp_path: Path, capsys):
    def thin(file: Path, number: int) -> None:
        mask = np.zeros((1200, 1200), np.uint8)
        mask[600] = 255
        Image.fromarray(mask).save(file)

    folder = folder_of(tmp_path, lambda f, n: Image.fromarray(np.zeros((1200, 1200), np.uint8)).save(f), thin)
    with pytest.raises(StudyError, match="none of the 6 masks holds any foreground"):
        call("card", folder)
    Image.fromarray(np.pad(np.full((600, 1200), 255, np.uint8), ((0, 600), (0, 0)))).save(folder / "masks" / "s0.png")
    assert call("card", folder) == 0
    assert "5 masks lost their foreground in the reduction to 256 pixels (s1, s2, s3)" in capsys.readouterr().out


def test_pictures_of_many_bits_with_other_ranges_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def deep(file: Path, number: int) -> None:
        Image.fromarray(IMAGE.astype(np.uint16) * (200 if number == 2 else 4)).save(file)

    assert call("card", folder_of(tmp_path, image=deep, names="s{}.tif")) == 0
    assert "these differ 50 times: the same tissue gets different grays" in capsys.readouterr().out


# ---- names --------------------------------------------------------------------------------------------------------


def flat(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        plain_mask(root / name, 0)
    return root


@pytest.mark.parametrize(
    "mask", ["a_mask", "a_masks", "a_segmentation", "a_seg", "a_label", "A_Mask", "a-mask", "a_gt", "a_annotation"]
)
def test_endings_in_use_are_known(tmp_path: Path, mask: str):
    pairs, told = pairs_in(flat(tmp_path, "a.png", f"{mask}.png"))
    assert [(pair.name, [file.stem for file in pair.masks]) for pair in pairs] == [("a", [mask])]
    assert not told


def test_names_are_one_whatever_their_case_and_accents(tmp_path: Path):
    name = "M\u00fcller"
    folder = flat(tmp_path, f"images/{name}.png", f"masks/{unicodedata.normalize('NFD', name).upper()}.PNG")
    assert len(pairs_in(folder)[0]) == 1
    flat(tmp_path, f"images/{name.lower()}.tif")
    with pytest.raises(StudyError, match="have the same name but for ending, case or accents; keep one"):
        pairs_in(folder)


def test_several_masks_of_one_image_are_one(tmp_path: Path):
    folder = flat(
        tmp_path, "b (3).png", "b (3)_mask.png", "b (3)_mask_1.png", "b (3)_mask_2.png", "c.png", "c_mask.png"
    )
    pairs, told = pairs_in(folder)
    assert [len(pair.masks) for pair in pairs] == [3, 1]
    assert told == ["1 images have several masks, of which the union counts"]


def test_names_of_nnunet(tmp_path: Path):
    folder = flat(tmp_path / "one", "images/p1_0000.png", "images/p2_0000.png", "masks/p1.png", "masks/p2.png")
    assert [pair.image.stem for pair in pairs_in(folder)[0]] == ["p1_0000", "p2_0000"]
    two = flat(tmp_path / "two", "images/p1_0000.png", "images/p1_0001.png", "masks/p1.png")
    with pytest.raises(StudyError, match="p1 has 2 channels"):
        pairs_in(two)


def test_subfolders_are_read(tmp_path: Path):
    folder = flat(tmp_path, *(f"{kind}/p{n}/a.png" for kind in ("images", "masks") for n in range(3)))
    pairs, told = pairs_in(folder)
    assert [pair.name for pair in pairs] == ["p0/a", "p1/a", "p2/a"]
    assert "images lie in subfolders" in told[0]


# ---- people -------------------------------------------------------------------------------------------------------


def grouped(root: Path, table: str) -> dict[str, str]:
    folder = flat(root, *(f"{kind}/{n}.png" for kind in ("images", "masks") for n in range(1, 5)))
    (folder / "groups.csv").write_text(table)
    return {pair.name: pair.group for pair in pairs_in(folder)[0]}


def test_blanks_around_a_name_are_no_part_of_it(tmp_path: Path):
    table = "name,group\n1,P1\n2.png , P1 \n3,P2\n4,P2\n"
    assert grouped(tmp_path, table) == {"1": "P1", "2": "P1", "3": "P2", "4": "P2"}


def test_the_column_that_names_the_images_counts(tmp_path: Path):
    """A running number beside file names, as tables are often saved, is no name."""
    rows = "".join(f"{n - 1},{n}.png,P{n}\n" for n in range(1, 5))
    assert grouped(tmp_path, f"id,file,group\n{rows}") == {str(n): f"P{n}" for n in range(1, 5)}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,group\n1,P1\n2,p1\n3,P2\n4,P2\n", "the groups 'P1' and 'p1' differ in case or blanks only"),
        ("name,group\n1,P 1\n2,P  1\n3,P2\n4,P2\n", "differ in case or blanks only"),
        ("name,group\n1,P1\n1.png,P2\n2,P1\n3,P2\n4,P2\n", "'1.png' is in the groups 'P1' and 'P2'; give it one"),
        (
            "id,file,group\n1,4,A\n2,3,B\n3,2,C\n4,1,D\n",
            "the columns id and file both name images and give other groups",
        ),
        ("name,group\n1,P1\n2,  \n3,P2\n4,P2\n", "gives no group for 1 images, the first is 2"),
    ],
)
def test_a_table_that_says_two_things_is_refused(tmp_path: Path, table: str, message: str):
    with pytest.raises(StudyError, match=message):
        grouped(tmp_path, table)


def test_pillow_agrees_on_what_is_upright(tmp_path: Path):
    turned(tmp_path / "a.png", 0)
    with Image.open(tmp_path / "a.png") as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    assert (np.asarray(open_picture(tmp_path / "a.png")) == upright).all()
    assert (np.asarray(to_gray(tmp_path / "a.png")) == upright).all()
    assert (mask_values(tmp_path / "a.png") == upright).all()


def my_set(root: Path, name: str, known: bool = True) -> None:
    """A set of thirty pictures of ten people; the people of every set have the same names."""
    folder = root / name
    for kind, save in (("images", plain_image), ("masks", plain_mask)):
        (folder / kind).mkdir(parents=True)
        for number in range(30):
            save(folder / kind / f"{number}.png", number)
    if known:
        (folder / "groups.csv").write_text("name,group\n" + "".join(f"{n},P{n % 10:02d}\n" for n in range(30)))
    assert call("card", folder) == 0


def test_people_of_a_test_are_not_in_the_training_of_the_source(tmp_path: Path, study_home: Path):
    for name in ("my_t1", "my_t2"):
        my_set(tmp_path, name)
    source = tiny.spec(task="my_t1")
    with pytest.raises(StudyError, match=r"test groups of 'my_t2' have the names of groups .* in 'my_t1' \(P0"):
        train(tiny.spec(task="my_t2", strategy="full_finetuning", source=source))
    for name in ("my_t1", "my_t2"):
        card = study_home / "data" / name / "card.toml"
        card.write_text(card.read_text().replace("[split]\n", '[split]\npeople = "clinic"\n'))
    folds = {}
    for name in ("my_t1", "my_t2"):
        data = load_task(name, 16)
        held = split(name, data.groups, fold=1, volume=None, seed=0)
        folds[name] = {data.groups[index] for index in held.test}
    assert folds["my_t1"] == folds["my_t2"] != set()
    with pytest.raises(StudyError, match="fold must be that of the source"):
        tiny.spec(task="my_t2", strategy="full_finetuning", source=tiny.spec(task="my_t1", fold=2), fold=1)
    source = tiny.spec(task="my_t1", fold=1)
    run = train(tiny.spec(task="my_t2", strategy="full_finetuning", source=source, fold=1))
    assert run.result is not None
    assert run.result["status"] == "done"


def test_a_source_of_another_fold_of_the_same_set_is_a_leak(tmp_path: Path):
    my_set(tmp_path, "my_t1")
    with pytest.raises(StudyError, match="have the names of groups that the source was trained on in 'my_t1'"):
        train(tiny.spec(task="my_t1", strategy="full_finetuning", source=tiny.spec(task="my_t1", fold=1)))


def test_a_set_without_groups_says_so_wherever_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    my_set(tmp_path, "my_t1", known=False)
    assert not find_card("my_t1").split.groups_known
    capsys.readouterr()
    assert call("check", "my_t1") == 0
    assert "groups are not known: the split is by image, and may be optimistic" in capsys.readouterr().out
    assert run_table([train(tiny.spec(task="my_t1"))]).groups_known.tolist() == [False]


def test_masks_read_from_transparency_are_told(
    tmp_path: Path, study_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared_masks(folder_of(tmp_path, mask=in_alpha(255)))
    assert (
        "6 masks are of one color, and were read from transparency (s0.png, s1.png, s2.png)" in capsys.readouterr().out
    )


def test_rows_of_the_table_and_links_that_lead_to_no_picture_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "groups.csv").write_text("name,group\n" + "".join(f"s{n},p{n}\n" for n in range(8)))
    (folder / "images" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "masks" / "more").symlink_to(tmp_path)
    _, told = pairs_in(folder)
    assert "2 rows of groups.csv name no image here, the first 's6'" in told
    assert any(line.startswith("2 files were left out: images/gone.png, masks/more") for line in told)


def test_an_image_without_mask_is_named_with_a_mask_without_image(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    for file in (folder / "masks").iterdir():
        file.rename(file.with_name(f"reader-{file.name}"))
    with pytest.raises(StudyError, match=r"the first is s0\.png; of no image is the mask reader-s0\.png"):
        pairs_in(folder)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ((0, 1, 254, 255), "saved with loss"),
        ((0, 2, 5, 250, 255), "saved with loss"),
        ((0, 1, 255), 'name them with --labels "1=NAME, 255=NAME"'),
        ((0, 1, 2, 3, 4, 5, 6), 'name them with --labels "1=NAME, 2=NAME, 3=NAME"'),
        (tuple(range(256)), "edges that were smoothed"),
    ],
)
def test_what_masks_look_like_is_said(tmp_path: Path, study_home: Path, values: tuple[int, ...], advice: str) -> None:
    def save(file: Path, number: int) -> None:
        Image.fromarray(np.resize(np.array(values, np.uint8), (SIDE, SIDE))).save(file)

    with pytest.raises(StudyError, match=advice):
        prepared_masks(folder_of(tmp_path, mask=save))


def test_masks_of_one_number_each_are_told_apart_from_loss(tmp_path: Path, study_home: Path) -> None:
    def save(file: Path, number: int) -> None:
        Image.fromarray(DISK.astype(np.uint8) * (number + 1)).save(file)

    with pytest.raises(StudyError, match="each mask is binary, but they differ: 1, 2, 3, 4, 5, 6"):
        prepared_masks(folder_of(tmp_path, mask=save))


@pytest.mark.parametrize(("tint", "said"), [(0, False), (4, False), (60, True)])
def test_color_that_is_dropped_is_told(
    tint: int, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tinted"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(4):
        gray = np.random.default_rng(number).integers(60, 180, (20, 24)).astype(np.uint8)
        Image.fromarray(np.stack([gray + tint, gray, gray], axis=2).astype(np.uint8)).save(
            folder / "images" / f"{number}.png"
        )
        Image.fromarray((gray > 120).astype(np.uint8)).save(folder / "masks" / f"{number}.png")
    assert call("card", folder) == 0
    told = "note: 4 of 4 pictures are in color, of which brightness is kept" in capsys.readouterr().out
    assert told is said
