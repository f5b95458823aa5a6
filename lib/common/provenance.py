"""What a result depends on beside its spec: commit, versions, device, threads."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from typing import Any

import torch

from lib.common import paths
from lib.common.device import device_name

COMMIT = "COMMIT"  # the file that says which commit carried code is of
_PACKAGES = ("torch", "numpy", "scipy", "safetensors", "pandas", "matplotlib", "papermill")


def commit() -> str:
    """The commit of the repository, with "+changes" when the working tree differs, or "unknown" outside git.

    Code that was carried elsewhere without its history holds it in a file (see `lib.study.bundle`).
    """
    if (paths.REPOSITORY / COMMIT).is_file():
        return (paths.REPOSITORY / COMMIT).read_text().strip()
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
        }
    return found
