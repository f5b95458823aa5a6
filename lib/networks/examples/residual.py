"""A small residual network that outlines objects, and its training, as somebody writes them who never saw this study.

Plain PyTorch, with names of its own and PyTorch's own initial weights; checkpoints as Lightning lays them out.
Notebook 11 looks at it and tunes it; a network of your own takes its place there.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions beside a shortcut: (n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm_in = nn.BatchNorm2d(outputs)
        self.conv_out = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm_out = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm_in(self.conv_in(x)))
        return functional.relu(self.norm_out(self.conv_out(y)) + self.shortcut(x))


class Rise(nn.Module):
    """Back to twice the resolution, where what was seen there on the way down is added."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, outputs, 1)
        self.block = Block(outputs, outputs)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        return self.block(functional.interpolate(self.squeeze(x), scale_factor=2) + beside)


class ResidualNet(nn.Module):
    """Images (n, in_channels, h, w) to logits (n, out_channels, h, w); sides divide by 8."""

    def __init__(self, in_channels: int = 1, out_channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.entry = nn.Conv2d(in_channels, width, 3, padding=1)
        self.shrink1 = Block(width, 2 * width, stride=2)
        self.shrink2 = Block(2 * width, 4 * width, stride=2)
        self.shrink3 = Block(4 * width, 4 * width, stride=2)
        self.rise2 = Rise(4 * width, 4 * width)
        self.rise1 = Rise(4 * width, 2 * width)
        self.rise0 = Rise(2 * width, width)
        self.answer = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        full = functional.relu(self.entry(x))
        half = self.shrink1(full)
        quarter = self.shrink2(half)
        y = self.rise2(self.shrink3(quarter), quarter)
        return self.answer(self.rise0(self.rise1(y, half), full))


def fit(network: nn.Module, images: Tensor, masks: Tensor, folder: Path, *, steps: int, rate: float = 3e-3) -> None:
    """Train to outline one kind of object, with a checkpoint before the first step, at steps 1, 4, 16, ... and the end.

    Args:
        images: (n, c, h, w), standardized. masks: (n, h, w) of 0 and 1.
        folder: for the checkpoints `step=N.ckpt`. rate: peak learning rate of Adam, which falls to 0.
    """
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    network.train()
    _save(network, folder, 0)
    for step in range(1, steps + 1):
        batch = torch.randint(len(images), (8,), generator=draw)
        logits, truth = network(images[batch])[:, 0], masks[batch].float()
        inside = torch.sigmoid(logits)
        overlap = 2 * (inside * truth).sum((1, 2)) / (inside.sum((1, 2)) + truth.sum((1, 2)) + 1)
        loss = functional.binary_cross_entropy_with_logits(logits, truth) + 1 - overlap.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step == steps or (step & (step - 1) == 0 and step.bit_length() % 2):  # powers of 4
            _save(network, folder, step)


def _save(network: nn.Module, folder: Path, step: int) -> None:
    weights = {f"net.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, "global_step": step}, folder / f"step={step}.ckpt")
