"""The card of a user's own folder: its name, its text, and what is told of groups and licence."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.common import paths
from lib.common.errors import StudyError, shown
from lib.data.cards import all_cards, root_note
from lib.data.preparation.own.pairing import Pair


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a user asks for beside the folder; see `add_own_folder`."""

    licence: str = ""
    modality: str = ""
    foreground: Sequence[int] | None = None
    labels: Mapping[int, str] | None = None
    groups: str | None = None
    people: str = ""
    color: bool = False
    spacing: tuple[float, float, float] | None = None


LONGEST = 60  # letters of a name, which begins the names of folders


def new_name(folder: Path, name: str | None) -> str:
    """The name of the task that a folder becomes: that given, else the folder's in what letters a name may have.

    Raises:
        StudyError: it cannot be used or is taken, or the prepared folder would lie in the place of the user's.
    """
    name = name or re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) or len(name) > LONGEST:
        raise StudyError(
            f"a dataset's name is lowercase letters, digits and '_', at most {LONGEST}, got {shown(name)}; choose one "
            "with --name"
        )
    known = all_cards()
    if name.startswith("sim_") or name in ("originals", "simulated"):
        raise StudyError(f"the name {name!r} is reserved; choose another with --name")
    if name in known or any(card.folder == name for card in known.values()):
        own = paths.data_root() / name
        again = f"delete {own} to make it again, or " if (own / "card.toml").is_file() else ""
        raise StudyError(f"the name {name!r} is taken already; {again}choose another with --name; {root_note()}")
    if folder.resolve() == paths.data_root() / name:
        raise StudyError(
            f"{folder} lies where the prepared set {name!r} would go; move your folder out of {paths.data_root()}, or "
            "choose another name with --name"
        )
    return name


def enough_groups(pairs: Collection[Pair]) -> set[str]:
    """The groups of all images; each is its own where nothing tells.

    Raises:
        StudyError: they are too few for a split.
    """
    groups = {pair.group or pair.name for pair in pairs}
    if len(groups) < 3:
        raise StudyError(f"{len(groups)} groups are too few to divide into training, validation and test; 3 are needed")
    return groups


def card_text(
    name: str,
    title: str,
    wishes: Wishes,
    *,
    what: str,
    preparation: str,
    values: Mapping[str, object],
    pairs: Collection[Pair],
    regions: Mapping[str, Sequence[int]] | None = None,
) -> str:
    """The text of card.toml; `values` are further keys, of texts, numbers or sequences of these, left out if empty."""
    groups, grouped = enough_groups(pairs), any(pair.group for pair in pairs)
    lines = {
        "name": name, "title": title, "what": what, "kind": "real",
        "modality": wishes.modality or "not stated", "licence": wishes.licence or "not stated",
        "citation": "not stated", "preparation": preparation, **{key: value for key, value in values.items() if value},
        "pairs": len(pairs), "groups": len(groups),
    }  # fmt: skip
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in lines.items())
    rule = "by the groups that came with the folder" if grouped else "by image: no groups were given"
    text += f"\n[split]\nfolds = {min(5, len(groups))}\nrule = {_toml(rule)}\n"
    text += f"people = {_toml(wishes.people)}\n" if wishes.people else ""
    text += "" if grouped else "groups_known = false\n"
    for region, labels in (regions or {}).items():
        text += f"\n[[regions]]\nname = {_toml(region)}\nlabels = {_toml(labels)}\n"
    return text


def closing_notes(pairs: Collection[Pair], wishes: Wishes, show: Callable[[str], None]) -> None:
    """Tell what a user should still add."""
    if not any(pair.group for pair in pairs):
        show(
            "warning: no groups were given, so every image is its own group. If several images show one patient, a "
            "split would leak: add groups.csv (columns: name, group) to the folder, or say how names tell the patient "
            r'(--groups "patient\d+"), and make the card again'
        )
    if wishes.licence == "":
        show("note: no licence was given; reports will say 'not stated' (--licence)")


def _toml(value: object) -> str:
    """A text as a TOML basic string, a number, or a list of them."""
    if isinstance(value, str):
        special = {"\\": "\\\\", '"': '\\"'}
        escaped = (special.get(c, f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in value)
        return '"' + "".join(escaped) + '"'
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list | tuple) else str(value)
