"""From originals to prepared pairs: one function per dataset, each a reading of that dataset's card."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from lib.common.errors import StudyError
from lib.common.registry import Registry
from lib.data.preparation.conversion import Item, merged_masks, shrink, shrink_mask, white
from lib.data.preparation.near_duplicates import chains, fingerprint, first_of_chain
from lib.data.preparation.pictures import mask_values, to_gray

Step = Callable[[int, int], None]  # told (done, of how many) while pictures are read


@dataclass(frozen=True)
class Originals:
    """The originals of a dataset: the paths that its table lists, and the files that are at hand."""

    listed: tuple[str, ...]
    files: dict[str, Path]
    step: Step = lambda done, total: None

    def under(self, folder: str, suffixes: Sequence[str] = (".png",)) -> list[str]:
        """Listed paths that lie directly in that folder, in natural order (2 before 10)."""
        inside = [path for path in self.listed if str(PurePosixPath(path).parent) == folder]
        return sorted((path for path in inside if path.endswith(tuple(suffixes))), key=natural)

    def have(self, paths: Sequence[str]) -> bool:
        """Whether all these are at hand; what is not is left out of a partial preparation."""
        return all(path in self.files for path in paths)


def natural(text: str) -> list[object]:
    """A sort key by which numbers in a text count as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


RECIPES: Registry[Callable[[Originals], Iterator[Item]]] = Registry("recipe")


def busi(originals: Originals) -> Iterator[Item]:
    """Breast lesions: masks of an image merged, near-duplicates reduced to one, pictures under both labels dropped."""
    folder = "input/Dataset_BUSI_with_GT"
    listed = originals.under(f"{folder}/benign") + originals.under(f"{folder}/malignant")
    units = []
    for path in listed:
        if "_mask" in path:
            continue
        masks = [other for other in listed if other.startswith(f"{path.removesuffix('.png')}_mask")]
        if masks and originals.have([path, *masks]):
            units.append((path, masks))
    pictures = []
    for place, (path, _) in enumerate(units):
        originals.step(place, len(units))
        pictures.append(to_gray(originals.files[path]))
    cluster = chains([fingerprint(picture) for picture in pictures], distance=60)
    members = [np.flatnonzero(cluster == each).tolist() for each in np.unique(cluster)]
    label = [PurePosixPath(path).parent.name for path, _ in units]
    stem = [PurePosixPath(path).stem for path, _ in units]
    members = [places for places in members if len({label[place] for place in places}) == 1]
    members.sort(key=lambda places: min(stem[place] for place in places))
    for group, (first, *_) in enumerate(members):
        path, masks = units[first]
        mask = merged_masks([white(originals.files[each]) for each in masks])
        yield Item(stem[first], f"b{group:03d}", label[first], shrink(pictures[first]), shrink_mask(mask))


def usgra(originals: Originals) -> Iterator[Item]:
    """Nerves (label 1; label 2 is vessel); frames that look alike share a group."""
    images = originals.under("dataset/images") + originals.under("dataset/test/images")
    units = [(path, path.replace("/images/", "/masks/")) for path in images]
    units = [unit for unit in units if originals.have(unit)]
    pictures = []
    for place, (path, _) in enumerate(units):
        originals.step(place, len(units))
        pictures.append(to_gray(originals.files[path]))
    cluster = chains([fingerprint(picture) for picture in pictures], distance=45)
    last = {each: int(np.flatnonzero(cluster == each)[-1]) for each in set(cluster.tolist())}
    for place in sorted(range(len(units)), key=lambda place: PurePosixPath(units[place][0]).name):
        labels = mask_values(originals.files[units[place][1]])
        found = [name for value, name in ((1, "nerve"), (2, "vessel")) if (labels == value).any()]
        group = f"u{last[int(cluster[place])]:03d}"
        source = units[place][0].removeprefix("dataset/").removeprefix("images/")
        yield Item(source, group, "+".join(found) or "none", shrink(pictures[place]), shrink_mask(labels == 1))


