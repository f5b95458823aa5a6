"""What a network computes inside: the outputs of named layers for a fixed set of probe images, one row a sample."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from analysis.representations.capture.reduction import Reduction
from lib.common.device import memory_budget_mb
from lib.common.errors import StudyError, nearest
from lib.data.tasks.images import standardize
from lib.data.tasks.task import get_task
from lib.runs.run import Run

Images = Tensor | Sequence[Tensor]


def check_layers(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """The layers asked for (None: the children of the model, which are the stages of a U-Net), in that order.

    Raises:
        StudyError: a name is unknown, or given twice, or there is none; or the network was traced.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise StudyError("a traced or scripted network shows nothing of its inside; give the network it was made from")
    known = dict(model.named_modules())
    if isinstance(layers, str):
        raise StudyError(f"layers must be a list of names, got the text {layers!r}; write [{layers!r}]")
    chosen = [name for name, _ in model.named_children()] if layers is None else list(layers)
    for name in chosen:
        if not name or name not in known:
            raise StudyError(nearest("layer", name, [each for each in known if each]))
    if not chosen or len(set(chosen)) < len(chosen):
        raise StudyError(f"layers must be at least one name, each once, got {chosen}")
    return chosen


@contextlib.contextmanager
def watched(model: nn.Module, layers: Sequence[str], consume: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While open, every output of these layers goes to `consume` under its name, in evaluation mode, without gradients.

    A layer that is called again in one forward pass reports as `name#2`, `name#3`; outputs of several tensors as
    `name[0]`, `name[1]` or `name[key]`. The model is left as it was found, hooks and modes, also when something
    raises. `consume` must copy what it keeps: a later layer may write into the same memory, as a ReLU in place does.
    So a normalization layer's output is seen before that ReLU and a stage's output after it.
    """
    modes = {module: module.training for module in model.modules()}
    calls: Counter[str] = Counter()
    handles = []

    def hook(name: str) -> Callable[..., None]:
        def seen(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            called = name if calls[name] == 1 else f"{name}#{calls[name]}"
            for part, tensor in _tensors(name, output):
                consume(called + part, tensor)

        return seen

    def begin(module: nn.Module, inputs: Any) -> None:
        calls.clear()

    modules = dict(model.named_modules())
    try:
        handles.append(model.register_forward_pre_hook(begin))
        handles += [modules[name].register_forward_hook(hook(name)) for name in layers]
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training


def _tensors(name: str, output: Any) -> list[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        return [("", output)]
    items = (
        output.items() if isinstance(output, Mapping) else enumerate(output) if isinstance(output, tuple | list) else ()
    )
    found = [(f"[{key}]", each) for key, each in items if isinstance(each, Tensor)]
    if not found:
        raise StudyError(
            f"layer {name!r} returns no tensor but {type(output).__name__}; name a layer inside or after it"
        )
    return found


def forward(model: nn.Module, images: Tensor) -> None:
    """Give images to a network, on its device and in its floating type.

    Raises:
        StudyError: the network cannot take their shape.
    """
    first = next((each for each in model.parameters() if each.is_floating_point()), images)
    try:
        model(images.to(first.device, first.dtype if images.is_floating_point() else images.dtype))
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        if isinstance(error, StudyError) or not re.search(
            "size|shape|channels|dimension|expected|argument|forward", reason
        ):
            raise
        raise StudyError(f"the network does not take images of shape {tuple(images.shape)}: {reason}") from error


def budget_for(model: nn.Module, budget_mb: float | None) -> float:
    """The budget that was given, in MB, or that of the device which the network lies on."""
    if budget_mb is not None:
        return budget_mb
    return memory_budget_mb(next((each.device for each in model.parameters()), torch.device("cpu")))


def _numbers(images: Tensor) -> bool:
    return images.is_floating_point() or images.is_complex()  # complex: measured k-space of a reconstructor


def image_batches(images: Images, batch: int) -> Iterator[tuple[int, Tensor]]:
    """Batches (n, c, *size) in order, each with the number of its first image; a batch holds images of one size.

    Args:
        images: (n, c, *size), or a list of (c, *size) that may differ in size.

    Raises:
        StudyError: there are none, or they are no floating tensors.
    """
    if not len(images) or batch < 1:
        raise StudyError(f"at least one image and a batch of at least 1 are needed, got {len(images)} and {batch}")
    odd = next((each for each in images if not isinstance(each, Tensor) or not _numbers(each)), None)
    if odd is not None:
        kind = odd.dtype if isinstance(odd, Tensor) else type(odd).__name__
        raise StudyError(
            f"images must be floating tensors such as the network was trained on, got {kind}; convert them"
        )
    if isinstance(images, Tensor):
        for first in range(0, len(images), batch):
            yield first, images[first : first + batch]
        return
    first = 0
    while first < len(images):
        last = first
        while last < len(images) and last - first < batch and images[last].shape == images[first].shape:
            last += 1
        yield first, torch.stack(list(images[first:last]))
        first = last


def probe_digest(images: Images) -> str:
    """sha256 over shapes and values of the images, hex."""
    digest = hashlib.sha256()
    for each in images:
        digest.update(f"{each.dtype}{tuple(each.shape)}".encode() + each.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def capture(
    model: nn.Module,
    layers: Sequence[str] | None,
    images: Images,
    *,
    reduce: Reduction | str = "pool",
    batch: int = 64,
    budget_mb: float | None = None,
) -> dict[str, Tensor]:
    """Activations of any network: `{layer: (n, p)}` in float32 on the CPU, in the order asked for.

    Args:
        model: on any device; images are taken there. It sees them as they are.
        layers: see `check_layers`; what is called twice or returns several tensors gives several entries (see
        `watched`). images: (n, c, *size), or a list of (c, *size) of different sizes unless maps are flattened.
        budget_mb: the most that the result may take; None: see `lib.common.device.memory_budget_mb`.

    Raises:
        StudyError: an unknown layer, one that is never called, a result beyond the budget, flattened maps of different
            sizes.
    """
    reduction = Reduction(reduce) if isinstance(reduce, str) else reduce
    chosen = check_layers(model, layers)
    total, found, done = len(images), {}, Counter()
    budget = memory_budget_mb(torch.device("cpu")) if budget_mb is None else budget_mb
    state = {"first": 0, "count": 0}

    def consume(name: str, output: Tensor) -> None:
        if len(output) != state["count"]:
            raise StudyError(
                f"layer {name!r} must keep the first axis for images, got shape {tuple(output.shape)} for "
                f"{state['count']} images"
            )
        rows = reduction.apply(output, state["first"])
        if name not in found:
            found[name] = _reserve(name, rows, state["count"], total, found, budget)
        if rows.shape[1] != found[name].shape[1]:
            raise StudyError(
                f"{name!r} has {rows.shape[1]} features for image {state['first']}, {found[name].shape[1]} before; "
                "images differ in size; use reduce='pool' or 'positions', or images of one size"
            )
        found[name][done[name] : done[name] + len(rows)] = rows
        done[name] += len(rows)

    with watched(model, chosen, consume):
        for first, part in image_batches(images, batch):
            state["first"], state["count"] = first, len(part)
            forward(model, part)
    short = {name: rows for name, rows in done.items() if rows < len(found[name])}
    if short:
        raise StudyError(f"every layer must be called for every image, but there are fewer rows than images in {short}")
    return {name: found[name] for name in in_order(chosen, found)}


def _reserve(name: str, rows: Tensor, count: int, total: int, found: Mapping[str, Tensor], budget_mb: float) -> Tensor:
    shape = (len(rows) // count * total, rows.shape[1])
    need = (4 * shape[0] * shape[1] + sum(4 * each.numel() for each in found.values())) / 1e6
    if need > budget_mb:
        raise StudyError(
            f"the activations up to layer {name!r} take {need:.0f} MB, more than budget_mb={budget_mb:g}: use "
            "reduce='pool' or 'positions', fewer layers or images, or analysis.representations.compare, which keeps "
            "Gram matrices only"
        )
    return torch.empty(shape, dtype=torch.promote_types(rows.dtype, torch.float32))


def in_order(chosen: Sequence[str], found: Mapping[str, Any]) -> list[str]:
    """The names found, in the order in which their layers were asked for.

    Raises:
        StudyError: a layer was never called.
    """
    order = []
    for name in chosen:
        own = [each for each in found if each == name or each.startswith((f"{name}#", f"{name}["))]
        if not own:
            raise StudyError(f"layer {name!r} is never called in a forward pass: it holds others; name one inside it")
        order += own
    return order


def activations(
    run: Run,
    step: int | None,
    layers: Sequence[str] | None,
    images: Images,
    *,
    reduce: Reduction | str = "pool",
    batch: int = 64,
    device: str | torch.device = "cpu",
    budget_mb: float | None = None,
) -> dict[str, Tensor]:
    """Activations of a run at a checkpoint: `{layer: (n, p)}` in float32 on the CPU, in the order asked for.

    Args:
        step: of a checkpoint; None: the last.
        layers: names of modules, such as `enc0` (a stage, after its last ReLU) or `enc0.conv1`; None: all stages.
        images: (n, c, h, w) in [0, 1], or a list of (c, h, w), standardized as in training. Windows of volumes
            (n, c, x, y, z), and inputs of a reconstruction network (see `lib.training.goals.reconstruction`), as they
            are.
        reduce: see `Reduction`.
        budget_mb: see `capture`.

    Raises:
        StudyError: see `capture`; or there is no such checkpoint.
    """
    model = run.model(step).to(torch.device(device))
    given = standardized(images) if takes_pictures(run) else images
    return capture(model, layers, given, reduce=reduce, batch=batch, budget_mb=budget_mb)


def takes_pictures(run: Run) -> bool:
    """Whether a run's network is given pictures, which are to be standardized: no volumes, and no measurements."""
    return run.spec.goal == "segmentation" and get_task(run.spec.task).dim == 2


def standardized(images: Images) -> Images:
    """Pictures as a run's network takes them: each at mean 0 and standard deviation 1."""
    return standardize(images) if isinstance(images, Tensor) else [standardize(each[None])[0] for each in images]
