"""Networks of several inputs and outputs: the adapter that README shows, literally, and what a network without says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.probe.networks import input_channels, load_network
from analysis.probe.subjects import open_subjects
from analysis.probe.with_images import activations_of, similarities
from lib.common.errors import StudyError
from lib.networks.stage_proposal import propose

README = (Path(__file__).parents[3] / "README.md").read_text()


CODE = '''
import torch
from torch import nn

class TwoContrasts(nn.Module):
    """Two images in, a dictionary out."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.low = nn.Conv2d(8, 8, 3, 2, 1)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.last = nn.Conv2d(16, 1, 1)

    def forward(self, a, b):
        y = torch.cat([self.one(a), self.two(b)], 1).relu()
        return {"mask": self.last(torch.cat([self.up(self.low(y).relu()), y], 1)), "loss": None}

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(1, 4, 3)

'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module `two_contrasts` with the network, README's adapter, and a module without `forward`."""
    (adapter,) = re.findall(r"```python\n(class Adapter.*?)```", README, re.S)
    (tmp_path / "two_contrasts.py").write_text(CODE + adapter)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "two_contrasts", raising=False)
    return "two_contrasts"


def save(folder: Path) -> None:
    """Checkpoints of the network without its adapter."""
    folder.mkdir()
    torch.manual_seed(0)
    state = load_network("two_contrasts:TwoContrasts", "").state_dict()
    torch.save({"state_dict": state, "step": 0}, folder / "a.pt")
    torch.save({"state_dict": {**state, "low.weight": -state["low.weight"]}, "step": 9}, folder / "b.pt")


def test_the_adapter_of_the_readme_serves_probe_and_stage_map(module: str, tmp_path: Path):
    save(tmp_path / "two")
    np.save(tmp_path / "two.npy", np.random.default_rng(0).normal(size=(20, 2, 16, 16)))
    (subject,) = open_subjects([str(tmp_path / "two")], [f"{module}:Adapter"])
    assert subject.model is not None
    assert input_channels(subject.model) == 2
    assert not len(subject.unread())
    found, _ = activations_of([subject], str(tmp_path / "two.npy"), ["net.one,net.two,net.low"])
    values = similarities(found).values
    first, last = ([i for i, each in enumerate(found.labels) if each.step == step] for step in (0, 9))
    same = [values[a, b] for a, b in zip(first, last, strict=True)]
    np.testing.assert_allclose(same, 1, atol=1e-5)  # before the layer that changed, and that one but for its sign
    assert abs(values[first[0], first[1]]) < 0.5  # one contrast knows nothing of the other
    stages = propose(f"{module}:Adapter", {}, inputs=2, outputs=1, dim=2, size=16).stages
    assert stages[0].modules == ("net.one", "net.two")


def test_without_an_adapter_one_line_says_why(module: str, tmp_path: Path):
    save(tmp_path / "two")
    np.save(tmp_path / "one.npy", np.zeros((20, 1, 16, 16)))
    (subject,) = open_subjects([str(tmp_path / "two")], [f"{module}:TwoContrasts"])
    with pytest.raises(
        StudyError, match=r"does not take images of shape .*missing 1 required positional argument: 'b'"
    ):
        activations_of([subject], str(tmp_path / "one.npy"))


def test_a_module_without_forward_is_told_in_one_line(module: str, tmp_path: Path):
    torch.save({"state_dict": load_network(f"{module}:Wrapped", "").state_dict(), "step": 0}, tmp_path / "a.pt")
    np.save(tmp_path / "one.npy", np.zeros((20, 1, 16, 16)))
    (subject,) = open_subjects([str(tmp_path / "a.pt")], [f"{module}:Wrapped"])
    with pytest.raises(StudyError, match='missing the required "forward" function'):
        activations_of([subject], str(tmp_path / "one.npy"))
