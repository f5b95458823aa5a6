"""The simulated tasks, one entry each: a simulator with its dials set."""

from __future__ import annotations

from typing import Any

from lib.data.simulate.anatomy import LABELS
from lib.data.tasks.task import FOLDS, TASKS, Task

SUBJECTS, SLICES = 25, 8  # of a simulated reconstruction task: volumes, and slices of each


def _simulated(name: str, title: str, modality: str, simulator: str, **dials: Any) -> None:
    TASKS.add(name, Task(name, f"{title} (simulated)", "simulated", modality, FOLDS, simulator, dials, images=400))


def _scanned(region: str, contrast: str, direction: str = "axial") -> None:
    """A reconstruction task on simulated volumes; those of one region show the same subjects."""
    name = f"sim_{region}_{contrast.lower()}" + (f"_{direction}" if direction != "axial" else "")
    title = f"{region} {contrast}, {direction} (simulated)"
    TASKS.add(
        name,
        Task(
            name, title, "simulated", "MRI", simulator="anatomy", images=SUBJECTS * SLICES, goal="reconstruction",
            people=f"sim_{region}", anatomy=region, contrast=contrast, direction=direction,
        ),
    )  # fmt: skip


_simulated("sim_natural", "natural scenes", "natural images", "natural")


_simulated("sim_ultrasound_easy", "ultrasound, easy", "ultrasound", "ultrasound", contrast=-14.0)


_simulated("sim_ultrasound", "ultrasound", "ultrasound", "ultrasound", contrast=-8.0)


_simulated("sim_ultrasound_hard", "ultrasound, hard", "ultrasound", "ultrasound", contrast=-3.0)


_simulated("sim_radiograph", "chest radiographs", "chest X-ray", "radiograph")


for _contrast in ("T1", "T2", "FLAIR"):
    _scanned("brain", _contrast)


_scanned("brain", "T1", "sagittal")


_scanned("brain", "T1", "coronal")


_scanned("knee", "PD", "sagittal")


def _outlined(region: str, contrast: str) -> None:
    """Labeled volumes of simulated subjects, the same ones as in the reconstruction tasks of the region."""
    name = f"sim_{region.replace(' ', '_')}_{contrast.lower()}_3d"
    TASKS.add(
        name,
        Task(
            name, f"{region} {contrast}, volumes (simulated)", "simulated", "MRI", FOLDS, "anatomy", images=SUBJECTS,
            people=f"sim_{region.split()[-1]}", labels=tuple(LABELS[region]), dim=3, anatomy=region, contrast=contrast,
            variant=contrast == "T2",
        ),
    )  # fmt: skip


for _contrast in ("T1", "T2"):
    _outlined("brain", _contrast)
    _outlined("deep brain", _contrast)


_outlined("knee", "PD")


# Where does a set of layers pay? Sources, and targets that differ from the first source in their texture alone, in the
# shape of what is to be outlined alone, or in both. Sources show other breasts (seed 1): targets share theirs.
GRAINS = {"fine": 1.0, "medium": 1.6, "coarse": 2.5}  # of the speckle: `speckle` of the simulator


SHAPES = {"plain": (1.0, 1.0), "small": (0.7, 2.0), "tiny": (0.5, 3.0)}  # `lesion` and `irregularity`


def _variant(name: str, title: str, **dials: float) -> None:
    title = f"ultrasound, {title} (simulated)"
    dials = {"contrast": -8.0, **dials}
    TASKS.add(name, Task(name, title, "simulated", "ultrasound", FOLDS, "ultrasound", dials, images=200, variant=True))


for _grain, _speckle in GRAINS.items():
    _variant(f"sim_other_{_grain}", f"other breasts, {_grain} grain", speckle=_speckle, seed=1)
    for _shape, (_lesion, _irregularity) in SHAPES.items():
        _dials = {"speckle": _speckle, "lesion": _lesion, "irregularity": _irregularity}
        _variant(f"sim_{_grain}_{_shape}", f"{_grain} grain, {_shape} lesions", **_dials)


_variant("sim_sparse", "sparse scatterers", density=1.0)


_variant("sim_compressed", "hard log compression", dynamic_range=30.0)


BUILT_IN = dict(TASKS)  # known to every process of the study; what a user adds is known where it was added
