"""A small network of a user's own and its checkpoints, of which three layers were retrained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lib.networks.foreign import construct

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
        self.rise = nn.ConvTranspose2d(16, 12, 2, 2)
        self.mix = nn.Conv2d(24, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.stem(x)
        return self.out(self.mix(torch.cat([a, self.rise(self.deep(self.down(a)))], 1)))

def build():
    return Net()

def number():
    return 3

def broken():
    raise RuntimeError("no weights here")
"""
LEAVES = ["stem.0", "down.1", "deep.0", "deep.2", "rise", "mix", "out"]
RETRAINED = ("down.1", "deep.2", "mix")


def network(seed: int) -> nn.Module:
    return construct("foreign_net:build", {}, seed)


def retrained(state: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """A share of the way from the start of three layers to smooth filters."""
    new = dict(state)
    for name in RETRAINED:
        own = state[f"{name}.weight"]
        ramp = torch.linspace(-1, 1, 3)
        pattern = (ramp[:, None] + ramp[None]).expand_as(own) * torch.randn(
            own.shape[0], own.shape[1], 1, 1, generator=torch.Generator().manual_seed(1)
        )
        new[f"{name}.weight"] = (1 - share) * own + share * own.norm() * pattern / pattern.norm()
    return new


def save_series(folder: Path, seed: int, steps: tuple[int, ...] = (0, 10, 200)) -> dict[str, Tensor]:
    folder.mkdir()
    state = {name: value.clone() for name, value in network(seed).state_dict().items()}
    for step in steps:
        weights = {f"model.{name}": value for name, value in retrained(state, 0.6 * step / 200).items()}
        torch.save({"state_dict": weights, "global_step": step}, folder / f"step={step}.ckpt")
    return state
