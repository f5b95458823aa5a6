"""Which stage each part of a network belongs to: as proposed, as chosen, and where the two differ."""

from __future__ import annotations

import pandas as pd

from lib.common.errors import StudyError
from lib.data.tasks.task import get_task
from lib.networks.stage_map import StageMap, load_map
from lib.networks.stage_proposal import propose
from lib.networks.stages import parameters_by_stage


def proposed_and_chosen(network: str, stages: str, task: str, size: int) -> tuple[StageMap, StageMap]:
    """The stage map that one forward pass proposes, and the one to go on with.

    Args:
        network: `package.module:function`.
        stages: a corrected map, by its name or path; "" takes the proposal.
        task: whose images the network is to take.

    Raises:
        StudyError: the corrected map is of another network, or see `propose` and `load_map`.
    """
    about = get_task(task)
    proposal = propose(network, {}, inputs=about.inputs, outputs=about.outputs, dim=about.dim, size=size)
    chosen = load_map(stages)[1] if stages else proposal
    if chosen.network != network:
        raise StudyError(
            f"stages must be a map of {network}, got {stages!r} of {chosen.network}; give '' for the proposal"
        )
    return proposal, chosen


def stage_table(proposal: StageMap, chosen: StageMap, task: str) -> pd.DataFrame:
    """A row per part of the network, in the order of the chosen map.

    Columns: part (a module), parameters, stage, level, encoder, proposed (its stage in the proposal), corrected.
    """
    about = get_task(task)
    model = chosen.build(about.inputs, about.outputs, about.dim, seed=0)
    before = proposal.build(about.inputs, about.outputs, about.dim, seed=0)
    parts = sorted(
        {part for each in (chosen, proposal) for stage in each.stages for part in stage.modules}, key=len, reverse=True
    )
    sizes: dict[str, int] = {}
    for name, value in model.named_parameters():
        part = next(part for part in parts if name == part or name.startswith(f"{part}."))
        sizes[part] = sizes.get(part, 0) + value.numel()
    about_stage = {stage.name: stage for stage in chosen.stages}
    rows = []
    for part, count in sizes.items():
        stage, proposed = about_stage[model.stage_of(part)], before.stage_of(part)
        corrected = "yes" if stage.name != proposed else ""
        rows.append((part, count, stage.name, stage.level, stage.encoder, proposed, corrected))
    order = list(parameters_by_stage(model))
    table = pd.DataFrame(rows, columns=["part", "parameters", "stage", "level", "encoder", "proposed", "corrected"])
    return table.sort_values("stage", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
