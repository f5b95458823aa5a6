"""Every question of every exercise: wrong answers get the hint for their route, right ones pass in any form.

And the notebooks: unanswered they run to the end and give nothing away; solutions solve everything, whoever asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from analysis.representations.measures.cka import cka
from analysis.teaching import (
    argue_with_the_ledger,
    cka_by_hand,
    do_filters_look_random,
    layer_chooser,
    ledger_copy,
    which_layers_to_tune,
)
from analysis.teaching.session import Session
from lib.common.errors import StudyError
from lib.runs.run import Run
from lib.runs.spec import RunSpec

FOLDER = Path(__file__).parents[3] / "notebooks" / "teaching"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
DICE = {"enc0+enc1": 0.82, "dec0+head": 0.55, "enc0+dec0+head": 0.80, "enc3": 0.70, "": 0.84, "enc1": 0.75}
COST = {"enc0+enc1": 800, "dec0+head": 300, "enc0+dec0+head": 500, "enc3": 9000, "": 20000, "enc1": 600}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is trained: runs of sets of stages have planted outcomes, and the network of t3 has drawn weights."""
    made: dict[str, Run] = {}

    def plant(spec: RunSpec) -> Run:
        stages = "+".join(spec.options.get("stages", []))
        if stages not in made:
            run = fakes.fake_run(tmp_path / "planted" / str(len(made)), spec, dice=DICE[stages])
            result = json.loads((run.path / "result.json").read_text())
            (run.path / "result.json").write_text(json.dumps({**result, "trainable": COST[stages]}))
            fakes.reseal(run.path)
            made[stages] = Run(run.path)
        return made[stages]

    rng = torch.Generator().manual_seed(0)
    weights = {f"{layer}.weight": torch.randn(6, 4, 3, 3, generator=rng) for layer in do_filters_look_random.LAYERS}
    weights["enc1.conv1.weight"] = 1 + 0.1 * weights["enc1.conv1.weight"]
    network = SimpleNamespace(weights=lambda: weights, path=Path("planted"))
    monkeypatch.setattr(layer_chooser, "train", plant)
    monkeypatch.setattr(do_filters_look_random, "train", lambda spec: network)
    monkeypatch.setattr(cka_by_hand, "IMAGES", 12)
    monkeypatch.setattr(argue_with_the_ledger, "LedgerCopy", shared_ledger)


LEDGERS: dict[Any, ledger_copy.LedgerCopy] = {}


def shared_ledger(frame: pd.DataFrame, evaluations: pd.DataFrame, about: str) -> ledger_copy.LedgerCopy:
    """One ledger for the same results in all tests: it keeps the rows that it has once decided."""
    return LEDGERS.setdefault((about, *frame.dice), ledger_copy.LedgerCopy(frame, evaluations, about))


def said(session: Session, capsys: pytest.CaptureFixture[str], name: str, answer: Any) -> str:
    capsys.readouterr()
    session.check(name, answer)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert line.startswith(f"{name}: ")
    return line.removeprefix(f"{name}: ")


def wrong(session: Session, capsys: pytest.CaptureFixture[str], name: str, *pairs: tuple[Any, str]) -> None:
    for answer, hint in pairs:
        line = said(session, capsys, name, answer)
        assert line.startswith("Not yet. "), (name, answer, line)
        assert hint in line, (name, answer, line)


def right(session: Session, capsys: pytest.CaptureFixture[str], name: str, *answers: Any) -> None:
    for answer in answers:
        assert said(session, capsys, name, answer).startswith("Right."), (name, answer)


