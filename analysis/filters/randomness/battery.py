"""Could these filters be a fresh draw? A battery of tests of a layer's filters, with one correction over all of them.

The null hypothesis is a fresh draw with the scale removed: independent weights of one distribution around 0. By default
it is normal, the law that `unet.build` draws from; networks from elsewhere were drawn from others (`randomness.laws`).
It is what "still look random" (Karimi et al., claim K5) can mean and be wrong. Each
test looks at another way to be wrong, and none shows that filters *are* random: read a p-value that is not small
beside the power in `randomness.calibration`. With half a million weights a layer can be told from a fresh one by a
deviation too small to matter: read a small p-value beside the statistic and its expectation.

Biases and normalization have no law to be tested against and are left out. Pointwise (1x1) layers have no spatial
extent: the tests of kernels say so in `note` instead of giving a p-value.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor, nn

from analysis.filters.kernels import FilterLayer, Geometry, geometry, read_layers
from analysis.filters.randomness import layer_tests
from analysis.filters.randomness.classifier_test import classifier
from analysis.filters.randomness.laws import ANY, LAWS, OWN, check_law, undone
from analysis.filters.randomness.layer_tests import NotApplicable, Nulls, Outcome
from analysis.statistics.tests import holm
from lib.common.errors import StudyError
from lib.common.registry import Registry

LEAST_DRAWS = 4999
DRAWS_PER_ROW = 25  # with 20 the smallest p would be 0.05 after Holm's correction


@dataclass(frozen=True)
class RandomnessTest:
    """A row of the registry.

    Args:
        title: a few words for figures and tables.
        looks_at: what it looks at, for a reader who has not met it.
        run: `(layer, rng, nulls) -> Outcome`; raises NotApplicable for layers that it cannot speak of.
        of_values: whether it asks for the distribution of the weights' values, whatever their arrangement.
        exact: whether its p-value is no simulation's and can be as small as it likes.
    """

    title: str
    looks_at: str
    run: Callable[[FilterLayer, np.random.Generator, Nulls], Outcome]
    of_values: bool = False
    exact: bool = False


TESTS: Registry[RandomnessTest] = Registry("randomness test")
for _name, _title, _looks_at, _run in [
    ("classifier", "Classifier (AUC)", "whether a trained eye could tell filters from fresh ones", classifier),
    (
        "autocorrelation",
        "Spatial autocorrelation",
        "whether neighboring weights are alike",
        layer_tests.autocorrelation,
    ),
    ("smoothness", "Slow frequencies", "whether kernels are smooth, or blurring as a whole", layer_tests.smoothness),
    ("orientation", "Gabor energy", "whether kernels look like oriented edges and bars", layer_tests.orientation),
    ("variance_entropy", "Variance entropy", "whether few shapes make up all kernels", layer_tests.variance_entropy),
    ("spectrum", "Energy beyond Marchenko-Pastur", "whether few directions carry the layer", layer_tests.spectrum),
    (
        "kolmogorov_smirnov",
        "Kolmogorov-Smirnov",
        "whether the weights' values are normal",
        layer_tests.kolmogorov_smirnov,
    ),
    (
        "anderson_darling",
        "Anderson-Darling",
        "whether the values are normal, tails above all",
        layer_tests.anderson_darling,
    ),
]:
    TESTS.add(
        _name,
        RandomnessTest(
            _title, _looks_at, _run, _name in ("kolmogorov_smirnov", "anderson_darling"), _name == "smoothness"
        ),
    )


def battery(
    weights: Mapping[str, Tensor],
    *,
    names: Sequence[str] | None = None,
    model: nn.Module | Geometry | None = None,
    draws: int | None = 4999,
    seed: int = 0,
    law: str | Mapping[str, str] = "normal",
    start: Mapping[str, Tensor] | None = None,
) -> pd.DataFrame:
    """Every test on every layer of a checkpoint: one row each.

    Args:
        weights: name -> tensor; of a run, `run.weights(step)`. Factors are multiplied in.
        names: tests to run (default: all of TESTS).
        model: as in `analysis.filters.change.filter_change`.
        draws: of each simulated null; the smallest p is about 1 / draws. None: as many as Holm's correction over all
            rows needs to reject one, 4999 at least.
        seed: of all draws. A layer's outcome depends on its name and not on the other layers.
        law: of a fresh draw, for all layers or by layer (`any` for those left out): one of `laws.LAWS`, `own` (that of
            the layer in `start`), or `any` (where it is not known: the outcome under that law which the layer fits
            best, test by test).
        start: the weights at step 0, for `own`.

    Returns:
        layer, stage, kind, filters (those that are not zero), dead (those that are), inputs, taps (in use), test, law,
        statistic, expected (its mean for random filters), low and high (95 % interval, where there is one), p,
        p_holm (over all rows with a p; family-wise, whatever the dependence), p_holm_least (the least that p_holm can
        be: from 0.05 on, the test had too few draws to reject anything among so many rows) and note (why there is no
        p).

    Raises:
        StudyError: no layer, an unknown test or law, NaN, or a layer that was pruned weight by weight.
    """
    if isinstance(names, str) or (names is not None and not names):
        raise StudyError(f"names must be a list of tests, at least one, got {names!r}; known: {', '.join(TESTS)}")
    chosen = [name for name in (TESTS if names is None else names) if TESTS[name]]
    known = geometry(model)
    layers = read_layers(weights, known)
    begun = read_layers(start, known) if start else {}
    nulls = Nulls(draws or max(LEAST_DRAWS, DRAWS_PER_ROW * len(layers) * len(chosen) - 1), seed)
    rows = []
    for layer in layers.values():
        living = layer.alive()
        wanted = check_law(law if isinstance(law, str) else law.get(layer.name, ANY))
        forms = {
            name: undone(living, name, begun.get(layer.name), seed)
            for name in (LAWS if wanted == ANY else [wanted])
            if living.filters
        }
        described = {"layer": layer.name, "stage": layer.stage, "kind": layer.kind, "filters": living.filters}
        described |= {"dead": layer.filters - living.filters, "inputs": layer.inputs, "taps": int(layer.used.sum())}
        for name in chosen:
            rows.append(described | {"test": name} | _row(forms, name, nulls))
    table = pd.DataFrame(rows)
    tested = table.p.notna()
    table["p_holm"] = math.nan
    table.loc[tested, "p_holm"] = holm(table.p[tested])
    exact = table.test.map({name: TESTS[name].exact for name in chosen})
    table["p_holm_least"] = np.where(exact, 0.0, min(1.0, tested.sum() / (1 + nulls.draws)))
    return table.reindex(columns=[*(name for name in table.columns if name != "note"), "note"])


def rejections(table: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """What a battery comes to: test, layers (that it applies to), alone (rejected one by one at `alpha`), by_chance
    (how many of them that is for random layers), rejected (with the correction over all layers and tests).
    """
    tested = table[table.p.notna()]
    counts = tested.assign(alone=tested.p < alpha, rejected=tested.p_holm < alpha).groupby("test", sort=False)
    found = counts.agg(layers=("p", "size"), alone=("alone", "sum"), rejected=("rejected", "sum")).reset_index()
    found.insert(3, "by_chance", alpha * found.layers)
    return found


def examine(layer: FilterLayer, name: str, nulls: Nulls, *key: int) -> Outcome:
    """One test on one layer, with random numbers that are a pure function of the seed, the test and `key`.

    Raises:
        NotApplicable: the test cannot speak of such a layer.
    """
    return TESTS[name].run(layer, np.random.default_rng([nulls.seed, zlib.crc32(name.encode()), *key]), nulls)


def _row(forms: Mapping[str, FilterLayer], name: str, nulls: Nulls) -> dict[str, float | str]:
    """The outcome of a test on a layer given by law with that law undone; of several, where p is largest."""
    missing = dict.fromkeys(("statistic", "expected", "low", "high", "p"), math.nan)
    if not forms:
        return {"law": "", **missing, "note": "all filters are zero"}
    if OWN in forms and TESTS[name].of_values:
        return {"law": OWN, **missing, "note": "the values at step 0 are the law itself, which they cannot depart from"}
    found: dict[str, Outcome] = {}
    for law, layer in forms.items():
        try:
            found[law] = examine(layer, name, nulls, zlib.crc32(layer.name.encode()))
        except NotApplicable as error:
            return {"law": law, **missing, "note": str(error)}
    best = max(found, key=lambda law: found[law].p)
    return {"law": best, **vars(found[best]), "note": ""}
