"""Which volumes of a user's folder belong together: by dataset.json, as BIDS names them, or by plain names."""

from __future__ import annotations

import re
from pathlib import Path

from lib.common.errors import StudyError
from lib.data.preparation.own.grouping import VOLUMES, groups_of
from lib.data.preparation.own.pairing import Pair, files_in, left_out, pairs_in
from lib.data.preparation.volumes.described import Described, described

_IMAGE = re.compile(r"^(?P<entities>sub-[^_]+(_.+)?)_T1w\.nii(\.gz)?$")
_LABEL = re.compile(r"^(?P<entities>sub-[^_]+(_.+)?)_(dseg|mask)\.nii(\.gz)?$")


def cases_in(folder: Path, groups: str | None) -> tuple[list[Pair], Described, list[str]]:
    """The cases of a folder, what a description says of them, and what is to be said of how they were found.

    Args:
        groups: see `lib.data.preparation.own.grouping.groups_of`.

    Raises:
        StudyError: see `pairs_in` and `described`; in a folder as BIDS names it, an image without a mask or with two.
    """
    about = described(folder)
    if not (folder / "dataset.json").is_file() and (folder / "derivatives").is_dir() and any(folder.glob("sub-*")):
        pairs, told = _bids(folder, groups)
        return pairs, about, told
    pairs, told = pairs_in(folder, VOLUMES, groups=groups, listed=about.listed)
    unlabeled = [file for file in files_in(folder) if file.relative_to(folder).parts[0] == "imagesTs"]
    if unlabeled:
        told.append(f"imagesTs/ has no labels: its {len(unlabeled)} files are among those left out")
    return pairs, about, told


def _bids(folder: Path, groups: str | None) -> tuple[list[Pair], list[str]]:
    """T1-weighted images, and masks among the derivatives whose names have all entities of the image's and more."""
    files = files_in(folder)
    images, masks = {}, {}
    for file in files:
        top = file.relative_to(folder).parts[0]
        pattern, found = (_LABEL, masks) if top == "derivatives" else (_IMAGE, images)
        match = pattern.match(file.name)
        if match and (pattern is _LABEL or file.parent.name == "anat"):
            found[file] = set(match["entities"].split("_"))
    if not images or not masks:
        raise StudyError(
            f"{folder} holds {len(images)} images sub-*/**/anat/sub-*_T1w.nii.gz and {len(masks)} masks "
            "derivatives/**/sub-*_dseg.nii.gz or sub-*_mask.nii.gz; both are needed"
        )
    of_image = {file: [mask for mask, its in masks.items() if entities <= its] for file, entities in images.items()}
    odd = [f"{file.name} has {len(found)}" for file, found in of_image.items() if len(found) != 1]
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise StudyError(f"each T1w image must have one mask in derivatives/: {', '.join(odd[:5])}{more}")
    names = {file: file.name.split("_T1w.nii")[0] for file in images}
    group = {name: name.split("_")[0] for name in names.values()}
    told = [f"{len(set(group.values()))} groups: the subjects of BIDS"]
    if groups is not None:
        group, told = groups_of(folder, list(names.values()), groups)
    pairs = [Pair(names[file], (file,), tuple(found), group[names[file]]) for file, found in of_image.items()]
    used = {file for pair in pairs for file in (*pair.images, *pair.masks)}
    return pairs, told + left_out(folder, files, used)
