"""The null for networks from elsewhere: laws found out and undone, levels on untrained networks, planted training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats as sps
from torch import Tensor, nn

from analysis.filters.kernels import FilterLayer
from analysis.filters.randomness.battery import TESTS, battery
from analysis.filters.randomness.calibration import STRUCTURES
from analysis.filters.randomness.laws import LAWS, find_laws, undone
from analysis.filters.randomness.verdicts import laws_at_start, verdicts
from lib.common.errors import StudyError

SEEDS = range(20)


def network(seed: int) -> nn.Module:
    """As PyTorch initializes it."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 12, 3), nn.Conv2d(12, 16, 3, groups=2), nn.ConvTranspose2d(16, 8, 2, 2),
                         nn.Conv2d(8, 6, 1))  # fmt: skip


def weights(seed: int) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network(seed).state_dict().items()}


def drawn(law: str, *shape: int, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    value = torch.empty(shape)
    if law == "uniform":
        nn.init.xavier_uniform_(value)
    elif law == "truncated":
        nn.init.trunc_normal_(value, std=0.02, a=-0.04, b=0.04)
    else:
        nn.init.kaiming_normal_(value)
    return {"a.weight": value}


def planted(state: dict[str, Tensor], name: str = "1.weight") -> dict[str, Tensor]:
    """Half of the energy of one layer is smooth."""
    own = state[name].double()
    smooth = torch.from_numpy(STRUCTURES["smooth"](tuple(own.shape), np.random.default_rng(1)))
    return {**state, name: (own / own.norm() + smooth / smooth.norm()).float()}


@pytest.mark.parametrize("law", LAWS)
def test_the_law_is_found_from_a_few_hundred_weights(law: str):
    for seed in range(10):
        found = find_laws(drawn(law, 16, 8, 3, 3, seed=seed)).iloc[0]
        assert found.law == law
        assert found.clear


def test_a_layer_of_too_few_weights_takes_the_law_of_its_kind():
    many, few = drawn("uniform", 16, 8, 3, 3), drawn("uniform", 1, 1, 3, 3)
    found = find_laws({"a.weight": many["a.weight"], "b.weight": few["a.weight"]}).set_index("layer")
    assert found.law.to_dict() == {"a": "uniform", "b": "uniform"}
    assert found.clear.to_dict() == {"a": True, "b": False}


@pytest.mark.parametrize("law", LAWS)
def test_a_law_undone_is_normal_and_keeps_arrangement(law: str):
    kernels = drawn(law, 24, 8, 3, 3)["a.weight"].double().numpy()
    kernels[:, :, 0, 0] = 0
    layer = FilterLayer("a", "convolution", kernels)
    plain = undone(layer, law, None, 0)
    assert np.array_equal(plain.used, layer.used)
    values = plain.taps().ravel()
    assert sps.kstest(values / np.sqrt(np.mean(values**2)), "norm").pvalue > 1e-3
    order = [np.argsort(each.taps().ravel(), kind="stable") for each in (layer, plain)]
    assert (order[0] != order[1]).mean() < (1 if law != "normal" else 1e-9)
    assert sps.spearmanr(layer.taps().ravel(), values).statistic > 0.99


def test_untrained_networks_as_pytorch_initializes_them_are_rejected_at_the_nominal_rate():
    """Three nulls: the law told, found out from step 0, and unknown; the study's own null is the wrong one."""
    rejected = {"uniform": 0, "any": 0, "found": 0}
    alone = {"uniform": 0, "any": 0, "found": 0}
    rows, wrong = 0, 0
    for seed in SEEDS:
        state = weights(seed)
        laws, start = laws_at_start(state, draws=999)
        assert set(laws.values()) <= {"uniform", "own"}
        rejected["found"] += "own" in laws.values()  # rejected under the law first found
        tables = {"uniform": battery(state, law="uniform", draws=999), "found": start}
        tables["any"] = battery(state, law="any", draws=999)
        assert "no verdict" not in " ".join(verdicts(start, start).verdict)
        for name, table in tables.items():
            rejected[name] += bool((table.p_holm < 0.05).any())
            alone[name] += int((table.p < 0.05).sum())
        rows += int(start.p.notna().sum())
        wrong += bool((battery(state, names=["kolmogorov_smirnov"], draws=999).p_holm < 0.05).any())
    assert wrong == len(SEEDS)
    assert rows > 20 * 20
    most = {"uniform": sps.binom.ppf(1 - 1e-4, rows, 0.05), "found": sps.binom.ppf(1 - 1e-4, rows, 0.05)}
    least = sps.binom.ppf(1e-4, rows, 0.05)
    for name, bound in most.items():
        assert rejected[name] <= sps.binom.ppf(1 - 1e-3, len(SEEDS), 0.05), name
        assert least <= alone[name] <= bound, name
    assert rejected["any"] <= 1
    assert alone["any"] <= alone["uniform"]


def test_a_planted_layer_is_not_random_and_the_others_are():
    state = weights(3)
    laws, start = laws_at_start(state)
    found = verdicts(battery(planted(state), law=laws, start=state, draws=None), start).set_index("layer")
    assert found.verdict.to_dict() == {
        "0": "looks random", "1": "not random", "2": "looks random", "3": "looks random"
    }  # fmt: skip
    assert "smoothness" in found.rejected["1"]
    assert found.laws["1"] == "uniform"
    unknown = verdicts(battery(planted(state), law="any", draws=None)).set_index("layer")
    assert unknown.verdict["1"] == "not random"
    assert unknown.verdict["0"] == "looks random"


def test_a_law_nobody_knows_is_that_of_step_0():
    """Values of a law with heavy tails: no known law fits; their arrangement is tested all the same."""
    draw = np.random.default_rng(2)
    state = {f"{name}.weight": torch.from_numpy(draw.standard_t(2, size=(16, 8, 3, 3))) for name in "ab"}
    laws, start = laws_at_start(state)
    assert laws == {"a": "own", "b": "own"}
    assert not (start.p_holm < 0.05).any()
    assert start[start.test == "anderson_darling"].note.str.startswith("the values at step 0 are the law").all()
    found = verdicts(battery(planted(state, "b.weight"), law=laws, start=state, draws=None), start)
    assert list(found.verdict) == ["looks random", "not random"]


def test_the_level_holds_under_the_law_of_step_0():
    rejected, rows = dict.fromkeys(TESTS, 0), 60
    for seed in range(rows):
        draw = np.random.default_rng(seed)
        start, later = ({"a.weight": torch.from_numpy(draw.laplace(size=(12, 6, 3, 3)))} for _ in range(2))
        table = battery(later, law="own", start=start, draws=199)
        for row in table[table.p < 0.05].itertuples():
            rejected[row.test] += 1
    assert max(rejected.values()) <= sps.binom.ppf(1 - 1e-4, rows, 0.05)


def test_a_start_that_was_trained_gives_no_verdict():
    state = planted(weights(4))
    laws, start = laws_at_start(state)
    found = verdicts(battery(state, law=laws, start=state, draws=None), start).set_index("layer")
    assert found.verdict["1"].startswith("no verdict: step 0 fails as well")
    assert found.verdict["0"] == "looks random"


def test_draws_follow_the_rows_or_the_table_says_that_they_are_too_few():
    state = {f"{at}.weight": value for at in range(6) for value in [drawn("normal", 6, 2, 3, 3, seed=at)["a.weight"]]}
    few = battery(state, names=["spectrum", "smoothness"], draws=199)
    least = few.groupby("test").p_holm_least.first()
    assert least.spectrum == pytest.approx(12 / 200)
    assert least.smoothness == 0
    assert set(verdicts(few).verdict) == {"no verdict: too few draws to reject anything among so many rows"}
    enough = battery(state, names=["spectrum", "smoothness"], draws=None)
    assert enough.p_holm_least.max() < 0.05
    assert set(verdicts(enough).verdict) == {"looks random"}
    many = battery({f"{at}.weight": torch.randn(2, 1, 3) for at in range(260)}, names=["spectrum"], draws=None)
    assert many.p_holm_least.max() < 0.05


def test_laws_do_not_touch_the_study_s_own_numbers():
    state = drawn("normal", 12, 4, 3, 3)
    for law in ("normal", {"a": "normal"}):
        assert battery(state, draws=199).equals(battery(state, draws=199, law=law))


def test_an_unknown_law_and_a_missing_start_are_refused():
    with pytest.raises(StudyError, match="unknown law of fresh weights 'unifrom'; did you mean 'uniform'"):
        battery(drawn("normal", 4, 2, 3, 3), law="unifrom")
    with pytest.raises(StudyError, match="the law of a at step 0 needs its weights at step 0"):
        battery(drawn("normal", 4, 2, 3, 3), law="own")