def cxr_lungs(originals: Originals) -> Iterator[Item]:
    """Lungs in frontal radiographs: image and mask joined by original file name, grouped by patient."""
    table, archive = "metadata.csv", "annotations/covid-only.zip"
    if not originals.have([table, archive]):
        raise StudyError(f"cxr_lungs: {table} and {archive} are needed to join images and masks; fetch them first")
    with originals.files[table].open(newline="", encoding="utf-8", errors="replace") as stream:
        about = {row["filename"]: row for row in csv.DictReader(stream)}
    masks = _mask_names(originals.files[archive])
    images = sorted(path for path in originals.listed if path.startswith("images/"))
    units = []
    for path in images:
        name = path.removeprefix("images/")
        mask = f"annotations/all-images-semantic-masks/{masks.get(name)}.png"
        if name in about and originals.have([path, mask]):
            units.append((name, path, mask))
    pictures = []
    for place, (_, path, _) in enumerate(units):
        originals.step(place, len(units))
        pictures.append(to_gray(originals.files[path]))
    for place in first_of_chain([fingerprint(picture) for picture in pictures], distance=24):
        name, _, path = units[place]
        labels = mask_values(originals.files[path])
        if labels.shape != pictures[place].size[::-1]:
            continue  # not the mask of this copy of the image
        row = about[name]
        extra = {"licence": row["license"], "finding": row["finding"], "doi": row["doi"], "url": row["url"]}
        image, mask = shrink(pictures[place]), shrink_mask(labels == 255)  # 127 is "ignore"
        yield Item(name, f"p{row['patientid']}", row["view"], image, mask, extra)


def _mask_names(archive: Path) -> dict[str, str]:
    """Original file name of an image to the number of its mask, from the annotations' archive."""
    names = {}
    with zipfile.ZipFile(archive) as files:
        for entry in files.namelist():
            if entry.endswith(".json"):
                about = json.loads(files.read(entry))["image"]
                names[about["original_filename"]] = PurePosixPath(entry).stem
    return names


HEAD_LABELS = (17, 19, 20, 41, 47)  # glasses, hair, hat, skin, sunglasses


def ccp(originals: Originals) -> Iterator[Item]:
    """Persons in street photographs: any label is foreground; the head is pixelated so that nobody is recognizable."""
    from scipy.io import loadmat

    photos = originals.under("photos", (".jpg",))
    units = [(path, f"annotations/pixel-level/{PurePosixPath(path).stem}.mat") for path in photos]
    units = [unit for unit in units if originals.have(unit)]
    prints = []
    for place, (path, _) in enumerate(units):
        originals.step(place, 2 * len(units))
        prints.append(fingerprint(to_gray(originals.files[path])))
    kept = first_of_chain(prints, distance=50)
    group = 0
    for done, place in enumerate(kept):
        originals.step(len(units) + done, len(units) + len(kept))
        path, annotation = units[place]
        labels = loadmat(originals.files[annotation])["groundtruth"]
        picture = to_gray(originals.files[path])
        if labels.shape != picture.size[::-1] or not labels.any():
            continue  # unlabeled
        mask = shrink_mask(labels > 0)
        image = pixelate_head(shrink(picture), mask, shrink_mask(np.isin(labels, HEAD_LABELS)))
        yield Item(path, f"c{group:03d}", "person", image, mask)
        group += 1


