"""What files of tensors hold, read without running code in them: of PyTorch, old and new, and of safetensors."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import pickle
import re
import types
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.common.errors import StudyError, cut
from lib.common.outside import MB

PICKLE = 16 * MB  # of what stands beside the tensors of a file; a byte of it may become an object of 64
ANEW = 'torch.save({"state_dict": model.state_dict(), "step": step}, "new.pt")'


def tensor_content(path: Path) -> Any:
    """What a file of PyTorch, or of safetensors, holds, read without running any code in it.

    Raises:
        StudyError: it holds code or objects of other classes, is compressed, damaged, or no such file.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        whole = not zipfile.is_zipfile(path)  # files from before PyTorch 1.6
        if not whole:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                if sum(each.file_size for each in entries) > path.stat().st_size:
                    raise StudyError(f"{path} is compressed, which PyTorch never does; save it anew: {ANEW}")
                if sum(each.file_size for each in entries if each.filename.endswith(".pkl")) > PICKLE:
                    raise StudyError(
                        f"{path} holds more than {PICKLE // MB} MB beside its tensors; save the weights alone: {ANEW}"
                    )
                if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                    raise StudyError(
                        f"{path} is a traced or scripted network, which is code; save what it was made of: {ANEW}"
                    )
        with torch.serialization.safe_globals(_plain_classes()):
            # of the file only what is used comes into memory: an optimizer's state is larger than the network
            return torch.load(path, map_location="cpu", weights_only=True, mmap=not whole)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"(?:class|type) <?'?([\w.]+)", str(error))
        what = f"an object of {found[1]}" if found else "more than tensors and plain data, or is damaged"
        raise StudyError(
            f"{path} holds {what}, which may be code and is not run; where it was made, save it anew: {ANEW}"
        ) from error
    except StudyError:
        raise
    except Exception as error:
        reason = cut((str(error).strip().splitlines() or [""])[0])
        raise StudyError(
            f"{path} could not be read ({type(error).__name__}: {reason}); it is damaged, or no checkpoint"
        ) from error


def _plain_classes() -> list[Any]:
    """Classes that hold data and do nothing, for PyTorch's reader; paths become pure ones, of any system."""
    # object arrays are pickles of anything; all other kinds of numbers are numbers
    kinds = [each for name, each in vars(np.dtypes).items() if name.endswith("DType") and name != "ObjectDType"]
    scalar, array = np._core.multiarray.scalar, np._core.multiarray._reconstruct  # pyright: ignore[reportAttributeAccessIssue]
    known: list[Any] = [*kinds, np.dtype, np.ndarray, argparse.Namespace, types.SimpleNamespace]
    known += [collections.OrderedDict, collections.Counter]
    # PyTorch's reader fills plain dictionaries and lists only
    known += [(_dictionary, "collections.defaultdict"), (_list, "collections.deque")]
    known += [dict, list, set, tuple, int, float, str, bool, frozenset, complex, bytes, slice]
    known += [datetime.datetime, datetime.date, datetime.timedelta]
    known += [
        (each, f"numpy.{core}.multiarray.{each.__name__}") for core in ("core", "_core") for each in (scalar, array)
    ]
    for module in ("pathlib", "pathlib._local"):
        known += [(pathlib.PurePosixPath, f"{module}.{name}") for name in ("PosixPath", "PurePosixPath")]
        known += [(pathlib.PureWindowsPath, f"{module}.{name}") for name in ("WindowsPath", "PureWindowsPath")]
    return known


def _dictionary(*made_with: Any) -> dict[Any, Any]:
    return {}


def _list(items: Sequence[Any] = (), *most: Any) -> list[Any]:
    return list(items)
