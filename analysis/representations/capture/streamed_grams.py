"""Gram matrices of flattened maps, made while images go through the network: no map outlives its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from analysis.representations.capture.activations import Images, budget_for, check_layers, forward, in_order, watched
from analysis.representations.capture.reduction import flattened
from analysis.representations.measures.cka import batches
from analysis.representations.measures.gram import center_gram, pack, tall_gram
from lib.common.errors import StudyError


def stream_grams(
    model: nn.Module,
    layers: Sequence[str] | None,
    images: Images,
    *,
    batch: int | None,
    chunk: int | None,
    budget_mb: float | None,
    workspace: dict[str, Tensor] | None = None,
) -> tuple[list[str], tuple[Tensor, ...]]:
    """Names of layers in the order asked for, and per batch their packed, centered Gram matrices (layers, m), float32.

    A reference close to the mean is subtracted while a map is copied, before the float32 product, and the rest of the
    mean after it, in float64: an offset costs no digits.

    Args:
        batch, chunk: see `analysis.representations.capture.represent.Probe`.
        workspace: where collected maps lie; handed on to the next network, it saves taking that memory anew.

    Raises:
        StudyError: images of different sizes, an unknown or uncalled layer, overflow, or collected maps beyond the
        budget.
    """  # fmt: skip
    if not isinstance(images, Tensor):
        if len({tuple(each.shape) for each in images}) > 1:
            raise StudyError("flattened maps need images of one size; take the reduction 'pool' or 'positions'")
        images = torch.stack(list(images))
    chosen = check_layers(model, layers)
    parts = batches(len(images), len(images) if batch is None else batch)
    largest = max(part.stop - part.start for part in parts)
    budget_mb = budget_for(model, budget_mb)
    reference: dict[str, Tensor] = {}
    collected = {} if workspace is None else workspace
    grams: list[dict[str, Tensor]] = []
    at = slice(0, 0)  # of the images going through, within their batch
    size = 0  # of their batch

    def consume(name: str, output: Tensor) -> None:
        rows = flattened(output.to(torch.promote_types(output.dtype, torch.float32)))
        if len(rows) != at.stop - at.start:
            raise StudyError(f"layer {name!r} must keep the first axis for images, got shape {tuple(output.shape)}")
        if name not in reference:
            reference[name] = rows[0] + (rows - rows[0]).mean(0)  # exactly the first row where all are equal
        if len(rows) == size:
            product = tall_gram(rows - reference[name])
        else:
            if name not in collected or not _fits(rows, largest, collected[name]):
                need = sum(4 * largest * len(each) for each in reference.values()) / 1e6
                if need > budget_mb:
                    raise StudyError(
                        f"the maps of {largest} images up to layer {name!r} take {need:.0f} MB, more than "
                        f"budget_mb={budget_mb:g}: take fewer layers, smaller batches, or chunk=None"
                    )
                collected[name] = rows.new_empty(largest, rows.shape[1])
            held = collected[name][:size]
            torch.sub(rows, reference[name], out=held[at])
            if at.stop < size:
                return
            product = tall_gram(held)
        grams[-1][name] = pack(center_gram(product.double())).float()

    with watched(model, chosen, consume):
        for part in parts:
            size = part.stop - part.start
            grams.append({})
            step = size if chunk is None else min(chunk, size)
            for first in range(0, size, step):
                at = slice(first, min(first + step, size))
                forward(model, images[part][at])
    names = in_order(chosen, grams[0])
    # Fetched together: a GPU would wait for the CPU at every layer otherwise.
    stacked = tuple(torch.stack([each[name] for name in names]).cpu() for each in grams)
    if not all(each.isfinite().all() for each in stacked):
        bad = [name for at, name in enumerate(names) if not all(each[at].isfinite().all() for each in stacked)]
        raise StudyError(f"layers {bad} give NaN, or values whose squares overflow float32; the run may have diverged")
    return names, stacked


def _fits(rows: Tensor, count: int, held: Tensor) -> bool:
    """Whether `count` rows like these go into the memory that is held."""
    return len(held) >= count and (held.shape[1], held.dtype, held.device) == (rows.shape[1], rows.dtype, rows.device)