@pytest.mark.parametrize("student", ["Ada", "Bob", "Cy"])
def test_cka_by_hand(student: str, capsys: pytest.CaptureFixture[str]) -> None:
    t1 = cka_by_hand.begin(student)
    X, Y, n = t1.X, t1.Y, len(t1.X)
    A, B = X - X.mean(0), Y - Y.mean(0)
    K, L = A @ A.T, B @ B.T
    wrong(
        t1, capsys, "X_centered", (X - X.mean(1, keepdims=True), "mean of every row"),
        (X - X.mean(), "one mean over all"),
        (X, "still have their means"), (A / X.std(0), "divided by the standard deviation"), (A.T, "on their side"),
        (X.mean(0), "Those are the means"), (X + 1, "Take off every column"), ("A", "Numbers are asked for"),
    )  # fmt: skip
    right(t1, capsys, "X_centered", A, A.tolist(), torch.tensor(A, requires_grad=True))
    wrong(
        t1,
        capsys,
        "size",
        ((3, 3), "number of features"),
        ((n, 3), "size of X"),
        (n, "Two numbers"),
        (n * n, "entries"),
    )
    right(t1, capsys, "size", (n, n), [n, n], f"{n} x {n}", np.array([n, n]), K.shape)
    for name, own, centered, other in (("K", X, A, B), ("L", Y, B, A)):
        wrong(
            t1, capsys, name, (centered.T @ centered, "compares features"), (own.T @ own, "compares features"),
            (own @ own.T, "has the mean in it"), (centered @ centered.T / (n - 1), "n - 1 as for a covariance"),
            (other @ other.T, "matrix of the other layer"), (np.corrcoef(own), "correlations"), (1, "One row and one"),
        )  # fmt: skip
        right(t1, capsys, name, centered @ centered.T, torch.tensor(centered @ centered.T))
    wrong(
        t1, capsys, "overlap", ((K @ L).sum(), "entry by entry is *"), ((K * L).mean(), "took the mean"),
        (K * L, "add everything up"), ((K + L).sum(), "added"), (((X @ X.T) * (Y @ Y.T)).sum(), "center first"),
        (-1, "Entry by entry"),
    )  # fmt: skip
    overlap = (K * L).sum()
    right(t1, capsys, "overlap", overlap, np.trace(K @ L), [overlap], f"{overlap:.6g}")
    norms = (K * K).sum() * (L * L).sum()
    wrong(
        t1, capsys, "by_hand", (overlap, "still the overlap"), (overlap / norms, "root is missing"), (0.5e-3, "np.sqrt")
    )
    wrong(t1, capsys, "by_hand", (cka(X, Y) ** 2, "the square of it"))
    right(t1, capsys, "by_hand", cka(X, Y), np.array([cka(X, Y)]), f"{cka(X, Y):.5f}")
    for name, changed in t1.changed.items():
        truth, other = ("same", "lower") if cka(X, changed) > 0.9999 else ("lower", "same")
        wrong(
            t1, capsys, name, (other, "K" if truth == "same" else "which images"), ("higher", "one of 'same', 'lower'")
        )
        right(t1, capsys, name, truth, f" {truth.upper()} ", f"it is {truth}")
    for name, (images, channels) in t1.sizes.items():
        truth = round(2 * channels / (channels + images)) / 2
        wrong(
            t1, capsys, name, (0.5 if truth == 1 else 1, "channels" if truth != 0.5 else "diagonals"), (7, "one of '0'")
        )
        right(t1, capsys, name, truth, f"{truth:g}", f"near {truth:g}", [truth], torch.tensor(truth))
    wrong(t1, capsys, "debiased", (1, "chance alone"), ("half", "one of '0'"))
    right(t1, capsys, "debiased", 0, "0", "near 0", 0.0)
    wrong(t1, capsys, "untrained", ("near 0", "bright and dark"), ("0", "one of"))
    right(t1, capsys, "untrained", "far above 0", "Far above", "FAR ABOVE 0.")
    assert all(state.solved for state in t1.states.values())
    assert set(t1.states) == set(t1.questions)


