"""Picture files opened within bounds: known kinds only, and no more pixels than memory is meant for."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lib.common.errors import StudyError

if TYPE_CHECKING:
    from PIL.Image import Image

KINDS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")  # not EPS: Pillow hands that to Ghostscript, which runs it
PIXELS = 1 << 26  # of one picture, such as 8192 x 8192; in memory up to 4 bytes each, and 16 while gray is scaled
SCANS = 64  # of a JPEG; each passes over all pixels, and a file of a few MB may hold a million


def decode(content: bytes, name: str) -> Image:
    """The picture in the bytes of a file, decoded wholly; its tags are there as Pillow keeps them.

    Raises:
        StudyError: of another kind, damaged, of several pages, or of more than `PIXELS` pixels.
    """
    from PIL import Image

    with _told(name):
        picture = Image.open(io.BytesIO(content), formats=KINDS)
        width, height = picture.size
        if width * height > PIXELS:
            raise StudyError(
                f"{name}: has {width} x {height} pixels; at most {PIXELS:,} are read: reduce it, or cut it up"
            )
        if picture.format == "JPEG" and content.count(b"\xff\xda") > SCANS:
            raise StudyError(f"{name}: is a JPEG of more than {SCANS} scans; save it anew")
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise StudyError(f"{name}: holds {pages} pages; save each of them as a picture of its own")
        picture.load()
        return picture


def turned_upright(picture: Image, name: str) -> Image:
    """A picture as its orientation tag says.

    Raises:
        StudyError: its tags are damaged.
    """
    from PIL import ImageOps

    with _told(name):
        return ImageOps.exif_transpose(picture)


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Whatever a decoder of twenty kinds of file stumbles over, as one line; what it warns of is that, or no matter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except StudyError:
        raise
    except Exception as error:
        unknown = type(error).__name__ == "UnidentifiedImageError"
        said = f"it is none of {', '.join(KINDS)}" if unknown else error
        raise StudyError(f"{name}: not a readable picture ({said})") from error
