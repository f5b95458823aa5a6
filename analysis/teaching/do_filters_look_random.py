"""Exercise t3: guess which filters were trained, let tests look, and say what a frozen random encoder shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats as sps

from analysis.claims.filter_change.tables import runs_of_arms
from analysis.filters.randomness.battery import TESTS, battery
from analysis.tables.results import run_table, with_own_source
from analysis.tables.suite_grid import largest_cell
from analysis.teaching.answers import letters, numbers, one_of, sentence
from analysis.teaching.layer_chooser import source_run
from analysis.teaching.session import Question, Session, against
from analysis.teaching.trained_or_random import PanelPair, panel_pairs, score
from lib.runs.run import Run
from lib.study.plan import finished_runs, load_suite
from lib.training.loop import train

LAYERS = ["enc0.conv1", "enc1.conv1", "enc2.conv1", "enc2.conv2", "dec1.conv1", "dec0.conv2"]
ALPHA = 0.05
ROWS = ("trained as a whole", "image alone", "frozen source encoder", "without skip connections")


@dataclass
class DoFiltersLookRandom(Session):
    """The session: pairs of panels of one trained network, the network's run, and the results of its suite.

    results: one row per run, empty where the suite has none; task and volume: the cell with the most arms in it.
    pupils: how many guess in the first question about luck. looked_at: what the test in question looks at.
    """

    network: Run | None = None
    results: pd.DataFrame = field(default_factory=pd.DataFrame)
    task: str = ""
    volume: str = ""
    pairs: Sequence[PanelPair] = ()
    pupils: int = 20
    looked_at: str = ""
    _tested: pd.DataFrame | None = None

    def tested(self) -> pd.DataFrame:
        """Every test on every layer that was shown; fresh draws by this student's seed."""
        if self._tested is None:
            assert self.network is not None
            own = self.network.weights()
            chosen = {f"{layer}.weight": own[f"{layer}.weight"] for layer in LAYERS}
            self._tested = battery(chosen, seed=self.seed, draws=1999)
        return self._tested


def begin(student: str = "", suite: str = "class") -> DoFiltersLookRandom:
    """The exercise of a student: network, order of panels, fresh filters and numbers hang on the name.

    Where the suite has no finished run from scratch, a small network is trained on natural scenes, in some seconds.
    """
    session = DoFiltersLookRandom("t3_do_these_filters_look_random", student, {})
    rng = np.random.default_rng([session.seed, 3])
    runs = finished_runs(load_suite(suite))
    session.results = with_own_source(run_table(runs))
    session.task, session.volume = largest_cell(session.results)
    trained = runs_of_arms(runs, session.task, session.volume, ["scratch"])
    session.network = trained[session.seed % len(trained)] if trained else train(source_run())
    session.pairs = panel_pairs(session.network.weights(), LAYERS, seed=session.seed)
    session.pupils = int(rng.integers(12, 31))
    test = list(TESTS.values())[int(rng.integers(len(TESTS)))]
    session.looked_at = test.looks_at
    made = [_guesses(session), _best_of(session.pupils), _sees(test.title), _rejected(session), _both_right()]
    made += [*_rows(), Question("sentence", sentence(12), lambda value: "", lambda value: "Your teacher will read it.")]
    session.questions = {each.name: each for each in made}
    return session


def _guesses(session: DoFiltersLookRandom) -> Question:
    def told(value: str) -> str:
        table, coin = score(session.pairs, value)
        return f"{int(table.right.sum())} of {len(table)} fit; a coin does as well or better {coin:.0%} of the time."

    return Question("guesses", letters(len(LAYERS)), lambda value: "", told, first_counts=True)


def _best_of(pupils: int) -> Question:
    """The chance that the best of so many coins gets at least five of six."""
    one, exactly, all_six = float(sps.binom.sf(4, 6, 0.5)), float(sps.binom.pmf(5, 6, 0.5)), 0.5**6
    truth = 1 - (1 - one) ** pupils
    routes = [
        (100 * truth, "A chance lies between 0 and 1: divide by 100, or write it with a percent sign."),
        (one, f"That is the chance of one coin; here {pupils} toss, and the best is looked at."),
        (pupils * one, "A sum of chances can pass 1: take 1 minus the chance that nobody gets there."),
        (one**pupils, "That is the chance that all of them get there; one is enough."),
        ((1 - one) ** pupils, "That is the chance that nobody gets there."),
        (exactly, "At least five: six counts, too. And it is the best of many."),
        (1 - (1 - exactly) ** pupils, "At least five: six counts, too."),
        (1 - (1 - all_six) ** pupils, "That is for six of six; five are enough."),
    ]
    judge = against(lambda: truth, lambda: routes, "One coin gets there in 7 of 64 cases. And the best of many?")

    def rounded(value: np.ndarray) -> str:
        return "" if value.ndim == 0 and abs(float(value) - truth) <= 0.006 else judge(value)

    told = "The more people guess, the better the best one looks. Tests are no different, hence Holm's correction."
    return Question("best_of", numbers, rounded, lambda value: told)


def _sees(title: str) -> Question:
    def judge(value: str) -> str:
        asked = next(each for each in TESTS.values() if each.title == value)
        return "" if value == title else f"{value} looks at {asked.looks_at}."

    return Question("sees", one_of(*(each.title for each in TESTS.values())), judge)


def _rejected(session: DoFiltersLookRandom) -> Question:
    def truth() -> int:
        return int((session.tested().p_holm < ALPHA).sum())

    def routes() -> list[tuple[int, str]]:
        table = session.tested()
        low = table.p_holm < ALPHA
        return [
            (int((table.p < ALPHA).sum()), "You counted p; among so many tests some are small by luck. Count p_holm."),
            (int((table.p_holm >= ALPHA).sum()), "Those are the ones that are not certain."),
            (int(table.p_holm.notna().sum()), "Those are all that have a p."),
            (len(table), "Those are all rows."),
            (int(table.layer[low].nunique()), "Those are layers; count pairs of layer and test, the rows."),
            (int(table.test[low].nunique()), "Those are tests; count pairs of layer and test, the rows."),
        ]

    hint = f"Rows of tested whose p_holm is below {ALPHA}."
    return Question(
        "rejected", numbers, against(truth, routes, hint), lambda value: f"Of {len(session.tested())} rows."
    )


def _both_right() -> Question:
    hint = (
        "Is what one kernel shows to an eye the same statement as what hundreds of them show to somebody who adds up?"
    )
    told = "One is about what a single kernel shows, the other about what a whole layer does."
    return Question("both_right", one_of("yes", "no"), against(lambda: "yes", lambda: [], hint), lambda value: told)


def _rows() -> list[Question]:
    """Which control says what about a frozen random encoder."""
    whole = "That says what freezing costs in all; skip connections still hand the image to the decoder."
    source = "Its encoder was trained elsewhere: that says what a source is worth when it may not change."
    idle = {
        "trained as a whole": whole,
        "frozen source encoder": source,
        "without skip connections": "There the decoder has nothing but the encoder. Which row takes the encoder away?",
    }
    worth = {
        "trained as a whole": whole,
        "frozen source encoder": source,
        "image alone": "That one has no encoder. Where has the decoder nothing but the encoder?",
    }
    read = one_of(*ROWS)
    told = "If it does as well, the random encoder did nothing, and its Dice says nothing about encoders."
    pair = "Its two rows differ in the encoder alone, and the decoder cannot look past it."
    return [
        Question("idle", read, lambda value: idle.get(value, ""), lambda value: told),
        Question("worth", read, lambda value: worth.get(value, ""), lambda value: pair),
    ]
