"""Representations of many checkpoints on the same probe images, each computed once and kept on disk.

What is kept of a layer is the least that all measures of it need: its features (n, p) where they were pooled or drawn
at positions, and the Gram matrices of its images where whole maps were flattened, because a map has more features than
there are images. A checkpoint that joins a series later is compared with the old ones without running them again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from analysis.representations.capture.activations import Images, capture, probe_digest, standardized, takes_pictures
from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.streamed_grams import stream_grams
from analysis.representations.measures.gram import pack, unpack
from lib.common.errors import StudyError
from lib.common.progress import time_text
from lib.data.tasks.task import get_task
from lib.runs.run import Run
from lib.runs.tensor_files import read_kept, write_tensors

VERSION = 1  # of what the files hold; files of another version are not read


class Label(NamedTuple):
    """Where a representation comes from."""

    run: str
    step: int
    layer: str


@dataclass(frozen=True)
class Probe:
    """The images on which representations are compared, and how maps become vectors.

    Args:
        images: (n, c, h, w) in [0, 1], or a list of (c, h, w) of different sizes unless maps are flattened; windows
            of volumes (n, c, x, y, z) as networks are given them.
        reduction: see `analysis.representations.capture.reduction.Reduction`.
        batch: flattened maps only: images a Gram matrix, for `cka_minibatch`. None: one of all images, which every
            other measure of flattened maps needs.
        chunk: images that go through the network at once. A few at a time stay in the processor's caches; then a
            batch's flattened maps are collected, and take memory. None: a whole batch, without collecting.
    """

    images: Images
    reduction: Reduction = field(default_factory=Reduction)
    batch: int | None = None
    chunk: int | None = 16

    @functools.cached_property
    def standardized(self) -> Probe:
        """The probe as a run's network takes it that is given pictures."""
        return replace(self, images=standardized(self.images))

    @functools.cached_property
    def workspace(self) -> dict[str, Tensor]:
        """Where a batch's flattened maps are collected: memory that stays with the probe from network to network."""
        return {}

    @functools.cached_property
    def digest(self) -> str:
        """Identifies the images, the reduction and the batches."""
        batch = self.batch if self.reduction.kind == "flatten" else None
        return hashlib.sha256(f"{probe_digest(self.images)} {self.reduction} {batch}".encode()).hexdigest()


@dataclass(frozen=True)
class Representations:
    """Representations of the same n samples.

    Args:
        labels: of each.
        features: of each, (n, p); empty where Gram matrices were kept.
        grams: per batch, packed centered Gram matrices (representations, b (b + 1) / 2), in float64 once unpacked.
        per_image: samples an image.
        about: the reduction and the number of images, for tables.
        probe: digest of the probe, "" where it is not known; only representations of one probe can be compared.
    """

    labels: tuple[Label, ...]
    features: tuple[Tensor, ...] = ()
    grams: tuple[Tensor, ...] = ()
    per_image: int = 1
    about: str = ""
    probe: str = ""

    @property
    def samples(self) -> int:
        """How many samples each representation has."""
        if self.features:
            return len(self.features[0])
        return sum(unpack(packed[:1]).shape[-1] for packed in self.grams)

    def take(self, images: Tensor) -> Representations:
        """The same representations of some of the images, or of all of them in another order.

        Raises:
            StudyError: there are only Gram matrices of batches, which say nothing of pairs across batches.
        """
        if self.features:
            rows = (images[:, None] * self.per_image + torch.arange(self.per_image)).flatten()
            return replace(self, features=tuple(each[rows] for each in self.features))
        if len(self.grams) != 1:
            raise StudyError("images can be drawn from one Gram matrix of all, not from batches; take batch=None")
        return replace(self, grams=(pack(unpack(self.grams[0])[:, images][:, :, images]),))

    def where(self, keep: Callable[[Label], bool]) -> Representations:
        """Those whose label `keep` accepts."""
        return self.at([at for at, label in enumerate(self.labels) if keep(label)])

    def at(self, index: Sequence[int]) -> Representations:
        """Those at these places."""
        return replace(
            self,
            labels=tuple(self.labels[at] for at in index),
            features=tuple(self.features[at] for at in index) if self.features else (),
            grams=tuple(packed[list(index)] for packed in self.grams),
        )


def from_features(features: dict[str, Tensor], *, run: str = "", step: int = 0, probe: str = "") -> Representations:
    """Representations from matrices (n, p) by layer, such as `activations.capture` returns.

    Args:
        probe: a name for the samples, such as `probe_digest` gives; what has another is not compared or joined.

    Raises:
        StudyError: no matrices with samples in them, or they differ in their number of samples.
    """
    for name, each in features.items():
        if each.ndim != 2 or not each.numel():
            raise StudyError(
                f"features of {name!r} must be a matrix (samples, features), got shape {tuple(each.shape)}"
            )
    rows = {name: len(each) for name, each in features.items()}
    if len(set(rows.values())) != 1:
        raise StudyError(f"all representations must have the same samples, got {rows}")
    labels = tuple(Label(run, step, name) for name in features)
    about = f"features of {min(rows.values())} samples"
    return Representations(labels, tuple(features.values()), about=about, probe=probe)


