"""Exercise t2: bets on which stages of a small U-Net are worth tuning, settled by the student's own runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.teaching.answers import numbers, one_of
from analysis.teaching.layer_chooser import DEPTH, STAGES, source_run, tuned_run, tuning_table
from analysis.teaching.session import Question, Session, against
from lib.networks.stages import parameters_by_stage
from lib.networks.unet import UNet
from lib.runs.run import Run

SETS: Mapping[str, list[str]] = {
    "all": STAGES,
    "input side": ["enc0", "enc1"],
    "output side": ["dec0", "head"],
    "top level": ["enc0", "dec0", "head"],
    "bottom": ["enc3"],
}
SOME = [name for name in SETS if name != "all"]
ALIKE = 0.02  # Dice: two sets that are this close at one seed share a place
UNDECIDED = 0.05  # Dice: one seed says nothing about a smaller difference
IMAGES = 20


@dataclass
class WhichLayers(Session):
    """The session: a task, the student's own first guess of stages, and the stages of the first question."""

    task: str = "sim_ultrasound_easy"
    guess: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    trained: dict[str, Run] = field(default_factory=dict)

    def runs(self) -> dict[str, Run]:
        """The runs of `SETS`, and of the guess where it is another set, by the student's seed; trained when needed."""
        new = self.guess and set(self.guess) not in map(set, SETS.values())
        sets = {**SETS, "your guess": self.guess} if new else dict(SETS)
        for name, stages in sets.items():
            if name not in self.trained:
                self.trained[name] = tuned_run(self.task, stages, volume=IMAGES, seed=self.seed)
        return self.trained

    def table(self) -> pd.DataFrame:
        """What each set cost and brought, with its name, the best first."""
        runs = self.runs()
        tables = [tuning_table([run]).assign(set=name) for name, run in runs.items()]
        joined = pd.concat(tables, ignore_index=True)
        columns = ["set", *(name for name in joined.columns if name != "set")]
        return joined[columns].sort_values("test Dice", ascending=False, ignore_index=True)

    def dice(self) -> dict[str, float]:
        """Test Dice by name of the set."""
        return {str(name): float(value) for name, value in self.table().set_index("set")["test Dice"].items()}


def parameters() -> dict[str, int]:
    """Parameters of the small network by stage."""
    stages = parameters_by_stage(UNet(width=source_run().width, depth=DEPTH))
    return {name: each["parameters"] for name, each in stages.items()}


def begin(student: str = "", task: str = "sim_ultrasound_easy", guess: list[str] | None = None) -> WhichLayers:
    """The exercise of a student: training, the images that it sees, and what is counted hang on the name."""
    session = WhichLayers("t2_which_layers_to_tune", student, {}, task=task, guess=list(guess or []))
    rng = np.random.default_rng([session.seed, 2])
    picked = [int(rng.integers(1, DEPTH)), int(rng.integers(1, DEPTH))]
    session.counted = [f"enc{picked[0]}", f"dec{picked[1]}"]
    made = [_share(session.counted), _lowest(session), _bottom(session), _enough(session), _replicates(session)]
    session.questions = {each.name: each for each in made}
    return session


def _share(stages: list[str]) -> Question:
    counts = parameters()
    total, ours = sum(counts.values()), sum(counts[stage] for stage in stages)
    routes = [
        (100 * ours / total, "A share lies between 0 and 1: divide by 100, or write it with a percent sign."),
        (ours, "That is the number of parameters; divide by that of all stages."),
        (1 - ours / total, "That is the share that stays frozen."),
        (ours / (total - ours), "Divide by all parameters, not by the other ones."),
        (len(stages) / len(counts), "You counted stages; count parameters, they are not spread evenly."),
        *((counts[stage] / total, "That is one of the two stages; add the other.") for stage in stages),
    ]
    judge = against(lambda: ours / total, lambda: routes, "Add up the numbers of the two boxes; divide by all boxes.")

    def rounded(value: np.ndarray) -> str:
        close = value.ndim == 0 and abs(float(value) - ours / total) <= 0.006  # two digits are enough
        return "" if close else judge(value)

    return Question("share", numbers, rounded, lambda value: f"{ours:,} of {total:,} parameters.")


def _lowest(session: WhichLayers) -> Question:
    def judge(value: str) -> str:
        dice = session.dice()
        least = min(dice[name] for name in SOME)
        if dice[value] <= least + ALIKE:
            return ""
        below = sum(dice[name] < dice[value] for name in SOME)
        return f"In your runs {value!r} came to {dice[value]:.2f} Dice, and {below} of the four sets to less."

    def told(value: str) -> str:
        return ", ".join(f"{name} {dice:.2f}" for name, dice in session.dice().items() if name in SOME) + "."

    return Question("lowest", one_of(*SOME), judge, told)


def _bottom(session: WhichLayers) -> Question:
    def truth() -> str:
        lead = session.dice()["bottom"] - session.dice()["top level"]
        return "undecided" if abs(lead) < UNDECIDED else "better" if lead > 0 else "worse"

    def judge(value: str) -> str:
        if value == truth():
            return ""
        lead = session.dice()["bottom"] - session.dice()["top level"]
        if truth() == "undecided":
            return f"The difference is {lead:+.2f}: with one seed, less than {UNDECIDED} says nothing."
        if value == "undecided":
            return f"The difference is larger than {UNDECIDED} here. Which way would it go?"
        if truth() == "better":
            return "In your runs it is the other way round: hold the two rows side by side. One seed may also be luck."
        return "The bottom holds nearly half of the parameters. Is that what the task lacks, or detail at the pixels?"

    def told(value: str) -> str:
        dice = session.dice()
        return f"Bottom {dice['bottom']:.2f}, top level {dice['top level']:.2f}, with a twentieth of the parameters."

    return Question("bottom", one_of("better", "worse", "undecided"), judge, told)


def _enough(session: WhichLayers) -> Question:
    """The set with the fewest parameters among those that come near `all`."""

    def judge(value: str) -> str:
        rows = session.table().set_index("set")
        dice, cost = rows["test Dice"].astype("float64"), rows["parameters that moved"].astype("float64")
        dice, cost = dice[list(SETS)], cost[list(SETS)]
        near = dice[dice >= dice["all"] - UNDECIDED].index
        if value == str(cost[near].idxmin()):
            return ""
        if value not in near:
            return f"{value!r} is {dice['all'] - dice[value]:.2f} below 'all'; up to {UNDECIDED} was asked for."
        if value == str(dice.idxmax()):
            return "That is the best one. Which set comes near enough with fewer parameters?"
        return f"{value!r} comes near, but one with fewer than its {cost[value]:,.0f} parameters does, too."

    return Question("enough", one_of(*SETS), judge, needs=("lowest", "bottom"))


def _replicates(session: WhichLayers) -> Question:
    def routes() -> list[tuple[float, str]]:
        images = int((next(iter(session.runs().values())).result or {})["test"]["images"])
        return [
            (images, "These are test images of one and the same network: they say nothing about another training."),
            (IMAGES, "These are training images. How many networks stand behind a row?"),
            (len(SETS), "That is the number of sets. How many networks stand behind each of them?"),
            (len(SETS) + 1, "That is the number of sets. How many networks stand behind each of them?"),
            (0, "A network was trained, so there is something. How many?"),
        ]

    judge = against(lambda: 1, routes, "How often was a network trained for one row, each time with another seed?")
    told = "So the table has no interval. Ask your neighbor, who has another seed."
    return Question("replicates", numbers, judge, lambda value: told)
