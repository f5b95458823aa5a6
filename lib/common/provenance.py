"""What a result depends on beside its spec (device, threads, versions, commit), and the seeding for repeats."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from typing import Any

import numpy as np
import torch

from lib import paths
from lib.errors import StudyError, nearest

DEVICES = ("auto", "cpu", "cuda", "mps")
_PACKAGES = ("torch", "numpy", "scipy", "safetensors", "pandas", "matplotlib", "papermill")


def generator(*key: int) -> torch.Generator:
    """A CPU random generator that is a pure function of `key`, e.g. (seed, purpose, step).

    It always lives on the CPU, so that a run draws the same numbers whatever device it trains on.
    """
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def pick_device(name: str = "auto") -> torch.device:
    """The device to train on: `auto` takes CUDA, then Apple's MPS, then the CPU; `cuda:1` names one of several.

    Raises:
        StudyError: the name is unknown, or the device was asked for and is missing.
    """
    base, _, number = name.partition(":")
    if base not in DEVICES or (number and not (base == "cuda" and number.isdecimal())):
        raise StudyError(nearest("device", name, DEVICES))
    if base == "auto":
        base = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif base == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise StudyError(
            f"device {name!r} was asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices; use --device cpu, or install a CUDA build of torch"
        )
    elif base == "mps" and not torch.backends.mps.is_available():
        raise StudyError("device 'mps' was asked for, but torch sees none; use --device cpu")
    return torch.device(f"{base}:{number}" if number else base)


def autocast_pays(device: torch.device) -> bool:
    """Whether bf16 arithmetic is faster than float32 there: CUDA with bf16, or a CPU with bf16 instructions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)


def device_name(device: torch.device) -> str:
    """The device as a person would call it, e.g. "cuda (NVIDIA H100)" or "cpu (2 cores, 1 thread)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device} ({os.cpu_count()} cores, {threads} thread{'s' if threads != 1 else ''})"


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory of this process so far in MB: resident memory, or allocated memory on a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource  # not on Windows, where runs are not supported

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if platform.system() == "Darwin" else 1e3)  # bytes there, kilobytes on Linux


def commit() -> str:
    """The commit of the repository, with "+changes" when the working tree differs, or "unknown" outside git."""
    try:
        root = ["git", "-C", str(paths.REPOSITORY)]
        name = subprocess.run([*root, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        status = [*root, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Installed versions of the packages that a result may depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def stamp(device: torch.device | None = None) -> dict[str, Any]:
    """Commit, versions, platform and, if given, the device: what a reader needs to repeat a result."""
    found: dict[str, Any] = {"commit": commit(), "versions": versions(), "platform": platform.platform()}
    if device is not None:
        found |= {
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "arithmetic": "bf16 autocast" if autocast_pays(device) else "float32",
        }
    return found
