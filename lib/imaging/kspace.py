"""K-space as a scanner measured it, from .npz and HDF5 files."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError


@dataclass(frozen=True)
class Measured:
    """K-space complex64 (coils, h, w), its zero in the middle, and the samples that were taken, bool (h, w)."""

    kspace: np.ndarray
    mask: np.ndarray


def read_kspace(file: Path, *, place: int | None = None) -> Measured:
    """K-space under the key `kspace` of an .npz or HDF5 (.h5, as fastMRI stores it) file.

    Arrays are (h, w), (coils, h, w), or (slices, coils, h, w), of which `place` names the slice. Where the file has no
    key `mask` in the shape of a plane, samples that are zero in all coils count as not taken.

    Raises:
        StudyError: the file is missing, unreadable, without that key, of another shape, or not finite.
    """
    if not file.is_file():
        raise StudyError(f"{file} does not exist")
    arrays = _hdf5(file) if file.suffix in (".h5", ".hdf5") else _npz(file)
    if "kspace" not in arrays:
        raise StudyError(f"{file}: must hold the key 'kspace', got {', '.join(arrays) or 'none'}")
    kspace = np.asarray(arrays["kspace"])
    if kspace.ndim == 4:
        if place is None or not 0 <= place < len(kspace):
            raise StudyError(f"{file}: holds {len(kspace)} slices; place must name one from 0, got {place}")
        kspace = kspace[place]
    if kspace.ndim == 2:
        kspace = kspace[None]
    if kspace.ndim != 3 or not np.iscomplexobj(kspace):
        raise StudyError(f"{file}: kspace must be complex (coils, h, w), got {kspace.dtype} {kspace.shape}")
    if not np.isfinite(kspace).all():
        raise StudyError(f"{file}: kspace holds values that are not finite")
    mask = np.asarray(arrays.get("mask", ()))
    mask = mask.astype(bool) if mask.shape == kspace.shape[1:] else (kspace != 0).any(axis=0)
    return Measured(kspace.astype(np.complex64), mask)


def _npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file) as stored:
            return {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise StudyError(f"{file}: not a readable .npz file ({error})") from error


def _hdf5(file: Path) -> dict[str, np.ndarray]:
    try:
        import h5py  # pyright: ignore[reportMissingImports]  optional, and not in the lock
    except ImportError:
        raise StudyError(
            f"{file}: reading HDF5 needs the package h5py; install it, or save the arrays as .npz"
        ) from None
    try:
        with h5py.File(file) as stored:
            return {key: np.asarray(stored[key]) for key in ("kspace", "mask") if key in stored}
    except OSError as error:
        raise StudyError(f"{file}: not a readable HDF5 file ({error})") from error
