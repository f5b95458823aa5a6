"""From a folder of originals to a prepared folder: what is there is verified, what is missing is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lib.common.errors import StudyError
from lib.data.cards import Card, root_note
from lib.data.preparation.conversion import write_folder
from lib.data.preparation.dataset_recipes import RECIPES, Originals
from lib.data.preparation.originals import locate, originals_dir, table_of


def prepare(
    card: Card,
    *,
    folder: Path | None = None,
    allow_partial: bool = False,
    show: Callable[[str], None] = print,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Prepare the originals in `folder` (default: where `fetch` put them) into the card's prepared folder.

    Args:
        allow_partial: prepare what is there although originals are missing; near-duplicates and the numbers of groups
            then differ from those of the whole set.
        show: told what is missing, and the outcome.
        step: told (done, of how many) as pictures are read.

    Raises:
        StudyError: originals are missing or not what they should be, or the prepared folder exists.
    """
    rows = table_of(card)
    folder = originals_dir(card) if folder is None else folder
    if not folder.is_dir():
        raise StudyError(
            f"no folder of originals {folder}; run: python -m lib data fetch {card.name}, or name a folder with "
            f"--originals; {root_note()}"
        )
    if card.path.exists():
        raise StudyError(f"{card.path} exists already; move or delete it first; {root_note()}")
    found, missing = locate(rows, folder)
    if missing:
        text = f"{len(missing)} of {len(rows)} originals are missing in {folder}, the first is {missing[0].path}"
        if not allow_partial:
            raise StudyError(
                f"{text}; run: python -m lib data fetch {card.name}, or add --allow-partial to prepare what is there"
            )
        show(f"{card.name}: {text}; preparing what is there")
    originals = Originals(tuple(row.path for row in rows), found, step)
    pairs, groups = write_folder(RECIPES[card.name](originals), card.path)
    show(f"{card.name}: {pairs} pairs, {groups} groups in {card.path}")
    return card.path