def test_which_layers_to_tune(capsys: pytest.CaptureFixture[str]) -> None:
    t2 = which_layers_to_tune.begin("Ada", guess=["enc1"])
    counts = which_layers_to_tune.parameters()
    ours, total = sum(counts[stage] for stage in t2.counted), sum(counts.values())
    share = ours / total
    wrong(
        t2, capsys, "share", (100 * share, "divide by 100"), (ours, "number of parameters"),
        (1 - share, "stays frozen"), (2 / 8, "counted stages"), (counts[t2.counted[0]] / total, "one of the two"),
        (-1, "Add up"), ("many", "Numbers are asked for"),
    )  # fmt: skip
    right(t2, capsys, "share", share, round(share, 2), f"{100 * share:.1f} %", [share], torch.tensor(share))
    wrong(t2, capsys, "lowest", ("bottom", "'bottom' came to 0.70"), ("top level", "2 of the four"), ("side", "one of"))
    right(t2, capsys, "lowest", "output side", "Output", " OUTPUT  side")
    wrong(t2, capsys, "bottom", ("better", "nearly half"), ("undecided", "Which way"), ("equal", "one of"))
    right(t2, capsys, "bottom", "worse", "Worse.", "it is worse")
    wrong(
        t2, capsys, "enough", ("all", "That is the best one"), ("output side", "is 0.29 below"),
        ("input side", "one with fewer"), ("none", "one of"),
    )  # fmt: skip
    right(t2, capsys, "enough", "top level", "Top level", "top")
    wrong(
        t2, capsys, "replicates", (80, "test images"), (20, "training images"), (5, "number of sets"), (3, "How often")
    )
    right(t2, capsys, "replicates", 1, "1", "one", [1], torch.tensor(1))
    assert "your guess" in set(t2.table()["set"])
    assert set(t2.states) == set(t2.questions)


def test_one_seed_leaves_near_sets_undecided(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DICE, "enc3", 0.78)
    monkeypatch.setitem(DICE, "enc0+enc1", 0.56)
    t2 = which_layers_to_tune.begin("Ada", guess=["head", "dec0"])
    right(t2, capsys, "lowest", "output side", "input side")
    wrong(t2, capsys, "bottom", ("worse", "The difference is -0.02"))
    right(t2, capsys, "bottom", "undecided")
    assert len(t2.runs()) == 5, "a guess that is one of the sets is not trained again"


def test_do_filters_look_random(capsys: pytest.CaptureFixture[str]) -> None:
    t3 = do_filters_look_random.begin("Ada")
    key = "".join(pair.answer for pair in t3.pairs)
    wrong(t3, capsys, "guesses", ("ABX", "6 letters are asked for"), (key[:5], "6 letters"))
    assert said(t3, capsys, "guesses", ", ".join(key.lower())).startswith("Noted. 6 of 6 fit")
    assert "your first answer" in said(t3, capsys, "guesses", "AAAAAA")
    one = 7 / 64
    truth = 1 - (1 - one) ** t3.pupils
    wrong(
        t3, capsys, "best_of", (one, "one coin"), (t3.pupils * one, "sum of chances"), (100 * truth, "divide by 100"),
        ((1 - one) ** t3.pupils, "nobody"), (1 - (1 - 6 / 64) ** t3.pupils, "six counts"), (0, "One coin gets there"),
        (1 - (63 / 64) ** t3.pupils, "six of six"),
    )  # fmt: skip
    right(t3, capsys, "best_of", truth, round(truth, 2), f"{100 * truth:.0f}%", [truth])
    tests = do_filters_look_random.TESTS.values()
    title = next(test.title for test in tests if test.looks_at == t3.looked_at)
    other = next(test for test in tests if test.title != title)
    wrong(t3, capsys, "sees", (other.title, other.looks_at), ("t test", "one of"))
    right(t3, capsys, "sees", title, title.lower(), f" {title.upper()}.")
    tested = t3.tested()
    tested.loc[tested.p.idxmax(), "p"] = 0.04  # small by luck, and no longer after the correction
    sure = int((tested.p_holm < 0.05).sum())
    assert 0 < sure < (tested.p < 0.05).sum()
    wrong(
        t3, capsys, "rejected", ((tested.p < 0.05).sum(), "Count p_holm"), (len(tested), "all"), (-2, "Rows of tested")
    )
    right(t3, capsys, "rejected", sure, str(sure), np.int64(sure), [sure])
    wrong(t3, capsys, "both_right", ("no", "one kernel"), ("perhaps", "one of 'yes', 'no'"))
    right(t3, capsys, "both_right", "yes", "Yes.", True)
    wrong(
        t3, capsys, "idle", ("trained as a whole", "what freezing costs"),
        ("frozen source encoder", "trained elsewhere"), ("without skip connections", "takes the encoder away"),
        ("decoder", "one of"),
    )  # fmt: skip
    right(t3, capsys, "idle", "image alone", "Image alone", "the image alone")
    wrong(t3, capsys, "worth", ("image alone", "has no encoder"), ("trained as a whole", "what freezing costs"))
    right(t3, capsys, "worth", "without skip connections", "Without skip")
    wrong(t3, capsys, "sentence", ("random", "at least 12 words"))
    right(t3, capsys, "sentence", "They look like noise and yet they are far from it when added up.")
    assert set(t3.states) == set(t3.questions)


