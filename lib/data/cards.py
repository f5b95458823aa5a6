"""The card of a dataset, read strictly from its file; all cards there are, and one by name."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from pathlib import Path

from lib.common import paths
from lib.common.errors import StudyError, nearest, shown
from lib.common.outside import inside, read_toml

KINDS = ("real", "simulated")
FETCHES = ("table", "manual", "none")
GOALS = ("segmentation", "reconstruction", "measured")


@dataclass(frozen=True, kw_only=True)
class Split:
    """How a dataset may be divided: the number of folds, and what a group is, in words.

    `people` names those whose images they are: sets that share people say the same, and a group of that name then has
    the same fold in all of them. `groups_known` is false where nobody knows which images show one person, so that the
    split is by image.
    """

    folds: int
    rule: str
    people: str = ""
    groups_known: bool = True


@dataclass(frozen=True, kw_only=True)
class Part:
    """A known state of the prepared folder, told by its counts (all originals, or a named part of them)."""

    name: str
    pairs: int
    groups: int


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part that is made of labels, such as a whole tumor of its parts: a name, and the values of those labels."""

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A contrast of a set of volumes, and how the names of its files end: `<subject>_<ending>.nii.gz`."""

    name: str
    ending: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A person in a set of volumes, and the fold that all volumes of that person belong to."""

    name: str
    fold: int


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of one dataset, as its TOML file says it.

    `pairs` and `groups` count what preparation makes of all originals; 0 means drawn on demand (simulated).
    `fetch` is "table" (every original has a verified row in `<name>.csv`), "manual" (`manual` says where to get
    them and why), or "none" (nothing to fetch). An address of an original is `address`, with the row's
    repository and commit filled in, followed by the row's path.

    `labels` names what masks hold: value 1 is the first of them, 2 the second, 0 background, and 255 is ignored. None
    are named where masks are binary. `regions` are what is learned and judged in their place, where some are stated.
    `channels` of the images: 1, gray, or 3, red, green and blue; of volumes any number, which `channel_names` name.

    `dim` is 3 where images are volumes; then `spacing` is that of all prepared volumes in millimeters, to the right,
    front and up, and `shape` the median of their voxels along these axes.

    `goal` is what the set is for: "segmentation" (images and masks), "reconstruction" (volumes: then `region` of the
    body, `directions` in which they may be sliced, `contrasts` and `subjects` say more, `pairs` counts volumes and
    `groups` persons) or "measured" (k-space as it was measured, to look at).
    """

    name: str
    title: str
    what: str
    kind: str
    modality: str
    licence: str
    citation: str
    split: Split
    pairs: int
    groups: int
    target: str = "foreground"
    labels: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    channels: int = 1
    channel_names: tuple[str, ...] = ()
    dim: int = 2
    spacing: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    folder: str = ""
    address: str = ""
    parts: tuple[Part, ...] = ()
    preparation: str = ""
    quality: tuple[str, ...] = ()
    fetch: str = "none"
    manual: str = ""
    goal: str = "segmentation"
    region: str = ""
    directions: tuple[str, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    subjects: tuple[Subject, ...] = ()
    file: Path = Path()

    @property
    def path(self) -> Path:
        """The prepared folder, there or not."""
        return paths.data_root() / self.folder


def load_card(file: Path) -> Card:
    """Read one card strictly.

    Raises:
        StudyError: not TOML, an unknown or missing key, a value of the wrong type or out of range.
    """
    table = read_toml(file)
    if "file" in table:
        raise StudyError(f"{file}: {nearest('key', 'file', _fields(Card))}")
    if file.name == "card.toml":  # a user's card speaks of the folder it lies in, whatever that is called now
        table.setdefault("folder", file.parent.name)
    card: Card = dataclasses.replace(_strict(Card, table, str(file)), file=file)
    _check_card(card)
    return card


def _check_card(card: Card) -> None:
    problems = []
    if card.kind not in KINDS:
        problems.append(nearest("kind", card.kind, KINDS))
    if card.fetch not in FETCHES:
        problems.append(nearest("fetch", card.fetch, FETCHES))
    if not card.name.replace("_", "").isalnum() or card.name != card.name.lower():
        problems.append(f"name must be lowercase letters, digits and '_', got {card.name!r}")
    if card.kind == "real" and (card.name.startswith("sim_") or card.name in ("originals", "simulated")):
        problems.append(f"the name {card.name!r} is reserved; choose another")
    if card.kind == "real" and (not card.folder or Path(card.folder).name != card.folder or card.folder == ".."):
        problems.append(f"folder must name one folder in the data root, got {card.folder!r}")
    if card.file.name == "card.toml" and card.folder != card.file.parent.name:
        problems.append(f"folder says {card.folder!r} but the card lies in {card.file.parent.name!r}; drop the key")
    if card.goal not in GOALS:
        problems.append(nearest("goal", card.goal, GOALS))
    if card.goal == "reconstruction" and not (card.region and card.directions and card.contrasts and card.subjects):
        problems.append('goal = "reconstruction" needs region, directions, contrasts and subjects')
    if any(subject.fold >= card.split.folds for subject in card.subjects):
        problems.append(f"a subject's fold must be below split.folds, {card.split.folds}")
    if len(set(card.labels)) < len(card.labels) or not all(card.labels) or len(card.labels) > 254:
        problems.append(f"labels must be different names, at most 254, got {list(card.labels)}")
    names = [region.name for region in card.regions]
    if len(set(names)) < len(names) or not all(names):
        problems.append(f"regions must have different names, got {names}")
    for region in card.regions:
        if not region.labels or not all(0 < each <= len(card.labels) for each in region.labels):
            problems.append(
                f"region {region.name!r} must be made of 1 to {len(card.labels)}, got {list(region.labels)}"
            )
    problems += _volume_problems(card) if card.dim != 2 else []
    if card.dim == 2 and card.channels not in (1, 3):
        problems.append(f"channels must be 1 (gray) or 3 (red, green, blue), got {card.channels}")
    if card.split.folds < 3:
        problems.append(f"split.folds must be at least 3 (training, validation, test), got {card.split.folds}")
    if card.fetch == "table" and not card.address.startswith(("http://", "https://")):
        problems.append(f'fetch = "table" needs an address that begins with https:// or http://, got {card.address!r}')
    for name in [subject.name for subject in card.subjects] + [each.ending for each in card.contrasts]:
        if Path(inside(card.path, name, f"{card.file}: a subject and a contrast's ending")).name != name:
            problems.append(f"a subject and a contrast's ending are parts of the name of a file, got {name!r}")
    if card.fetch == "manual" and not card.manual:
        problems.append("fetch = \"manual\" needs a text under 'manual': why, and where to get the files")
    if problems:
        raise StudyError(f"{card.file}: {'; '.join(problems)}")


def _volume_problems(card: Card) -> list[str]:
    problems = []
    if card.dim != 3 or card.goal != "segmentation":
        problems.append(f"dim must be 2, or 3 for the segmentation of volumes, got {card.dim}")
    if len(card.spacing) != 3 or not all(0 < each < 1000 for each in card.spacing):
        problems.append(f"spacing must be three distances in millimeters, got {list(card.spacing)}")
    if len(card.shape) != 3 or not all(card.shape):
        problems.append(f"shape must be three numbers of voxels, got {list(card.shape)}")
    if card.channels < 1 or (card.channel_names and len(card.channel_names) != card.channels):
        problems.append(f"channels must be at least 1 and as many as channel_names, got {card.channels}")
    return problems


def _fields(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.name != "file"]


def _strict(cls: type, table: dict[str, object], where: str) -> typing.Any:
    """Build dataclass `cls` from a TOML table; every key must be known and every value of the declared type."""
    for key in table:
        if key not in _fields(cls):
            raise StudyError(f"{where}: {nearest('key', key, _fields(cls))}")
    hints = typing.get_type_hints(cls)
    values = {}
    for field in dataclasses.fields(cls):
        if field.name in table:
            values[field.name] = _typed(table[field.name], hints[field.name], f"{where}: {field.name}")
        elif field.default is dataclasses.MISSING:
            raise StudyError(f"{where}: the key {field.name!r} is missing")
    return cls(**values)


def _typed(value: object, hint: typing.Any, where: str) -> object:
    if isinstance(hint, types.GenericAlias):  # tuple[X, ...]
        if not isinstance(value, list):
            raise StudyError(f"{where} must be a list, got {shown(value)}")
        return tuple(_typed(item, hint.__args__[0], f"{where}[{place}]") for place, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise StudyError(f"{where} must be a table, got {shown(value)}")
        return _strict(typing.cast(type, hint), value, where)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:  # not isinstance: true is no number here
        kind = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}[hint]
        raise StudyError(f"{where} must be {kind}, got {shown(value)}")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
        raise StudyError(f"{where} must not be negative, got {value}")
    return value


def root_note() -> str:
    """The data root with its origin, as every error about data ends."""
    return f"data root: {paths.data_root()} ({paths.data_origin()})"


def manifest_dir() -> Path:
    """The folder of the project's own cards."""
    return paths.REPOSITORY / "data_manifests"


def all_cards() -> dict[str, Card]:
    """Every card by task name: the project's, then those of the user's own folders in the data root.

    Raises:
        StudyError: a card is malformed, or a user's card takes a name or folder that a card before it has.
    """
    found: dict[str, Card] = {}
    own = sorted(file for file in manifest_dir().glob("*.toml") if file.name != "weights.toml")
    theirs = sorted(paths.data_root().glob("*/card.toml"))
    for file in own + theirs:
        card = load_card(file)
        if card.name in found:
            raise StudyError(
                f"{file}: the name {card.name!r} is taken by {found[card.name].file}; choose another name for yours"
            )
        found[card.name] = card
    return found


def find_card(name: str) -> Card:
    """The card of that name.

    Raises:
        StudyError: there is none; names the nearest.
    """
    known = all_cards()
    if name not in known:
        raise StudyError(f"{nearest('dataset', name, known)}; {root_note()}")
    return known[name]
