"""Checkpoints of a network from elsewhere: those of the shipped one made now, the last one where starts are found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.torch import save

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.tasks.images import images_at, load_data, standardize
from lib.data.tasks.task import get_task
from lib.networks.checkpoint_series import Series
from lib.networks.examples.residual import fit
from lib.networks.foreign import construct, origin

SHIPPED = "lib.networks.examples.residual:ResidualNet"
FIRST_TASK = "sim_natural"
FOLDER = "your_network"  # among the weights of the study's home
IMAGES = 64  # that layers are looked at on


def shipped_checkpoints(network: str, *, steps: int, size: int, say: Callable[[str], None]) -> Path:
    """The folder of checkpoints of the shipped network, trained on simulated natural scenes; at once where it is there.

    Raises:
        StudyError: the network is another: only its owner can train it.
    """
    if network != SHIPPED:
        raise StudyError(
            f"checkpoints must name the folder that holds those of {network}; only {SHIPPED} is trained here"
        )
    own = f"{size}-{steps}-{origin(network)['sha256'][:8]}"  # another size, length or code is another series
    folder = paths.weights_dir() / FOLDER / own / "residual"
    if folder.is_dir():
        say(f"{steps} steps were trained before")
        return folder
    images, masks = images_at(FIRST_TASK, size, np.arange(len(load_data(FIRST_TASK, size).groups)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:  # so that half of a series is never taken for one
        whole = Path(beside) / folder.name
        whole.mkdir()
        fit(construct(network, {}, seed=0), standardize(images), masks, whole, steps=steps)
        whole.rename(folder)
    say(f"trained on {len(images)} images for {steps} steps")
    return folder


def last_weights(series: Series) -> str:
    """The last checkpoint by its name in the folder `weights` of the study's home; written there where it is not."""
    root, last = paths.weights_dir().resolve(), series.moments[-1]
    if last.file.resolve().is_relative_to(root):
        return last.file.resolve().relative_to(root).as_posix()
    file = root / FOLDER / f"{series.name}-{last.unit}-{last.at}.safetensors"
    paths.write_atomic(file, save({name: value.contiguous() for name, value in series.weights(last).items()}))
    return file.relative_to(root).as_posix()


def probe_file(task: str, size: int) -> str:
    """A file of images of a task as a run of that size sees them, for `analysis.probe`; its path."""
    count = len(load_data(task, size).groups)
    index = np.sort(np.random.default_rng(0).permutation(count)[:IMAGES])
    file = paths.weights_dir() / FOLDER / f"{task}-{size}.npy"
    file.parent.mkdir(parents=True, exist_ok=True)
    images = images_at(task, size, index)[0]
    np.save(file, (images if get_task(task).dim == 3 else standardize(images)).numpy())
    return str(file)