def pixelate_head(image: np.ndarray, mask: np.ndarray, head: np.ndarray, block: int = 7) -> np.ndarray:
    """A copy of `image` with squares of `block` pixels, each at its mean, over the top of the person.

    The region spans the upper 18 % of the height of `mask`, and there the columns of `head` (hair, skin, hat), or of
    the whole person where nothing is labeled as such, with a margin of two pixels. An empty mask changes nothing.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return image.copy()
    top, bottom = max(0, rows[0] - 1), rows[0] + round(0.18 * (rows[-1] + 1 - rows[0])) + 1
    part = head[top:bottom] if head[top:bottom].any() else mask[top:bottom]
    columns = np.flatnonzero(part.any(axis=0))
    left, right = max(0, columns[0] - 2), columns[-1] + 3
    result = image.copy()
    region = result[top:bottom, left:right]
    for y in range(0, region.shape[0], block):
        for x in range(0, region.shape[1], block):
            region[y : y + block, x : x + block] = round(float(region[y : y + block, x : x + block].mean()))
    return result


def camvid(originals: Originals) -> Iterator[Item]:
    """Road users (car, pedestrian, bicyclist) in video frames with at least 1 % of them, evenly thinned."""
    yield from _camvid_part(originals, ("train", "val"), count=160)
    yield from _camvid_part(originals, ("test",), count=40, sequence="Seq05VD")


def _camvid_part(originals: Originals, parts: Sequence[str], *, count: int, sequence: str = "") -> Iterator[Item]:
    frames = []
    for part in parts:
        paths = [path for path in originals.under(f"CamVid/{part}") if PurePosixPath(path).name.startswith(sequence)]
        for place, path in enumerate(sorted(paths)):
            originals.step(place, len(paths))
            labels = path.replace(f"/{part}/", f"/{part}annot/")
            if not originals.have([path, labels]):
                continue
            users = mask_values(originals.files[labels])
            mask = shrink_mask((users >= 8) & (users <= 10))
            if mask.mean() >= 0.01:
                frames.append((path, mask))
    chosen = np.round(np.linspace(0, len(frames) - 1, min(count, len(frames)))).astype(int)
    for place in chosen:
        path, mask = frames[place]
        group = PurePosixPath(path).name.split("_")[0]
        yield Item(path.removeprefix("CamVid/"), group, "road_scene", shrink(to_gray(originals.files[path])), mask)


def em_membranes(originals: Originals) -> Iterator[Item]:
    """Membranes (white in the original) in electron micrographs: four tiles a section, grouped by section."""
    for path in originals.under("stack1/raw", (".tif",)):
        section = PurePosixPath(path).stem
        labels = f"stack1/membranes/{section}.png"
        if not originals.have([path, labels]):
            continue
        picture, membranes = to_gray(originals.files[path]), white(originals.files[labels])
        half = picture.size[0] // 2
        for tile in range(4):
            y, x = (tile // 2) * half, (tile % 2) * half
            image = shrink(picture.crop((x, y, x + half, y + half)))
            mask = shrink_mask(membranes[y : y + half, x : x + half])
            yield Item(f"{path} tile {tile}", f"z{section}", "em", image, mask)


def nuclei(originals: Originals) -> Iterator[Item]:
    """Cell nuclei: instance masks merged; near-duplicates dropped."""
    images = sorted(path for path in originals.listed if "/images/" in path)
    of_image: dict[str, list[str]] = {}
    for path in originals.listed:
        if "/masks/" in path:
            of_image.setdefault(path.split("/masks/")[0], []).append(path)
    units = [(path, of_image.get(path.split("/images/")[0], [])) for path in images]
    units = [(path, masks) for path, masks in units if masks and originals.have([path, *masks])]
    prints = [fingerprint(to_gray(originals.files[path])) for path, _ in units]
    kept = first_of_chain(prints, distance=20)
    for group, place in enumerate(kept):
        originals.step(group, len(kept))
        path, masks = units[place]
        picture = to_gray(originals.files[path])
        kind = "brightfield" if np.asarray(picture).mean() > 75 else "fluorescence"
        mask = shrink_mask(merged_masks([white(originals.files[each]) for each in masks]))
        source = path.split("/images/")[0]
        yield Item(source, f"n{group:03d}", kind, shrink(picture), mask, {"nuclei": str(len(masks))})


for recipe in (busi, usgra, cxr_lungs, ccp, camvid, em_membranes, nuclei):
    RECIPES.add(recipe.__name__, recipe)