@pytest.mark.parametrize("student", ["Ada", "Bob"])
def test_argue_with_the_ledger(student: str, capsys: pytest.CaptureFixture[str]) -> None:
    t4 = argue_with_the_ledger.begin(student)
    rows, words = t4.ledger.rows(), argue_with_the_ledger.WORDS
    assert "planted" in t4.ledger.about
    verdict = next(row["verdict"] for row in rows if ledger_copy.row_name(row) == t4.row)
    for word in words:
        if word != verdict:
            wrong(t4, capsys, "reading", (word, "interval"))
    wrong(t4, capsys, "reading", ("true", "one of"))
    right(t4, capsys, "reading", verdict, verdict.upper(), f" {verdict}.")
    strict = sum(row["adjusted"] <= 0.01 for row in rows)
    by_p, at_five = (sum(row[key] <= line for row in rows) for key, line in (("p", 0.01), ("adjusted", 0.05)))
    wrong(t4, capsys, "strict", (at_five, "at 5 %" if at_five != by_p else "p"), (-1, "adjusted p is at most"))
    right(t4, capsys, "strict", strict, str(strict), [strict], torch.tensor(strict))
    fragile = sum(row["fragile"] for row in rows)
    unsure = sum(row["replication"] < 0.8 for row in rows)
    wrong(t4, capsys, "fragile", (unsure, "Only a decided row"), (-1, "Decided rows for which"))
    right(t4, capsys, "fragile", fragile, str(fragile), float(fragile))
    moved = int(t4.ledger.what_if(t4.drawn_change()).moved.sum())
    assert moved > 0
    wrong(t4, capsys, "moved", (len(rows), "every row"), (-1, "the new line"), ("some", "Numbers are asked for"))
    right(t4, capsys, "moved", moved, str(moved), [moved])
    wrong(t4, capsys, "others", ("no", "over the whole ledger"), ("maybe", "one of"))
    right(t4, capsys, "others", "yes", True, "Yes")
    task, aim = t4.aim
    today = next(row for row in rows if (row["id"], row["task"]) == ("K6", task))
    wrong(
        t4,
        capsys,
        "margin",
        (0.03, f"With 0.03 it is {today['verdict']}"),
        (-0.1, "above 0"),
        ((0.1, 0.2), "One number"),
    )
    fitting = [
        margin
        for margin in argue_with_the_ledger.MARGINS
        for row in t4.ledger.rows({"K6": {"margin": margin}})
        if (row["id"], row["task"], row["verdict"]) == ("K6", task, aim)
    ]
    right(t4, capsys, "margin", fitting[0], str(fitting[0]), [fitting[0]])
    wrong(t4, capsys, "still_five_percent", ("yes", "for the threshold that gave"), (5, "one of"))
    right(t4, capsys, "still_five_percent", "no", False, "No.")
    wrong(t4, capsys, "defended", (0.03, "at least 12 words"))
    right(t4, capsys, "defended", "Three points, since two people who outline a lesion differ by as much.")
    assert set(t4.states) == set(t4.questions)


