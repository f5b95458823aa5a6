"""Voxels and where they lie: NIfTI files read and written, turned to one orientation, resampled onto each other."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.outside import gunzip, read_bytes

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_CODES = {"uint8": 2, "float32": 16}
_HEADER = 352  # bytes before the voxels
VOXELS = (
    1 << 29
)  # of one file, such as 512 x 512 x 2048; in memory up to 8 bytes each, and 4 more while they are scaled
SPACINGS = (1e-6, 1e6)  # millimeters between voxels that can be reckoned with
_UNITS = {1: 1000.0, 3: 0.001}  # millimeters in a meter and in a micrometer, by NIfTI's codes; others are millimeters


@dataclass(frozen=True)
class Grid:
    """Voxels (c, x, y, z), and the affine map (4, 4) from indices (x, y, z) to millimeters right, front and up."""

    voxels: np.ndarray
    affine: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.voxels.shape[1:]
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimeters between voxels along each axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z


def read_grid(file: Path) -> Grid:
    """The voxels in a NIfTI file and where they lie, in the order of the file.

    Raises:
        StudyError: the file is missing, or see `decoded`.
    """
    return decoded(read_bytes(file), str(file))


def decoded(content: bytes, name: str) -> Grid:
    """The voxels in the bytes of a NIfTI-1 file (.nii or .nii.gz), in its order; a fourth axis is that of channels.

    Whole numbers stay what they are where the header scales nothing, else values are float32. Written out here because
    it is little, so that training needs no further package; the tests plant every orientation.

    Raises:
        StudyError: not a NIfTI-1 file, cut short, not 3-D or 4-D, of more than `VOXELS`, without possible geometry, or
            of values that are not finite or not known numbers.
    """
    if content[:2] == b"\x1f\x8b":
        content = gunzip(content, name, lambda start: _described(start, name).end, _HEADER)
    head, data = _described(content, name), content
    if len(data) < head.end:
        raise StudyError(f"{name}: cut short, {head.count} voxels do not fit into its {len(data)} bytes")
    voxels = np.frombuffer(data, head.kind, head.count, head.offset).reshape((*head.shape, -1), order="F")
    order, slope, shift = head.order, head.slope, head.shift
    scaled = np.isfinite(slope) and slope != 0 and (slope != 1 or (np.isfinite(shift) and shift != 0))
    with np.errstate(over="ignore", invalid="ignore"):  # what leaves the range of float32 is refused below
        if scaled or voxels.dtype.kind == "f":
            voxels = voxels.astype(np.float32)
        if scaled and slope != 1:
            voxels *= np.float32(slope)
        if scaled and np.isfinite(shift) and shift:
            voxels += np.float32(shift)
    if not np.isfinite(voxels).all():
        raise StudyError(f"{name}: holds values that are not finite")
    return Grid(
        np.moveaxis(voxels.astype(voxels.dtype.newbyteorder("="), copy=False), 3, 0), _affine(data, order, name)
    )


@dataclass(frozen=True)
class _Head:
    """What a header says of its voxels: order of bytes, kind of number, shape (x, y, z), number, place, scaling."""

    order: str
    kind: np.dtype
    shape: tuple[int, int, int]
    count: int
    offset: int
    slope: float
    shift: float

    @property
    def end(self) -> int:
        """The bytes of the file up to its last voxel."""
        return self.offset + self.count * self.kind.itemsize


def _described(data: bytes, name: str) -> _Head:
    """The header at the beginning of the bytes of a NIfTI-1 file.

    Raises:
        StudyError: it is none, or says what is not read here.
    """
    whole = len(data) >= _HEADER and data[344:348] == b"n+1\0"
    order = next((mark for mark in "<>" if whole and struct.unpack(mark + "i", data[:4])[0] == 348), None)
    if order is None:
        raise StudyError(f"{name}: not a single-file NIfTI-1 volume")
    axes, *sides = struct.unpack(order + "8h", data[40:56])
    code = struct.unpack(order + "h", data[70:72])[0]
    offset, slope, shift = struct.unpack(order + "3f", data[108:120])
    shape = tuple(sides[: max(0, axes)])
    long = [length for length in shape[3:] if length != 1]  # axes beyond space: time, or what statistics store there
    if not 3 <= axes <= 7 or min(shape) < 1 or len(long) > 1:
        raise StudyError(f"{name}: must hold one 3-D volume or its channels, got {axes} axes and the shape {shape}")
    if code not in _TYPES:
        raise StudyError(f"{name}: numbers of NIfTI type {code} are not read; known: {sorted(_TYPES)}")
    count = math.prod(shape)
    if count > VOXELS:
        raise StudyError(f"{name}: has {count:,} voxels; at most {VOXELS:,} are read: crop it, or resample it")
    if not _HEADER <= offset <= 2**31 or offset != int(offset):
        raise StudyError(f"{name}: its voxels must begin at byte {_HEADER} or later, got {offset:g}")
    x, y, z = shape[:3]
    return _Head(order, np.dtype(order + _TYPES[code]), (x, y, z), count, int(offset), slope, shift)


def _affine(data: bytes, order: str, name: str) -> np.ndarray:
    """(4, 4): from the indices of a voxel to millimeters right, front and up.

    The header may say so in three ways; the first that is possible counts.

    Raises:
        StudyError: none is: zeros, NaN, axes that coincide, or a spacing out of `SPACINGS`.
    """
    unit = _UNITS.get(data[123] & 7, 1.0)
    qform, sform = struct.unpack(order + "2h", data[252:256])
    steps = np.array(struct.unpack(order + "8f", data[76:108]), np.float64)
    found = [(np.diag(np.abs(steps[1:4])), np.zeros(3))]
    if qform > 0:
        origin = np.array(struct.unpack(order + "3f", data[268:280]), np.float64)
        found.insert(0, (_quaternion(struct.unpack(order + "3f", data[256:268]), steps), origin))
    if sform > 0:
        rows = np.array(struct.unpack(order + "12f", data[280:328]), np.float64).reshape(3, 4)
        found.insert(0, (rows[:, :3], rows[:, 3]))
    for columns, origin in found:
        if np.isfinite(columns).all() and np.isfinite(origin).all():
            spacing = np.linalg.norm(columns, axis=0)
            possible = SPACINGS[0] <= unit * spacing.min() and unit * spacing.max() <= SPACINGS[1]
            if possible and abs(np.linalg.det(columns / spacing)) > 0.01:
                affine = np.eye(4)
                affine[:3, :3], affine[:3, 3] = columns, origin
                affine[:3] *= unit
                return affine
    raise StudyError(
        f"{name}: the header gives no possible geometry (in sform, qform and pixdim, axes coincide or lie not between "
        f"{SPACINGS[0]:g} and {SPACINGS[1]:g} mm a voxel)"
    )


def _quaternion(parts: tuple[float, ...], steps: np.ndarray) -> np.ndarray:
    b, c, d = parts
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    with np.errstate(invalid="ignore"):  # of what is no number the caller takes the next geometry
        return turn * np.array([steps[1], steps[2], steps[3] * (-1 if steps[0] < 0 else 1)])


def encoded(grid: Grid, *, compress: bool = True) -> bytes:
    """A grid of uint8 or float32 voxels as the bytes of a NIfTI-1 file; several channels lie along a fourth axis."""
    voxels, spacing = grid.voxels, grid.spacing
    shape = (*grid.shape, len(voxels))
    header = bytearray(_HEADER)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3 if shape[3] == 1 else 4, *shape, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _CODES[voxels.dtype.name], 8 * voxels.dtype.itemsize)
    struct.pack_into("<8f", header, 76, 1.0, *spacing, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<3f", header, 108, float(_HEADER), 1.0, 0.0)
    header[123] = 2  # millimeters
    struct.pack_into("<2h", header, 252, 0, 1)  # the geometry is that of the sform
    struct.pack_into("<12f", header, 280, *grid.affine[:3].ravel())
    header[344:348] = b"n+1\0"
    content = bytes(header) + np.moveaxis(voxels, 0, 3).tobytes(order="F")
    return gzip.compress(content, compresslevel=4, mtime=0) if compress else content


def write_grid(file: Path, grid: Grid) -> None:
    """Write a grid as a NIfTI-1 file, compressed if its name ends in .gz."""
    paths.write_atomic(file, encoded(grid, compress=file.suffix == ".gz"))


def turns(affine: np.ndarray) -> tuple[list[int], tuple[int, ...]]:
    """How axes become those nearest to right, front and up: the axis that comes in each place, and places to flip."""
    from scipy.optimize import linear_sum_assignment

    direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    places, source = linear_sum_assignment(-np.abs(direction))
    return source.tolist(), tuple(int(place) for place in places if direction[place, source[place]] < 0)


def canonical(grid: Grid) -> Grid:
    """A grid with its axes permuted and flipped so that they point, as nearly as may be, to the right, front and up."""
    source, flips = turns(grid.affine)
    voxels = grid.voxels.transpose(0, *(axis + 1 for axis in source))
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for place, axis in enumerate(source):
        flipped = place in flips
        change[axis, place] = -1 if flipped else 1
        change[axis, 3] = grid.shape[axis] - 1 if flipped else 0
    return Grid(np.flip(voxels, tuple(place + 1 for place in flips)), grid.affine @ change)


def as_in_file(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxels (x, y, z) of a canonical grid in the order of the axes of the file that has this affine map."""
    source, flips = turns(affine)
    return np.flip(voxels, flips).transpose(np.argsort(source))


