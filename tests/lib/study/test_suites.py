"""Suites: what one file makes of a study, its mistakes in words, and the order in which runs are named and trained."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from lib.common.errors import StudyError
from lib.data.tasks.images import load_task
from lib.data.tasks.splits import split
from lib.data.tasks.task import TASKS
from lib.runs.listing import list_runs
from lib.runs.run import open_run, run_dir
from lib.runs.spec import RunSpec, run_id
from lib.study import engines, plan
from lib.study.plan import (
    draw_ahead,
    finished_runs,
    load_suite,
    missing_runs,
    phases,
    runs_at_all_rates,
    suite_files,
    suites_dir,
    train_suite,
)
from lib.study.suite import Suite

SUITE = """
title = "Disks"
seeds = [0, 1]

[run]
width = 2
depth = 1
size = 16
steps = 4
batch = 4
evaluations = 2
checkpoints = "ends"

[tuning]
rates = [0.01, 0.001]

[sources.first]
task = "blobs"
steps = 2
lr = 0.01

[[grid]]
tasks = ["blobs"]
volumes = [6, "all"]
strategies = ["scratch"]

[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "first"
strategies = ["full_finetuning", { name = "scale_shift", options = { granularity = "layer" } }]
run = { steps = 3, evaluations = 1 }
"""


pytestmark = pytest.mark.usefixtures("blobs_as_data")


def suite_of(folder: Path, *changes: tuple[str, str]) -> Suite:
    """The suite with parts of its text replaced."""
    text = SUITE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    file = folder / "disks.toml"
    file.write_text(text)
    return load_suite(str(file))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return suite_of(tmp_path)


# ---- reading ------------------------------------------------------------------------------------------------------


def test_a_suite_says_what_it_trains(suite: Suite):
    assert (suite.name, suite.title, suite.seeds) == ("disks", "Disks", (0, 1))
    assert suite.rates == (0.001, 0.01)  # ascending, so that of equals the lower is taken
    assert [(cell.strategy, cell.volume, cell.source) for cell in suite.cells] == [
        ("scratch", 6, None),
        ("scratch", None, None),
        ("full_finetuning", 6, "first"),
        ("scale_shift", 6, "first"),
    ]
    spec = suite.spec(suite.cells[3], 1, 0.01)
    assert (spec.seed, spec.fold, spec.lr, spec.steps, spec.width) == (1, 1, 0.01, 3, 2)
    assert spec.options["granularity"] == "layer"
    assert spec.source == suite.source("first", 1)
    assert (suite.source("first", 1).steps, suite.source("first", 1).seed) == (2, 1)


def test_folds_follow_seeds_and_wrap_around(tmp_path: Path):
    suite = suite_of(tmp_path, ("seeds = [0, 1]", "seeds = [0, 4, 5]"))
    assert [suite.spec(suite.cells[0], seed, 0.01).fold for seed in suite.seeds] == [0, 4, 0]


BLOCK = """
[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "first"
"""


def test_a_block_may_have_seeds_of_its_own(tmp_path: Path):
    block = BLOCK + 'strategies = ["encoder_only"]\nseeds = [2, 0, 4]\n'
    suite = suite_of(tmp_path, ("\n[[grid]]", block + "\n[[grid]]"))
    assert [cell.seeds for cell in suite.cells[:2]] == [(2, 0, 4), (0, 1)]
    own = [suite.at_all_rates(suite.cells[0], seed) for seed in suite.cells[0].seeds]
    assert [[(spec.seed, spec.fold, spec.lr) for spec in specs] for specs in own] == [
        [(seed, seed, rate) for rate in (0.001, 0.01)] for seed in (2, 0, 4)
    ]
    assert [spec.source.seed for specs in own for spec in specs if spec.source] == [2, 2, 0, 0, 4, 4]
    assert {spec.seed for spec in suite.source_specs()} == {0, 1, 2, 4}  # the block's, and those of the others


def test_the_seeds_of_a_block_may_start_from_one_source_run(tmp_path: Path):
    block = BLOCK + 'strategies = ["scratch", "encoder_only"]\nseeds = [0, 1, 2]\nsource_seed = 0\n'
    suite = suite_of(tmp_path, ('volumes = [6, "all"]', 'volumes = ["all"]'), ("\n[[grid]]", block + "\n[[grid]]"))
    shared = suite.cells[1]
    specs = [suite.spec(shared, seed, 0.01) for seed in shared.seeds]
    assert [spec.source for spec in specs] == [suite.source("first", 0)] * 3
    assert [spec.seed for spec in specs] == [0, 1, 2]
    assert suite.cells[0].source_seed is None  # scratch starts from none
    assert {spec.seed for spec in suite.source_specs()} == {0, 1}  # 1 for the block that varies its source


def test_a_run_that_two_cells_share_is_trained_and_counted_once(tmp_path: Path):
    """Seed 0 from source run 0 stands in the cell with that source and in the one whose source goes with the seed."""
    block = BLOCK + 'strategies = ["full_finetuning"]\nsource_seed = 0\nrun = { steps = 3, evaluations = 1 }\n'
    suite = suite_of(tmp_path, ("\n[[grid]]", block + "\n[[grid]]"))
    shared, varied = (cell for cell in suite.cells if cell.strategy == "full_finetuning")
    assert suite.at_all_rates(shared, 0) == suite.at_all_rates(varied, 0)
    planted(suite, {0.001: 0.5, 0.01: 0.6})
    ids = [run.path.name for run in runs_at_all_rates(suite)]
    assert len(set(ids)) == len(ids) == 2 * (2 * 5 - 1)
    ids = [run.path.name for run in finished_runs(suite)]
    assert len(set(ids)) == len(ids) == 2 * 5 - 1


@pytest.mark.parametrize("name", sorted(file.stem for file in suites_dir().glob("*.toml")))
def test_the_suites_of_the_study_load(name: str):
    suite = load_suite(name)
    assert suite.cells
    assert missing_runs(suite)
    assert {cell.source for cell in suite.cells if cell.source} <= suite.sources.keys()


def test_an_unknown_suite_is_told_the_nearest():
    with pytest.raises(StudyError, match="unknown suite 'smoek'; did you mean 'smoke'"):
        load_suite("smoek")
    with pytest.raises(StudyError, match=r"there is no file nowhere/mine\.toml in "):
        load_suite("nowhere/mine.toml")


MISTAKES = [
    ("title =", "titel =", "unknown key of a suite 'titel'; did you mean 'title'"),
    ("seeds = [0, 1]\n", "", "the key 'seeds' is missing"),
    ("seeds = [0, 1]", "seeds = []", r"seeds must be a list of different whole numbers, at least one, got \[\]"),
    ("seeds = [0, 1]", "seeds = [0, 0]", r"different whole numbers, at least one, got \[0, 0\]"),
    ("seeds = [0, 1]", "seeds = 3", "seeds must be a list of different whole numbers, at least one, got 3"),
    ("seeds = [0, 1]", 'seeds = [0, "1"]', "seeds must be a list of different whole numbers"),
    ("seeds = [0, 1]", "seeds = [0, -1]", "seed must be a whole number of at least 0, got -1"),
    ("[0.01, 0.001]", "[0.01]\nseed = 3", r"every seed chooses its own .*: delete seed = 3 under \[tuning\]"),
    ("rates = [0.01, 0.001]", "rates = []", "tuning needs a list of different rates"),
    ("rates = [0.01, 0.001]", "rates = 0.01", "tuning needs a list of different rates"),
    ("rates = [0.01, 0.001]", "rates = [0.01, 0.01]", "tuning needs a list of different rates"),
    ("rates = [0.01, 0.001]", "rates = [0.01, 0.0]", "lr must be a"),
    ("rates = [0.01, 0.001]", "rates = [1, 1.0]", "tuning needs a list of different rates"),
    ('tasks = ["blobs"]', 'tasks = [["blobs"]]', r"task must be a name, got \['blobs'\]"),
    ('task = "blobs"', 'task = ["blobs"]', r"task must be a name, got \['blobs'\]"),
    ('["scratch"]', '[{name = ["scratch"]}]', r"strategy must be a name, got \['scratch'\]"),
    ('source = "first"', 'source = ["first"]', r"unknown source .* \['first'\]"),
    ("width = 2", "width = 100000000000", "width must be at most 4096, got 100000000000"),
    ("title =", "notebooks = 3\ntitle =", r"expected a table \(notebook = value\), got 3"),
    ("title =", "notebooks = {a = 3}\ntitle =", r"expected a table \(parameter of a = value\), got 3"),
    ("rates =", "raets =", "unknown key of tuning 'raets'; did you mean 'rates'"),
    ("[tuning]\nrates = [0.01, 0.001]", "[other]", "unknown key of a suite 'other'"),
    ("steps = 4", "stpes = 4", "unknown field of a run 'stpes'; did you mean 'steps'"),
    ("steps = 4", "steps = 0", "steps must be a whole number of at least 1, got 0"),
    ("steps = 4", "lr = 4", "unknown field of a run 'lr'"),
    ("steps = 4", "seed = 4", "unknown field of a run 'seed'"),
    ("steps = 3", "stpes = 3", "unknown field of a run 'stpes'; did you mean 'steps'"),
    ("steps = 3", "fold = 3", "unknown field of a run 'fold'"),
    ("steps = 2", "stpes = 2", "unknown field of a source 'stpes'; did you mean 'steps'"),
    ("steps = 2", "seed = 2", "unknown field of a source 'seed'"),
    ('task = "blobs"\n', "", "every source needs a task"),
    ('task = "blobs"', 'task = "blosb"', "unknown task 'blosb'; did you mean 'blobs'.*data root"),
    ("[sources.first]", "[sources]", r"expected a table \(field of a source = value\), got 'blobs'"),
    ("[[grid]]", "[grid.a]", "Cannot overwrite a value"),
    ("tasks =", "taks =", "unknown key of a grid block 'taks'; did you mean 'tasks'"),
    ('tasks = ["blobs"]\n', "", "every grid block needs a list of tasks, at least one, got None"),
    ('tasks = ["blobs"]', "tasks = []", r"at least one, got \[\]"),
    ('tasks = ["blobs"]', 'tasks = "blobs"', "every grid block needs a list of tasks, at least one, got 'blobs'"),
    ('tasks = ["blobs"]', 'tasks = ["blbos"]', "unknown task 'blbos'; did you mean 'blobs'"),
    ("volumes = [6,", "volumes = [0,", "volume must be a whole number of at least 1, got 0"),
    ("volumes = [6,", "volumes = [6, 6,", "the grid holds a cell twice"),
    ('["scratch"]', '["scrach"]', "unknown strategy 'scrach'; did you mean 'scratch'"),
    ('source = "first"', 'source = "frist"', r"unknown source .* 'frist'; did you mean 'first'"),
    ('source = "first"\n', "", "full_finetuning needs a source: .* there are: first"),
    ("{ name =", "{ nam =", "unknown key of a strategy 'nam'; did you mean 'name'"),
    ('{ name = "scale_shift", options', "{ options", "a strategy in the grid needs a name"),
    ("granularity", "granularty", "unknown option of scale_shift 'granularty'; did you mean 'granularity'"),
    ("title = ", "title ", "Expected '=' after a key"),
    ('source = "first"', 'source = "first"\nseeds = 3', "seeds of a grid block must be different whole.*; got 3"),
    ('source = "first"', 'source = "first"\nseeds = []', r"seeds of a grid block .*, at least one; got \[\]"),
    ('source = "first"', 'source = "first"\nrates = [0.1]', r"rates of a grid block must be 2 .*; got \[0\.1\]"),
    ('source = "first"', 'source = "first"\nsource_seed = "0"', "source_seed must be a whole number"),
    ('source = "first"', 'source = "first"\nsource_seed = -1', "seed must be a whole number of at least 0, got -1"),
    ('tasks = ["blobs"]', 'tasks = ["blobs"]\nsource_seed = 0', "in a grid block that has a source"),
    ('source = "first"\n', 'source = "first"\nsource_sed = 0\n', "unknown key of a grid block 'source_sed'"),
    ("[run]", "run = 3\n[ran]", r"expected a table \(field of a run = value\), got 3|unknown key"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[message[:40] for _, _, message in MISTAKES])
def test_a_mistake_in_a_suite_is_named(old: str, new: str, message: str, tmp_path: Path):
    with pytest.raises(StudyError, match=rf"(?s)^disks\.toml: .*({message})"):
        suite_of(tmp_path, (old, new))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    file = tmp_path / "photo.toml"
    file.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(StudyError, match=r"photo\.toml: .*can't decode"):
        load_suite(str(file))


# ---- choosing -----------------------------------------------------------------------------------------------------


def planted(suite: Suite, dices: dict[float, float | None], cells: slice = slice(None)) -> None:
    """Finished runs of all seeds with these validation Dice values by rate, for some cells."""
    for cell in suite.cells[cells]:
        for seed in cell.seeds:
            for rate, dice in dices.items():
                tiny.plant(suite.spec(cell, seed, rate), dice=dice)


@pytest.mark.parametrize(
    ("dices", "best"),
    [
        ({0.001: 0.6, 0.01: 0.7}, 0.01),
        ({0.001: 0.7, 0.01: 0.6}, 0.001),
        ({0.001: 0.7, 0.01: 0.7}, 0.001),
        ({0.001: 0.0, 0.01: None}, 0.001),
        ({0.001: None, 0.01: 0.0}, 0.01),
        ({0.001: None, 0.01: None}, 0.001),
        ({0.001: 0.9}, None),
    ],
)
def test_the_rate_is_the_best_on_validation(dices: dict[float, float | None], best: float | None, suite: Suite):
    cell = suite.cells[0]
    assert suite.chosen(cell, 0) is None
    planted(suite, dices, slice(1))
    for seed in (0, 1):
        assert suite.chosen(cell, seed) == (None if best is None else suite.spec(cell, seed, best))


def test_every_seed_chooses_its_own_rate(tmp_path: Path):
    """Three seeds that want different rates; one whose runs are not all there does not count, and is missing."""
    suite = suite_of(tmp_path, ("seeds = [0, 1]", "seeds = [0, 1, 2]"))
    cell = suite.cells[0]
    for seed, dices in enumerate([(0.7, 0.6), (0.6, 0.7), (0.99,)]):
        for rate, dice in zip(suite.rates, dices, strict=False):
            tiny.plant(suite.spec(cell, seed, rate), dice=dice)
    assert [(run.spec.seed, run.spec.lr) for run in finished_runs(suite)] == [(0, 0.001), (1, 0.01)]
    tried = [(run.spec.seed, run.spec.lr) for run in runs_at_all_rates(suite)]
    assert tried == [(0, 0.001), (0, 0.01), (1, 0.001), (1, 0.01), (2, 0.001)]
    of_cell = [
        spec for spec in missing_runs(suite) if spec.strategy == "scratch" and spec.volume == 6 and spec.steps == 4
    ]
    assert of_cell == [suite.spec(cell, 2, 0.01)]
    tiny.plant(of_cell[0], dice=0.1)
    assert [(run.spec.seed, run.spec.lr) for run in finished_runs(suite)] == [(0, 0.001), (1, 0.01), (2, 0.001)]
    assert finished_runs(suite, goal="reconstruction") == runs_at_all_rates(suite, goal="reconstruction") == []


def test_no_image_of_a_seeds_test_takes_part_in_its_choice(tmp_path: Path):
    """What decides between the rates of a seed is its own validation fold, the same for all of them."""
    suite = suite_of(tmp_path, ("seeds = [0, 1]", "seeds = [0, 1, 2, 3, 4, 5, 6]"))
    data = load_task("blobs", 16)
    for cell in suite.cells:
        for seed in cell.seeds:
            parts = [
                split(spec.task, data.groups, fold=spec.fold, volume=spec.volume, seed=spec.seed, folds=data.folds)
                for each in suite.at_all_rates(cell, seed)
                for spec in ([each] if each.source is None else [each, each.source])
            ]
            looked_at = {image for part in parts for image in (*part.train, *part.val)}
            assert looked_at
            assert not looked_at & set(parts[0].test)
            assert all(set(part.test) == set(parts[0].test) and set(part.val) == set(parts[0].val) for part in parts)


def test_with_one_rate_nothing_is_chosen(tmp_path: Path):
    suite = suite_of(tmp_path, ("rates = [0.01, 0.001]", "rates = [0.01]"))
    assert [len(phase) for phase in phases(suite)] == [2, 8]
    planted(suite, {0.01: 0.5})
    assert names([run.spec for run in finished_runs(suite)]) == names([run.spec for run in runs_at_all_rates(suite)])
    assert len(finished_runs(suite)) == 8


def names(specs: list[Any]) -> set[str]:
    return {run_id(spec) for spec in specs}


def test_what_is_missing_and_finished_at_every_phase(suite: Suite):
    sources = suite.source_specs()
    assert [(spec.seed, spec.steps) for spec in sources] == [(0, 2), (1, 2)]
    others = [spec for cell in suite.cells for seed in (0, 1) for spec in suite.at_all_rates(cell, seed)]
    assert len(names(others)) == 16
    assert phases(suite) == [sources, others]
    assert missing_runs(suite) == [*sources, *others]
    assert finished_runs(suite) == runs_at_all_rates(suite) == []

    for spec in sources:
        tiny.plant(spec, dice=0.5)
    assert phases(suite) == [[], others]
    assert finished_runs(suite) == []

    planted(suite, {0.001: 0.5, 0.01: 0.6}, slice(1))
    assert missing_runs(suite) == others[4:]
    assert [run.spec for run in finished_runs(suite)] == [suite.spec(suite.cells[0], seed, 0.01) for seed in (0, 1)]
    assert len(runs_at_all_rates(suite)) == 4

    planted(suite, {0.001: 0.5, 0.01: 0.6})
    assert missing_runs(suite) == []
    assert [run.spec for run in finished_runs(suite)] == [suite.spec(c, s, 0.01) for c in suite.cells for s in (0, 1)]
    assert [run.spec for run in runs_at_all_rates(suite)] == others


def test_a_source_that_no_cell_uses_is_not_trained(tmp_path: Path):
    suite = suite_of(tmp_path, ("[sources.first]", '[sources.idle]\ntask = "blobs"\n[sources.first]'))
    assert {spec.steps for spec in suite.source_specs()} == {2}


def test_a_half_finished_run_is_missing(suite: Suite):
    open_run(suite.source("first", 0))
    assert run_id(suite.source("first", 0)) in names(missing_runs(suite))


# ---- training -----------------------------------------------------------------------------------------------------


def test_a_suite_is_trained_whole_and_once(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    lines: list[str] = []
    assert train_suite(suite, engine="here", show=lines.append) == []
    assert missing_runs(suite) == []
    assert len(finished_runs(suite)) == 8
    assert len(list_runs()) == 2 + 16  # sources; four cells, two seeds, two rates
    counts = [line.split("]")[0] for line in lines if " done (" in line]
    assert counts == [f"[{count}/18 runs" for count in range(1, 19)]
    assert all("so far, " in line and " left" in line for line in lines)
    assert not any("-" in line.split("(")[1] for line in lines)
    order = [line.split("] ")[1].split()[0] for line in lines if " done (" in line]
    assert set(order[:2]) == names(suite.source_specs())

    def never(*_: object, **__: object) -> None:
        pytest.fail("something was trained")

    monkeypatch.setattr(engines, "train_stack", never)
    lines.clear()
    assert train_suite(suite, engine="here", show=lines.append) == []
    assert lines == []


def test_a_run_that_fails_costs_no_other(suite: Suite):
    source = suite.source("first", 1)
    folder = run_dir(source)
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    lines: list[str] = []
    failures = train_suite(suite, engine="here", show=lines.append)
    assert len(failures) == 5  # the source, and the runs of two cells at two rates that start from it
    assert all("thesis.txt" in failure for failure in failures)
    assert [line for line in lines if line.startswith("failed: ")] == [f"failed: {each}" for each in failures]
    assert missing_runs(suite) == [source, *(spec for cell in suite.cells[2:] for spec in suite.at_all_rates(cell, 1))]
    assert len(finished_runs(suite)) == 6
    shutil.rmtree(folder)
    assert train_suite(suite, engine="here", show=lines.append) == []
    assert missing_runs(suite) == []


def test_diverged_runs_are_results_and_not_failures(tmp_path: Path):
    suite = suite_of(tmp_path, ("rates = [0.01, 0.001]", "rates = [1e30]"), ("volumes = [6, ", "volumes = ["))
    assert train_suite(suite, engine="here", show=lambda line: None) == []
    assert missing_runs(suite) == []
    assert {run.result["status"] for run in finished_runs(suite) if run.result} == {"diverged"}


def test_what_was_trained_elsewhere_is_taken_over(suite: Suite):
    lines: list[str] = []
    for source in suite.source_specs():
        tiny.plant(source, dice=0.5)
    planted(suite, {0.001: 0.5, 0.01: 0.6}, slice(1, None))
    assert train_suite(suite, engine="here", show=lines.append) == []
    assert len([line for line in lines if " done (" in line]) == 4  # the cell that was not there, from scratch
    assert missing_runs(suite) == []


def test_an_unknown_engine_is_told_the_nearest(suite: Suite):
    with pytest.raises(StudyError, match="unknown engine 'hree'; did you mean 'here'"):
        train_suite(suite, engine="hree")


def test_on_a_gpu_runs_of_one_computation_are_trained_in_stacks(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    """The GPU is a pretended one: a processor that says it is one while runs are dealt out."""

    class OnProcessor(engines.InProcess):
        def __init__(self, *, device: str, report: Any) -> None:
            super().__init__(device="cpu", report=report)

    monkeypatch.setitem(engines.ENGINES, "here", OnProcessor)
    monkeypatch.setattr(plan, "pick_device", lambda name: torch.device("cuda"))
    assert train_suite(suite, engine="here", device="cuda", show=lambda line: None) == []
    assert missing_runs(suite) == []
    sizes = {
        run.path.name: json.loads((run.path / "provenance.json").read_text()).get("stack", 1) for run in list_runs()
    }
    scratch = [size for name, size in sizes.items() if "scratch" in name and "steps" not in name]
    assert sorted(sizes.values())[-1] > 1
    assert len(scratch) >= 6


def test_on_a_processor_no_run_is_in_a_stack(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "stacks", None)
    assert train_suite(suite, engine="here", device="cpu", show=lambda line: None) == []


def test_simulated_images_are_drawn_ahead_each_once(study_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the study that are not there; what a user registered is known in this process alone, and left to it."""
    mine = dataclasses.replace(TASKS["sim_natural"], name="mine", images=3)
    monkeypatch.setitem(TASKS, "mine", mine)
    names = ["sim_compressed", "sim_radiograph", "mine"]
    specs = [RunSpec(name, size=32, depth=2, seed=seed) for name in names for seed in range(2)]
    said: list[str] = []
    draw_ahead(specs, 2, said.append)
    drawn = sorted(file.name for file in (study_home / "data" / "simulated").iterdir())
    assert [name.rsplit("-", 1)[0] for name in drawn] == ["sim_compressed-32", "sim_radiograph-32"]
    draw_ahead(specs, 2, said.append)
    assert said == ["drawing 2 simulated sets of images"]
    monkeypatch.setattr("lib.data.tasks.images._draw", None)  # must not be called: they are read
    assert len(load_task("sim_compressed", 32).ids) == 200


def test_a_suite_is_another_one_with_all_seeds_shifted(tmp_path: Path) -> None:
    base, moved = load_suite("class"), load_suite("class_seeds10")
    assert moved.seeds == tuple(seed + 10 for seed in base.seeds)
    for old, new in zip(base.cells, moved.cells, strict=True):
        assert new.seeds == tuple(seed + 10 for seed in old.seeds)
        assert new.source_seed == (None if old.source_seed is None else old.source_seed + 10)
        assert dataclasses.replace(new, seeds=old.seeds, source_seed=old.source_seed) == old
    assert not {run_id(spec) for spec in missing_runs(base)} & {run_id(spec) for spec in missing_runs(moved)}
    file = tmp_path / "mine.toml"
    for text, message in [
        ("shift_seeds = 0", "mine.toml: shift_seeds must be a whole number from 1, got 0"),
        ("shift_seeds = true", "shift_seeds must be a whole number from 1, got True"),
        (
            "shift_seeds = 1\nseeds = [true]",
            r"seeds must be a list of different whole numbers, at least one, got \[True",
        ),
        ("shift_seeds = 1\ngrid = [3]", "mine.toml: "),
    ]:
        file.write_text(f'extends = "class"\n{text}\n')
        with pytest.raises(StudyError, match=message):
            load_suite(str(file))


def test_a_suite_extends_one_of_the_study(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('extends = "class"\ntitle = "Mine"\nseeds = [0, 7]\n[run]\nsteps = 20\n')
    base = load_suite("class")
    bare = [dataclasses.replace(cell, seeds=()) for cell in base.cells]
    mine = load_suite(str(file))
    assert [dataclasses.replace(cell, seeds=()) for cell in mine.cells] == bare
    assert (mine.name, mine.title, mine.seeds, mine.rates) == ("mine", "Mine", (0, 7), base.rates)
    assert mine.run == {**base.run, "steps": 20}
    for text, message in [
        ('extends = "clas"\n', "mine.toml: unknown suite to extend 'clas'; did you mean 'class'"),
        ("extends = 3\n", "mine.toml: unknown suite to extend 3"),
        ('extends = "full_256"\n', "mine.toml: full_256 extends full itself; extend that one"),
        ('extends = "class"\n[runs]\nsteps = 20\n', "unknown key of a suite 'runs'"),
        ('extends = "class"\nrun = 3\n', r"mine.toml: expected a table \(field of a run = value\), got 3"),
    ]:
        file.write_text(text)
        with pytest.raises(StudyError, match=message):
            load_suite(str(file))


def test_a_suite_extends_one_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own study with other seeds: its base is found beside it from any folder, and has to lie there."""
    class_suite = suites_dir() / "class.toml"
    base, again = tmp_path / "ours.toml", tmp_path / "ours_again.toml"
    base.write_text(class_suite.read_text().replace("width = 8", "width = 4"))
    again.write_text('extends = "ours.toml"\nshift_seeds = 10\n[run]\nsteps = 20\n')
    first, second = load_suite(str(base)), load_suite(str(again))
    assert first.run["width"] == second.run["width"] == 4
    assert second.run == {**first.run, "steps": 20}
    assert second.seeds == tuple(seed + 10 for seed in first.seeds)
    assert suite_files(again) == [again, base]
    monkeypatch.chdir(tmp_path)
    assert load_suite("ours_again.toml").cells == second.cells
    (tmp_path / "three.toml").write_text("run = 3\n")
    for text, message in [
        ('extends = "our.toml"', "ours_again.toml: there is no file 'our.toml' beside it to extend"),
        (f'extends = "../{tmp_path.name}/ours.toml"', "name it without a folder"),
        (f'extends = "{base}"', "name it without a folder"),
        ('extends = "ours_again.toml"', "ours_again.toml extends ours_again.toml itself"),
        ('extends = "three.toml"', r"expected a table \(field of a run = value\), got 3"),
        ('extends = "ours"', "unknown suite to extend 'ours'"),
    ]:
        again.write_text(text + "\n")
        with pytest.raises(StudyError, match=message):
            load_suite("ours_again.toml")
