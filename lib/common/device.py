"""Devices: which to take, what it is called, whether it is fast at bfloat16, and peak memory."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

from lib.common.errors import StudyError, nearest

DEVICES = ("auto", "cpu", "cuda", "mps")


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


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16: CUDA with bf16, or a CPU with AVX-512 bf16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)


def device_name(device: torch.device) -> str:
    """The device as a person would call it, e.g. "cuda (NVIDIA H100)" or "cpu (2 cores, 1 thread)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device} ({os.cpu_count()} cores, {threads} thread{'s' if threads != 1 else ''})"


def keep_freed_memory() -> None:
    """Let this process keep up to a gigabyte of freed memory for the next tensors, where the C library is glibc.

    A training step frees and takes the same hundred megabytes again; to hand them back in between, and to have them
    filled with zeros anew, cost a tenth of a step on the CPU it was measured on. Numbers and peak memory stay.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    for option, value in ((-3, 32 << 20), (-1, 1 << 30), (-2, 64 << 20)):  # M_MMAP_THRESHOLD, M_TRIM_..., M_TOP_PAD
        mallopt(option, value)


def memory_budget_mb(device: torch.device) -> float:
    """What one piece of work may take where nothing else is said, in MB: half of what a GPU has free, or 2048."""
    return torch.cuda.mem_get_info(device)[0] / 2e6 if device.type == "cuda" else 2048.0


def computing_device() -> torch.device:
    """Where to compute what needs float64: CUDA where there is one, else the CPU (Apple's MPS has no float64)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory of this process so far in MB: resident memory, or allocated memory on a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource  # not on Windows, where runs are not supported

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if platform.system() == "Darwin" else 1e3)  # bytes there, kilobytes on Linux
