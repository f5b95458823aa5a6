"""A user's own folder of volumes, made into a prepared folder with a card of three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.preparation.conversion import in_making, write_checksums, write_index
from lib.data.preparation.own.new_card import Wishes, card_text, closing_notes, enough_groups
from lib.data.preparation.own.pairing import Pair
from lib.data.preparation.volumes.layouts import cases_in
from lib.data.preparation.volumes.overview import VolumeOverview
from lib.data.preparation.volumes.plan import Plan, inside_of, plan_of
from lib.data.preparation.volumes.resampling import prepared
from lib.data.preparation.volumes.survey import read_case, survey
from lib.data.prepared_folder import labeled
from lib.data.prepared_volumes import VOLUME_COLUMNS, volume_file
from lib.imaging.grids import Grid, write_grid


def add_volumes(
    folder: Path,
    name: str,
    title: str,
    wishes: Wishes,
    show: Callable[[str], None],
    step: Callable[[int, int], None],
) -> Path:
    """Make a folder of volumes a dataset of the study; arguments as in `add_own_folder`.

    Every volume is read twice: once to judge them all, once to prepare it, so that one at a time is in memory.

    Raises:
        StudyError: the folder does not hold cases, some cannot be used, or masks and labels do not fit.
    """
    if wishes.color:
        raise StudyError("volumes have channels and no color; leave out --color")
    cases, about, told = cases_in(folder, wishes.groups)
    groups, total = enough_groups(cases), len(cases)
    seen = survey(cases, len(about.channels), inside_of(wishes, about), lambda done: step(done // 2, total))
    plan, missing = plan_of(seen, wishes, about)
    target, overview, channels = paths.data_root() / name, VolumeOverview(), seen[0].channels
    with in_making(target) as making:
        shapes = _write(cases, plan, channels, making, overview, lambda done: step((total + done) // 2, total))
        values = {
            "modality": wishes.modality or ", ".join(about.channels),
            "labels": plan.named,
            "channels": channels,
            "channel_names": list(about.channels),
            "dim": 3,
            "spacing": [round(float(each), 6) for each in plan.spacing],
            "shape": np.median(shapes, axis=0).astype(int).tolist(),
        }
        card = card_text(
            name, title, wishes, what="a user's own volumes and masks", preparation=plan.in_words(), values=values,
            pairs=cases, regions=plan.regions,
        )  # fmt: skip
        (making / "card.toml").write_text(card, encoding="utf-8")
    for line in told + missing + overview.notes():
        show(f"note: {line}")
    closing_notes(cases, wishes, show)
    show(f"{len(cases)} volumes in {len(groups)} groups, {plan.masks}: {target}")
    show(f"{overview.summary()}; look at {target / 'overview.png'}")
    show(f"the task {name!r} can be used now; the card is {target / 'card.toml'}")
    return target


def _write(
    cases: Sequence[Pair],
    plan: Plan,
    channels: int,
    folder: Path,
    overview: VolumeOverview,
    step: Callable[[int], None],
) -> list[tuple[int, int, int]]:
    """Write volumes, index, checksums and the picture of an overview; the shapes of prepared volumes."""
    rows, shapes = [], []
    for number, case in enumerate(cases):
        step(number)
        image, masks = read_case(case, channels)
        mask, name = plan.mask(masks, case.image.name), f"{number:04d}"
        volume = prepared(image, mask, plan.windows, plan.spacing)
        write_grid(volume_file(folder, "images", name), volume.image)
        write_grid(volume_file(folder, "masks", name), volume.mask)
        write_grid(volume_file(folder, "originals", name), Grid(mask[None], image.affine))
        overview.add(case.name, volume, mask)
        shapes.append(volume.image.shape)
        x, y, z = volume.image.shape
        part = f"{labeled(volume.mask.voxels).mean():.6f}"
        rows.append(
            dict(zip(VOLUME_COLUMNS, (name, case.name, case.group or case.name, "own", x, y, part, z), strict=True))
        )
    write_index(rows, folder)
    write_checksums(folder)
    overview.save(folder / "overview.png")
    return shapes
