"""K-space as a scanner measured it, from .npz and HDF5 files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.errors import StudyError
from lib.common.outside import ARRAY_BYTES, MB, is_file, read_bytes, read_npz

KEYS = ("kspace", "mask", "reconstruction_esc")  # of what fastMRI's files hold, that is used


@dataclass(frozen=True)
class Measured:
    """K-space complex64 (coils, h, w), its zero in the middle, and the samples that were taken, bool (h, w)."""

    kspace: np.ndarray
    mask: np.ndarray


def read_kspace(file: Path, *, place: int | None = None) -> Measured:
    """K-space under the key `kspace` of an .npz or HDF5 (.h5, as fastMRI stores it) file.

    Arrays are (h, w), (coils, h, w), (slices, coils, h, w), or (slices, h, w) of a single coil: these where `place` is
    given, or where the file has fastMRI's key `reconstruction_esc`. A key `mask` may be of one plane, or of its
    columns, as fastMRI has it; without one, samples that are zero in all coils count as not taken.

    Args:
        place: which slice, from 0; None: the middle one.

    Raises:
        StudyError: the file is missing, unreadable, without that key, of another shape, or not finite; or there is no
            such slice.
    """
    arrays = _hdf5(file) if file.suffix in (".h5", ".hdf5") else read_npz(read_bytes(file), str(file))
    if "kspace" not in arrays:
        raise StudyError(f"{file}: must hold the key 'kspace', got {', '.join(arrays) or 'none'}")
    kspace, mask = np.asarray(arrays["kspace"]), arrays.get("mask")
    if not np.iscomplexobj(kspace) or not 2 <= kspace.ndim <= 4:
        raise StudyError(f"{file}: kspace must be complex (coils, h, w), got {kspace.dtype} {kspace.shape}")
    if kspace.ndim > 2 and 4 * kspace.shape[-1] <= min(kspace.shape[-3:-1]):
        raise StudyError(
            f"{file}: kspace of shape {kspace.shape} seems to have its coils last; move them before (h, w)"
        )
    if kspace.ndim == 3 and (place is not None or "reconstruction_esc" in arrays):
        kspace = kspace[:, None]
    if kspace.ndim == 4:
        place = len(kspace) // 2 if place is None else place
        if not 0 <= place < len(kspace):
            raise StudyError(f"{file}: holds {len(kspace)} slices; place must name one from 0, got {place}")
        mask = mask[place] if mask is not None and np.ndim(mask) == 3 and len(mask) == len(kspace) else mask
        kspace = kspace[place]
    elif place is not None:
        raise StudyError(f"{file}: holds one slice; leave place out, got {place}")
    kspace = kspace[None] if kspace.ndim == 2 else kspace
    if not np.isfinite(kspace).all():
        raise StudyError(f"{file}: kspace holds values that are not finite")
    return Measured(kspace.astype(np.complex64), _plane(mask, kspace, file))


def _plane(mask: np.ndarray | None, kspace: np.ndarray, file: Path) -> np.ndarray:
    """Which samples of a plane were taken."""
    if mask is None:
        return (kspace != 0).any(axis=0)
    try:
        return np.array(np.broadcast_to(np.asarray(mask).astype(bool), kspace.shape[1:]))
    except ValueError:
        shape = np.shape(mask)
        raise StudyError(f"{file}: a mask of shape {shape} does not fit planes of shape {kspace.shape[1:]}") from None


def _hdf5(file: Path) -> dict[str, np.ndarray]:
    try:
        import h5py  # pyright: ignore[reportMissingImports]  optional, and not in the lock
    except ImportError:
        raise StudyError(
            f"{file}: reading HDF5 needs the package h5py; install it, or save the arrays as .npz"
        ) from None
    if not is_file(file):
        raise StudyError(f"{file} does not exist")
    try:
        with h5py.File(file) as stored:
            found = {key: stored[key] for key in KEYS if key in stored and _own(stored, key, file)}
            size = sum(each.size * each.dtype.itemsize for each in found.values())
            if size > ARRAY_BYTES:
                raise StudyError(f"{file}: holds {size / MB:,.0f} MB; at most {ARRAY_BYTES // MB:,} MB are read")
            return {key: np.asarray(each) for key, each in found.items()}
    except StudyError:
        raise
    except Exception as error:  # the library raises what its code stumbles over
        raise StudyError(f"{file}: not a readable HDF5 file ({error})") from error


def _own(stored: Any, key: str, file: Path) -> bool:
    """That a key is an array of this file: HDF5 may lead to other files, and to any part of them."""
    import h5py  # pyright: ignore[reportMissingImports]

    if isinstance(stored.get(key, getlink=True), h5py.ExternalLink):
        raise StudyError(f"{file}: {key} is a link to another file; save the array itself")
    found = stored[key]
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or found.dtype.hasobject:
        raise StudyError(f"{file}: {key} must be an array of numbers in this file")
    return True
