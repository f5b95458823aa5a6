"""A prepared set made of known numbers, and the command line for data called in this process."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lib.data import cli
from lib.data.prepared_folder import INDEX_COLUMNS

CARD = """
name = "mine"
title = "a title"
what = "something"
kind = "real"
modality = "ultrasound"
licence = "MIT"
citation = "nobody"
pairs = 6
groups = 3
[split]
folds = 3
rule = "by patient"
"""


def make_set(root: Path, name: str = "mine", card: str = CARD, groups: Sequence[str] = "aabbcc") -> Path:
    """A prepared folder with a card, a pair per group given: image i holds the value 10 i, mask i has i + 1 pixels."""
    folder = root / name
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    lines = [",".join(INDEX_COLUMNS)]
    for number, group in enumerate(groups):
        image = np.full((8, 10), 10 * number, np.uint8)
        mask = np.zeros((8, 10), np.uint8)
        mask.flat[: number + 1] = 255
        Image.fromarray(image).save(folder / "images" / f"{number:04d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:04d}.png")
        lines.append(f"{number:04d},scan {number},{group},x,10,8,{(number + 1) / 80:.4f}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    (folder / "card.toml").write_text(card)
    return folder


def gray(value: int, height: int = 8, width: int = 10) -> Image.Image:
    return Image.fromarray(np.full((height, width), value, np.uint8))


def call(*words: str | Path) -> int:
    """`python -m lib data` with these words; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib")
    cli.add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["data", *map(str, words)])
    return options.run(options)