def aligned(grid: Grid, affine: np.ndarray, shape: Sequence[int], *, order: int) -> np.ndarray:
    """Voxels (c, *shape), float32, of a grid at those of another of the same directions, edges going on outside.

    Args:
        affine: of the other grid, both canonical. order: of the spline: 0 nearest, 1 linear, 3 cubic.
    """
    from scipy import ndimage

    steps, first = _steps(grid.affine, affine)
    if np.allclose(steps, 1, atol=1e-4) and np.allclose(first, 0, atol=1e-3) and tuple(shape) == grid.shape:
        return grid.voxels.astype(np.float32)
    return np.stack(
        [
            ndimage.affine_transform(
                each.astype(np.float32), steps, first, output_shape=tuple(shape), order=order, mode="nearest"
            )
            for each in grid.voxels
        ]
    )


def covered(grid: Grid, other: Grid) -> np.ndarray:
    """Which voxels of another canonical grid lie within one, to half a voxel: bool, of the other's shape."""
    lines = []
    for step, first, side, count in zip(*_steps(grid.affine, other.affine), grid.shape, other.shape, strict=True):
        place = np.arange(count) * step + first
        lines.append((place > -0.5 - 1e-3) & (place < side - 0.5 + 1e-3))
    return lines[0][:, None, None] & lines[1][:, None] & lines[2]


def _steps(affine: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Along each axis: how many voxels of a grid lie between neighbors of another, and where the other begins."""
    there = np.linalg.solve(affine, other)
    return np.diag(there)[:3], there[:3, 3]