def test_who_looks_at_the_effect_is_told_of_the_interval(capsys: pytest.CaptureFixture[str]) -> None:
    t4 = argue_with_the_ledger.begin("Ada")
    row = next(row for row in t4.ledger.rows() if row["verdict"] == "inconclusive")
    t4.row = ledger_copy.row_name(row)
    over = (row["effect"] > row["line"]) == (row["side"] == "above")
    wrong(t4, capsys, "reading", ("supported" if over else "contradicted", "You looked at the effect alone"))
    k6 = next(row for row in t4.ledger.rows() if row["id"] == "K6" and row["task"] == "planted_hard")
    t4.aim = ("planted_hard", "supported")
    wrong(t4, capsys, "margin", (-k6["effect"], "Your line runs through the effect"))


def test_where_no_line_moves_a_verdict_a_planted_table_is_argued_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that say nothing: every student would get the same answers, and no change would change any."""
    rng = np.random.default_rng(0)
    frame = fakes.grid(
        ["sim_radiograph"], [20, None], 3, lambda task, strategy, volume, seed: float(rng.normal(0.5, 0.2)),
        ("scratch", "full_finetuning", "frozen_random_encoder"),
    )  # fmt: skip
    curves = fakes.evaluations(frame, lambda run: fakes.climb(run.dice, 100))
    monkeypatch.setattr(argue_with_the_ledger, "finished_runs", lambda suite: [None] * len(frame))
    monkeypatch.setattr(argue_with_the_ledger, "run_and_evaluation_tables", lambda runs: (frame, curves))
    t4 = argue_with_the_ledger.begin("Ada")
    assert t4.ledger.about.startswith("a planted table, as no line that is moved")
    assert len({row["verdict"] for row in t4.ledger.rows()}) > 1
    assert t4.ledger.what_if(t4.drawn_change()).moved.any()


def test_the_runs_of_the_suite_are_argued_over_where_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    strategies = ("scratch", "full_finetuning", "frozen_random_encoder")

    def dice(task: str, strategy: str, volume: int | None, seed: int) -> float:
        return 0.8 - 0.02 * (strategy == "frozen_random_encoder") + float(rng.normal(0, 0.002))

    frame = fakes.grid(["sim_radiograph", "sim_ultrasound_hard"], [20, None], 4, dice, strategies)
    curves = fakes.evaluations(frame, lambda run: fakes.climb(run.dice, 100 + 20 * run.seed))
    monkeypatch.setattr(argue_with_the_ledger, "finished_runs", lambda suite: [None] * len(frame))
    monkeypatch.setattr(argue_with_the_ledger, "run_and_evaluation_tables", lambda runs: (frame, curves))
    t4 = argue_with_the_ledger.begin("Ada")
    assert t4.ledger.about == f"{len(frame)} finished runs of the suite class"
    assert t4.aim[0] in ("sim_radiograph", "sim_ultrasound_hard")
    k6 = {row["task"]: row["verdict"] for row in t4.ledger.rows() if row["id"] == "K6"}
    assert set(k6.values()) == {"supported"}, "a loss of 0.02 is less than the margin of 0.03"
    assert t4.aim[1] != "supported"
    wrong(t4, capsys, "margin", (0.03, "With 0.03 it is supported"))
    right(t4, capsys, "margin", 0.005 if t4.aim[1] == "contradicted" else 0.02)


def test_a_copy_of_the_ledger_moves_and_the_original_stays() -> None:
    ledger = argue_with_the_ledger.begin("Ada").ledger
    before = ledger.table()
    strictest, laxest = (ledger.what_if({"K6": {"margin": margin}}) for margin in (0.0001, 0.5))
    assert set(laxest[laxest.id == "K6"]["verdict now"]) == {"supported"}
    assert "supported" not in set(strictest[(strictest.id == "K6") & (strictest.task != "planted_easy")]["verdict now"])
    assert not ledger.what_if({}).moved.any()
    assert ledger.threshold("K6", "margin") == 0.03
    assert ledger.table().equals(before)
    for changed, message in (
        ({"K66": {"margin": 0.1}}, "unknown claim of this ledger 'K66'"),
        ({"K6": {"margins": 0.1}}, "unknown threshold of K6 'margins'"),
        ({"K6": {"margin": "small"}}, "threshold margin of K6 must be a number, got 'small'"),
    ):
        with pytest.raises(StudyError, match=message):
            ledger.what_if(changed)  # type: ignore[arg-type]


def test_students_get_other_data_and_the_same_student_the_same() -> None:
    ada, again, bob = (cka_by_hand.begin(name) for name in ("Ada", " ada", "Bob"))
    assert np.array_equal(ada.X, again.X)
    assert not np.array_equal(ada.X[:5], bob.X[:5])
    answers = set()
    for number in range(12):
        t1 = cka_by_hand.begin(f"student {number}")
        answers.add(tuple(cka(t1.X, changed) > 0.999 for changed in t1.changed.values()))
    assert len(answers) >= 3, "who copies from a neighbor is often wrong"
    keys = {tuple(pair.answer for pair in do_filters_look_random.begin(f"student {at}").pairs) for at in range(6)}
    assert len(keys) >= 4


def run(path: Path, student: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, Session]:
    """What a notebook prints, run here for a student, and its session."""
    names: dict[str, Any] = {"display": lambda thing: None}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                names["student"] = student
    plt.close("all")
    return capsys.readouterr().out, next(value for value in names.values() if isinstance(value, Session))


@pytest.mark.parametrize("name", NAMES)
def test_unanswered_notebooks_run_and_give_nothing_away(
    name: str, capsys: pytest.CaptureFixture[str], study_home: Path
):
    printed, session = run(FOLDER / f"{name}.ipynb", "Ada", capsys)
    for question in session.questions:
        assert f"{question}: Not yet. No answer so far" in printed
    assert "Right." not in printed
    assert f"0 of {len(session.questions)} solved." in printed
    if name.startswith("t2"):
        assert not session.trained, "the table is not made before there is an answer"  # type: ignore[attr-defined]
    assert len(list((study_home / "handed_in").glob(f"{name}-ada-*.json"))) == 1


@pytest.mark.parametrize("student", ["", "Ada", "Bob"])
@pytest.mark.parametrize("name", NAMES)
def test_solutions_solve_everything(name: str, student: str, capsys: pytest.CaptureFixture[str]):
    printed, session = run(FOLDER / "solutions" / f"{name}.ipynb", student, capsys)
    assert "Not yet" not in printed, printed
    assert f"{len(session.questions)} of {len(session.questions)} solved." in printed


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_is_the_exercise_with_answers(name: str):
    asked, solved = (
        nbformat.read(folder / f"{name}.ipynb", as_version=4).cells for folder in (FOLDER, FOLDER / "solutions")
    )
    assert len(asked) == len(solved)
    differ = 0
    for one, other in zip(asked, solved, strict=True):
        if one.cell_type == "code" and "..." in one.source:
            assert "..." not in other.source
            differ += 1
        elif one.cell_type == "code":
            assert one.source == other.source
    assert differ >= 3


def test_no_answer_stands_in_an_exercise():
    """A question's cell holds dots; the truth is nowhere in the notebook but in `analysis.teaching`."""
    seen = 0
    for name in NAMES:
        for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells:
            if ".answer(" in cell.source:
                body = [line for line in cell.source.splitlines() if line.startswith("    ")]
                assert body
                assert all(line.split("#")[0].rstrip().endswith("= ...") for line in body), cell.source
                seen += len(body)
    assert seen == 13 + 5 + 8 + 8


CASES: dict[str, Callable[[str], Session]] = {
    "t1": cka_by_hand.begin, "t2": which_layers_to_tune.begin, "t3": do_filters_look_random.begin,
    "t4": argue_with_the_ledger.begin,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_answer_however_odd_stops_a_notebook(case: str, capsys: pytest.CaptureFixture[str]):
    session = CASES[case]("Ada")
    odd = [
        None,
        ...,
        "",
        [],
        {},
        object(),
        np.nan,
        np.zeros((2, 3, 4)),
        torch.zeros(0),
        ["a", 1],
        1j,
        b"x",
        10**400,
        print,
    ]
    for name in session.questions:
        for answer in odd:
            line = said(session, capsys, name, answer)
            assert "Not yet." in line