def join(parts: Sequence[Representations]) -> Representations:
    """All of them in one, in order.

    Raises:
        StudyError: there are none, or they are not of the same probe.
    """
    if not parts or len({(each.about, each.probe, each.samples, bool(each.features)) for each in parts}) > 1:
        raise StudyError(f"representations can be joined when they share a probe, got {[each.about for each in parts]}")
    return replace(
        parts[0],
        labels=tuple(label for each in parts for label in each.labels),
        features=tuple(each for part in parts for each in part.features),
        grams=tuple(torch.cat(packed) for packed in zip(*(each.grams for each in parts), strict=True)),
    )


def represent_model(
    model: nn.Module,
    layers: Sequence[str] | None,
    probe: Probe,
    *,
    run: str = "",
    step: int = 0,
    budget_mb: float | None = None,
) -> Representations:
    """Representations of any network, which sees the probe images as they are.

    Raises:
        StudyError: see `analysis.representations.capture.activations.capture`.
    """  # fmt: skip
    about = f"{probe.reduction} of {len(probe.images)} images"
    if probe.reduction.kind != "flatten":
        found = capture(
            model, layers, probe.images, reduce=probe.reduction, batch=probe.chunk or 64, budget_mb=budget_mb
        )
        per_image = probe.reduction.per_image if probe.reduction.kind == "positions" else 1
        joined = from_features(found, run=run, step=step)
        if joined.samples != per_image * len(probe.images):
            raise StudyError("positions can be drawn from maps only; leave out layers whose output is (n, p)")
        return replace(joined, per_image=per_image, about=about, probe=probe.digest)
    names, grams = stream_grams(
        model,
        layers,
        probe.images,
        batch=probe.batch,
        chunk=probe.chunk,
        budget_mb=budget_mb,
        workspace=probe.workspace,
    )
    about += f" in {len(grams)} batches" if len(grams) > 1 else ""
    labels = tuple(Label(run, step, name) for name in names)
    return Representations(labels, grams=grams, about=about, probe=probe.digest)


def represent(
    run: Run,
    step: int | None,
    layers: Sequence[str] | None,
    probe: Probe,
    *,
    device: str | torch.device = "cpu",
    cache: bool = True,
    budget_mb: float | None = None,
) -> Representations:
    """Representations of a run at a checkpoint, computed once.

    Args:
        step: of a checkpoint; None: the last.
        layers: names of modules; None: all stages.
        cache: keep them in the run's folder, under `similarity/`, by the content of checkpoint, probe and layers.

    Raises:
        StudyError: see `activations.capture`; there is no such checkpoint; the folder cannot be written.
    """
    step = (run.steps() or [0])[-1] if step is None else step
    key = _key(run, step, layers, probe)
    file = run.path / "similarity" / f"step-{step:06d}-{key[:16]}.safetensors"

    def make() -> Representations:
        model = run.model(step).to(torch.device(device))
        flat = get_task(run.spec.task).dim == 2
        if flat and run.spec.norm in ("batch", "none"):  # as in training: others are slower with channels last
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        given = probe.standardized if takes_pictures(run) else probe
        return represent_model(model, layers, given, run=run.path.name, step=step, budget_mb=budget_mb)

    found = kept(file, key, make, run=run.path.name, step=step) if cache else make()
    return replace(found, probe=probe.digest)  # of the images as they were given


def _key(run: Run, step: int, layers: Sequence[str] | None, probe: Probe) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, probe.digest, None if layers is None else list(layers)]).encode())
    for each in sorted({0, step} & set(run.steps())):
        digest.update(run.checkpoint(each).read_bytes())
    return digest.hexdigest()


def kept(file: Path, key: str, make: Callable[[], Representations], *, run: str, step: int) -> Representations:
    """Representations that a file keeps under a key, told as of `run` and `step`; made and kept where it has none."""
    stored = read_kept(file, key)
    if stored is None:
        found = make()
        _write(file, key, found)
        return found
    tensors, metadata = stored
    about = json.loads(metadata["about"])
    lists = {kind: [tensors[f"{kind}{at}"] for at in range(sum(name.startswith(kind) for name in tensors))]
             for kind in ("features", "grams")}  # fmt: skip
    labels = tuple(Label(run, step, layer) for layer in about["layers"])
    return Representations(
        labels, tuple(lists["features"]), tuple(lists["grams"]), per_image=about["per_image"], about=about["about"]
    )


def _write(file: Path, key: str, found: Representations) -> None:
    tensors = {f"features{at}": each for at, each in enumerate(found.features)}
    tensors |= {f"grams{at}": each for at, each in enumerate(found.grams)}
    about = {"layers": [label.layer for label in found.labels], "per_image": found.per_image, "about": found.about}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, tensors, {"key": key, "about": json.dumps(about)})


def represent_all(
    checkpoints: Iterable[tuple[Run, int | None]],
    layers: Sequence[str] | None,
    probe: Probe,
    *,
    device: str | torch.device = "cpu",
    cache: bool = True,
    budget_mb: float | None = None,
    report: Callable[[str], None] | None = None,
) -> Representations:
    """Representations of a series of checkpoints, of one run or of many: one pass of the probe images through each.

    Args:
        report: gets a line after every checkpoint, with the time left.
    """
    wanted, began, parts = list(checkpoints), time.monotonic(), []
    for run, step in wanted:
        parts.append(represent(run, step, layers, probe, device=device, cache=cache, budget_mb=budget_mb))
        if report:
            done, passed = len(parts), time.monotonic() - began
            left = time_text(passed / done * (len(wanted) - done))
            report(f"[{done}/{len(wanted)} checkpoints] {run.path.name} step {parts[-1].labels[0].step} ({left} left)")
    return join(parts)
