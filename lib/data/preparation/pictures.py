"""Picture files as a viewer shows them: gray images and the label values of masks, or a refusal that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.common.errors import StudyError
from lib.common.outside import read_bytes
from lib.imaging.picture_files import decode, turned_upright

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF tag, and its value where large numbers are dark
MODELS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # besides "I..." and "F"
COLORED = 0.02 * 255  # between the brightest and the darkest channel
COLOR = 1 << 24  # more than any gray: what a color's number begins at
Palette = dict[int, tuple[int, ...]]  # color by label


def open_picture(file: Path) -> Image:
    """Decode a picture file wholly, upright as its orientation tag says.

    Raises:
        StudyError: see `lib.imaging.picture_files.decode`; or it has a color model that is not known here.
    """
    from PIL import Image

    picture = decode(read_bytes(file), str(file))
    inverted = picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO  # type: ignore[attr-defined]
    upright = turned_upright(picture, str(file))
    if upright.mode.startswith("I;16") and inverted:  # Pillow turns 1 and 8 bits, and leaves 16 as they are
        upright = Image.fromarray((np.iinfo(np.uint16).max - np.asarray(upright)).astype(np.uint16))
    if upright.mode not in MODELS and not upright.mode.startswith(("I", "F")):
        raise StudyError(f"{file}: has the color model {upright.mode}; save it as gray or RGB")
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    return upright


def to_gray(file: Path) -> Image:
    """An 8-bit gray picture (ITU-R 601 luma for color).

    More than 8 bits are scaled from the picture's own range to 0..255: what such files hold (12 bits in 16, say) is
    not written in them.

    Raises:
        StudyError: the picture cannot be decoded, has transparent parts, or holds non-finite values.
    """
    from PIL import Image

    picture = open_picture(file)
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture).astype(np.float64)
        if not np.isfinite(values).all():
            raise StudyError(f"{file}: holds values that are not finite; only finite gray values can be scaled")
        span = np.ptp(values)
        values -= values.min()  # in place: a picture may have tens of millions of pixels
        values /= span if span > 0 else 1
        values *= 255
        return Image.fromarray(np.round(values, out=values).astype(np.uint8))
    _check_opaque(picture, file)
    return picture.convert("L")


def _check_opaque(picture: Image, file: Path) -> None:
    if _in_parts_transparent(picture):
        raise StudyError(
            f"{file}: has transparent parts, which look different on every background; save it without them"
        )


def _in_parts_transparent(picture: Image) -> bool:
    return picture.mode in ("LA", "PA", "RGBA") and bool(np.ptp(np.asarray(picture.getchannel("A"))))


def own_range(file: Path) -> float | None:
    """The span of values of a picture of more than 8 bits, which `to_gray` makes the span of gray; None for others."""
    picture = open_picture(file)
    return float(np.ptp(np.asarray(picture).astype(np.float64))) if picture.mode.startswith(("I", "F")) else None


def to_color(file: Path) -> Image:
    """An 8-bit picture in red, green and blue.

    Raises:
        StudyError: the picture cannot be decoded, has transparent parts, or more than 8 bits a channel.
    """
    picture = open_picture(file)
    if picture.mode.startswith(("I", "F")):
        raise StudyError(f"{file}: has more than 8 bits and no color; make the card without --color")
    _check_opaque(picture, file)
    return picture.convert("RGB")


def in_color(file: Path) -> bool:
    """Whether a picture shows colors, of which `to_gray` keeps the brightness: 2 % between channels, on average."""
    picture = open_picture(file)
    if picture.mode.startswith(("I", "F")) or picture.mode in ("1", "L", "LA"):
        return False
    return bool(np.ptp(np.asarray(picture.convert("RGB")).astype(np.int16), axis=2).mean() > COLORED)


def of_transparency(file: Path) -> bool:
    """Whether the labels of a mask file are its transparency, which `mask_values` takes where color tells nothing."""
    return _in_parts_transparent(open_picture(file))


def mask_values(file: Path, palette: Palette | None = None) -> np.ndarray:
    """The label values of a mask file, (h, w).

    Gray values as they are, 1-bit as 0 and 1, equal color channels as one, entries of a palette by number. Where the
    picture is of one color and its transparency is not, the transparency is the mask.

    Args:
        palette: color by label of the masks of a set that were read before; this one's are added, and a palette of
            grays counts as the grays that it shows.

    Raises:
        StudyError: the channels differ, so that a color stands for a label; values that are no whole numbers; or a
            palette that gives a label another color than in the masks before.
    """
    picture = open_picture(file)
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    if picture.mode == "P":
        return np.asarray(picture) if palette is None else _of_palette(picture, palette, file)
    pixels = np.asarray(picture.convert("RGBA") if picture.mode in ("PA", "CMYK", "YCbCr") else picture)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        color, alpha = pixels[:, :, :-1], pixels[:, :, -1]
        if alpha.min() != alpha.max():
            if (color[alpha > 0] != color[alpha > 0][:1]).any():
                raise StudyError(
                    f"{file}: a mask must be gray or transparent, this one is both; save one value per label"
                )
            return alpha
        pixels = color
    if pixels.ndim == 3:
        if (pixels != pixels[:, :, :1]).any():
            colors = len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0))
            raise StudyError(
                f"{file}: a mask must be gray, one value per label, got a color picture with {colors} "
                f'colors; name them with --labels "#ff0000=NAME", or save its labels as gray values first'
            )
        pixels = pixels[:, :, 0]
    if pixels.dtype.kind == "f" and (pixels != np.round(pixels)).any():
        odd = pixels[pixels != np.round(pixels)].flat[0]
        raise StudyError(
            f"{file}: mask values must be whole numbers, one per label, got {odd:.6g}; save them as 0 and 255"
        )
    return pixels


def color_values(file: Path) -> np.ndarray:
    """The colors of a mask file as numbers, (h, w): `COLOR` plus red, green and blue in 24 bits, and 0 where black.

    Raises:
        StudyError: it cannot be decoded, or has transparent parts.
    """
    picture = open_picture(file)
    _check_opaque(picture, file)
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(np.int32), 2, 0)
    color = (red << 16) + (green << 8) + blue
    return np.where(color > 0, COLOR + color, 0)


def shown_value(value: int) -> str:
    """A mask value as a person writes it: a number, or a color such as #ff0000."""
    return f"#{value - COLOR:06x}" if value >= COLOR else str(value)


def _of_palette(picture: Image, palette: Palette, file: Path) -> np.ndarray:
    numbers = np.asarray(picture)
    entries = np.asarray(picture.getpalette() or [], np.int64).reshape(-1, 3)
    used = [int(number) for number in np.unique(numbers)]
    if all(number < len(entries) and np.ptp(entries[number]) == 0 for number in used):
        return entries[numbers, 0].astype(np.uint8)
    for number in used:
        color = tuple(entries[number].tolist()) if number < len(entries) else ()
        if palette.setdefault(number, color) != color:
            raise StudyError(
                f"{file}: label {number} has the color {color} here and {palette[number]} in masks before it: the "
                "palettes of the set differ; save labels as gray values"
            )
    return numbers
