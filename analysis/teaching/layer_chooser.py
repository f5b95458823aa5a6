"""Trying things out by clicking, each view with a static twin for reports: which stages of a small U-Net to tune.

The twin of `layer_chooser` is `tune` with `u_diagram`: the same runs, the same picture, without a click. Training
happens only where `tune` is called or a button is pressed; a run that was trained before is returned at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis.claims.which_layers import layer_sets
from analysis.figures.style import axes, study_style, title_and_note
from analysis.tables.results import run_table
from lib.common.errors import StudyError, nearest
from lib.common.seeding import generator
from lib.networks.stages import parameters_by_stage
from lib.networks.unet import UNet
from lib.runs.run import Run
from lib.runs.spec import RunSpec
from lib.strategies.strategy import freeze
from lib.training.loop import train

DEPTH = 3
STAGES = [*(f"enc{level}" for level in range(DEPTH + 1)), *(f"dec{level}" for level in reversed(range(DEPTH))), "head"]
MOVES, FROZEN = "#009E73", "#E3E3E3"


def source_run(seed: int = 0) -> RunSpec:
    """A small network trained on simulated natural scenes: some seconds on a laptop."""
    small: dict[str, Any] = {"width": 4, "depth": DEPTH, "size": 64, "batch": 8, "checkpoints": "ends"}
    return RunSpec(task="sim_natural", steps=200, lr=0.01, evaluations=4, seed=seed, **small)


def tuned_run(task: str, stages: Sequence[str], *, steps: int = 100, volume: int = 20, seed: int = 0) -> Run:
    """The run in which these stages of `source` are tuned to a task, trained now if it was not before.

    Raises:
        StudyError: no stage, or one that the network does not have.
    """
    for stage in stages:
        if stage not in STAGES:
            raise StudyError(nearest("stage", stage, STAGES))
    chosen = [stage for stage in STAGES if stage in stages]  # the order of clicks makes no other run
    start = source_run(seed)
    arm: dict[str, Any] = {"strategy": "layer_subset", "options": {"stages": chosen}}
    if chosen == STAGES:
        arm = {"strategy": "full_finetuning", "options": {}}
    return train(start.but(task=task, source=start, steps=steps, volume=volume, **arm))


def tuning_table(runs: Iterable[Run]) -> pd.DataFrame:
    """What tuning cost and brought: one row per run with stages, parameters that moved, seconds, and test Dice."""
    results = run_table(runs)
    frame = layer_sets.layer_sets(results)
    frame["seconds"] = frame.run_id.map(results.set_index("run_id").seconds)
    names = {"label": "tuned", "trainable": "parameters that moved", "dice": "test Dice"}
    table = frame.rename(columns=names)[["tuned", "parameters that moved", "seconds", "test Dice"]]
    return table.sort_values("test Dice", ascending=False, ignore_index=True)


def stage_counts(stages: Sequence[str]) -> pd.DataFrame:
    """What `u_diagram` draws, one row per stage: stage, parameters, trainable."""
    return pd.DataFrame([{"stage": stage, **count} for stage, count in _counts(stages).items()])


def _counts(stages: Sequence[str]) -> dict[str, dict[str, int]]:
    model = UNet(width=source_run().width, depth=DEPTH)
    if stages:
        freeze(model, "layer_subset", {"stages": list(stages)}, generator(0))
    counts = parameters_by_stage(model)
    return counts if stages else {stage: {**count, "trainable": 0} for stage, count in counts.items()}


@study_style
def u_diagram(stages: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """The small U-Net as a U of boxes, those of `stages` in color, each with its number of parameters."""
    counts = _counts(stages)
    ax = axes(ax, width=7.5, height=3.6)
    for stage, count in counts.items():
        level = 0 if stage == "head" else int(stage[3:])
        column = level if stage.startswith("enc") else 2 * DEPTH - level + (stage == "head")
        color = MOVES if count["trainable"] else FROZEN
        ax.add_patch(Rectangle((column - 0.45, -level - 0.36), 0.9, 0.72, facecolor=color, edgecolor="#555555"))
        text = "white" if color == MOVES else "black"
        ax.text(column, -level, f"{stage}\n{count['parameters']:,}", ha="center", va="center", fontsize=11, color=text)
    for level in range(DEPTH):  # skip connections
        ax.plot([level + 0.45, 2 * DEPTH - level - 0.45], [-level, -level], color="#AAAAAA", linewidth=1, zorder=0)
    ax.set(xlim=(-0.7, 2 * DEPTH + 1.7), ylim=(-DEPTH - 0.6, 0.6))
    ax.set_axis_off()
    moving = sum(row["trainable"] for row in counts.values())
    total = sum(row["parameters"] for row in counts.values())
    title_and_note(ax, "What moves", f"{moving:,} of {total:,} parameters; gray lines: skip connections")
    return ax


def layer_chooser(task: str, seed: int = 0) -> Any:
    """A widget: click the stages that may move, press the button, and see what came of it beside earlier choices.

    Where training ends in an error, one line says so in the place of the table, and the button is there again.
    """
    import ipywidgets as widgets
    import matplotlib.pyplot as plt
    from IPython.display import display

    buttons = [widgets.ToggleButton(value=False, description=stage, layout={"width": "76px"}) for stage in STAGES]
    go = widgets.Button(description="Tune these", button_style="success")
    picture, result = widgets.Output(), widgets.Output()
    tried: dict[str, Run] = {}

    def chosen() -> list[str]:
        return [button.description for button in buttons if button.value]

    def draw(_: Any = None) -> None:
        go.disabled = not chosen()
        picture.clear_output(wait=True)
        with picture:
            figure = u_diagram(chosen()).get_figure(root=True)
            display(figure)
            plt.close(figure)

    def press(_: Any) -> None:
        go.disabled, go.description = True, "training ..."
        said: Any
        try:
            run = tuned_run(task, chosen(), seed=seed)
            tried[run.path.name] = run
            said = tuning_table(tried.values()).round(3)
        except Exception as error:  # whatever went wrong, the next choice may go well
            said = f"Not trained: {error}"
        finally:
            go.disabled, go.description = not chosen(), "Tune these"
        result.clear_output(wait=True)
        with result:
            display(said)

    for button in buttons:
        button.observe(draw, names="value")
    go.on_click(press)
    draw()
    return widgets.VBox([widgets.HBox(buttons), picture, go, result])
