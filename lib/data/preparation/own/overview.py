"""What was read of a user's folder, to look at: how much the masks cover, what is doubtful, and pairs with outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.data.preparation.conversion import Item, filled
from lib.data.preparation.near_duplicates import alike, reduced
from lib.data.preparation.pictures import in_color, of_transparency, own_range

SHOWN, SIDE = 12, 160  # pairs in the picture, and pixels of each
MOSTLY = 0.5  # of a picture: masks that cover more are unusual
RANGES = 4  # times: spans of values that differ by more give one tissue very different grays


class Overview:
    """Gathers one pair after the other."""

    def __init__(self) -> None:
        self.covered: list[float] = []
        self.at_border: list[float] = []
        self.lost: list[str] = []
        self.names: list[str] = []
        self.spans: list[float] = []
        self.groups: list[str] = []
        self.small: list[np.ndarray] = []
        self.transparent: list[str] = []
        self.colored: list[str] = []
        self.tiles: list[np.ndarray] = []

    def add(self, file: Path, masks: Sequence[Path], item: Item, mask: np.ndarray) -> None:
        """Look at a pair: its files, the pair as it was prepared, and its mask before it was reduced."""
        self.names.append(item.source)
        self.groups.append(item.group)
        self.small.append(reduced(item.image))
        self.colored += [file.name] * (item.image.ndim == 2 and in_color(file))
        self.transparent += [each.name for each in masks if of_transparency(each)]
        inside, mask = filled(item.mask), filled(mask)
        self.covered.append(float(inside.mean()))
        rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        self.at_border.append(float(rim.mean()))
        if mask.any() and not inside.any():
            self.lost.append(item.source)
        span = own_range(file)
        if span:
            self.spans.append(span)
        if len(self.tiles) < SHOWN:
            self.tiles.append(outlined(item.image, inside))

    def summary(self) -> str:
        """How much the masks cover."""
        return (
            f"masks cover {np.mean(self.covered):.1%} of a picture on average, {min(self.covered):.1%} to "
            f"{max(self.covered):.1%}"
        )

    def notes(self) -> list[str]:
        """What is doubtful, a sentence each."""
        found, covered = [], np.array(self.covered)
        empty, full = int((covered == 0).sum()), int((covered == 1).sum())
        if full:
            found.append(f"{full} masks cover the whole picture: there is no background in them")
        if empty:
            found.append(f"{empty} masks outline nothing")
        if (covered > MOSTLY).mean() > 0.5:
            found.append("most masks cover most of the picture: is foreground what you take for it?")
        border = zip(self.names, self.at_border, covered, strict=True)
        inverted = [name for name, rim, share in border if rim > 0.9 and share > MOSTLY]
        plain = sum(rim < 0.1 for rim in self.at_border)
        if inverted and plain:
            some = ", ".join(inverted[:3])
            found.append(f"{len(inverted)} masks are foreground at the border and {plain} are not: inverted? ({some})")
        if self.lost:
            some = ", ".join(self.lost[:3])
            found.append(f"{len(self.lost)} masks lost their foreground in the reduction to 256 pixels ({some})")
        twins = [f"{self.names[a]} and {self.names[b]}" for a, b in alike(self.small, self.groups)]
        if twins:
            more = f" and {len(twins) - 3} more pairs" if len(twins) > 3 else ""
            found.append(
                f"nearly the same picture in two groups, which may cross a split: {', '.join(twins[:3])}{more}"
            )
        if self.colored:
            some = ", ".join(self.colored[:3])
            found.append(
                f"{len(self.colored)} of {len(self.names)} pictures are in color, of which brightness is kept: what "
                f"differs in color alone cannot be learned; --color keeps it ({some})"
            )
        if self.transparent:
            some = ", ".join(self.transparent[:3])
            found.append(f"{len(self.transparent)} masks are of one color, and were read from transparency ({some})")
        if self.spans and max(self.spans) > RANGES * min(self.spans):
            times = max(self.spans) / min(self.spans)
            found.append(
                f"pictures of more than 8 bits are scaled by their own range, and these differ {times:.0f} times: the "
                "same tissue gets different grays. Save them as 8 bits under one window"
            )
        return found

    def save(self, file: Path) -> None:
        """Write the first pairs, mask outlined, as one picture."""
        save_tiles(self.tiles, min(4, len(self.tiles)), file)


def save_tiles(tiles: Sequence[np.ndarray], across: int, file: Path) -> None:
    """Write tiles of one size as one picture, so many in a line."""
    from PIL import Image

    tiles = [*tiles, *[np.zeros_like(tiles[0])] * (-len(tiles) % across)]
    lines = [np.concatenate(tiles[first : first + across], 1) for first in range(0, len(tiles), across)]
    Image.fromarray(np.concatenate(lines)).save(file)


def outlined(image: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """An image, uint8, as (SIDE, SIDE, 3): with the pixels at the edge of the foreground, bool (h, w), in red."""
    from PIL import Image

    def square(values: np.ndarray, way: Image.Resampling) -> np.ndarray:
        picture = Image.fromarray(values)
        picture.thumbnail((SIDE, SIDE), way)
        canvas = Image.new("L", (SIDE, SIDE))
        canvas.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
        return np.asarray(canvas)

    gray = square(np.asarray(Image.fromarray(image).convert("L")), Image.Resampling.BILINEAR)
    mask = square(foreground.astype(np.uint8) * 255, Image.Resampling.NEAREST) > 0
    inside = mask.copy()
    for axis, by in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inside &= np.roll(mask, by, axis)
    tile = np.stack([gray] * 3, axis=-1)
    tile[mask & ~inside] = (230, 40, 40)
    return tile
