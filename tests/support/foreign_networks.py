"""Networks as people elsewhere write them: names of their own, children called as what the study calls otherwise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn_a = nn.BatchNorm2d(outputs, momentum=0.3)
        self.conv_b = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn_b = nn.BatchNorm2d(outputs, momentum=0.3)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn_a(self.conv_a(x)))
        return F.relu(self.bn_b(self.conv_b(y)) + self.shortcut(x))


class OddNet(nn.Module):
    """Residual blocks down, bilinear up; children `stages` and `encoder`, a parameter of its own, one module twice."""

    def __init__(self, image_channels: int, classes: int, width: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.stages = nn.Conv2d(image_channels, width, 3, padding=1)
        self.encoder = nn.ModuleList([_Residual(width, width, 2), _Residual(width, 2 * width, 2)])
        self.up1 = nn.Conv2d(2 * width + width, width, 3, padding=1, groups=1)
        self.up0 = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.GroupNorm(2, width), nn.ReLU())
        self.drop = nn.Dropout(dropout) if dropout else None
        self.gain = nn.Parameter(torch.ones(1))
        self.levels = nn.Conv2d(width, classes, 1)
        self.again = self.encoder[0]

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.stages(x))
        second = self.encoder[0](first)
        third = self.encoder[1](second)
        y = F.relu(self.up1(torch.cat([F.interpolate(third, scale_factor=2), second], 1)))
        y = self.up0(torch.cat([F.interpolate(y, scale_factor=2), first], 1))
        y = y if self.drop is None else self.drop(y)
        return self.levels(y * self.gain)


ODD_MAP = {
    "network": "foreign_networks:OddNet",
    "dim": 2,
    "inputs": "image_channels",
    "outputs": "classes",
    "arguments": {"width": 4},
    "stages": [
        {"name": "stem", "modules": ["stages"], "level": 0, "encoder": True},
        {"name": "block1", "modules": ["encoder.0"], "level": 1, "encoder": True},
        {"name": "block2", "modules": ["encoder.1"], "level": 2, "encoder": True},
        {"name": "up1", "modules": ["up1"], "level": 1},
        {"name": "up0", "modules": ["up0", "gain"], "level": 0},
        {"name": "last", "modules": ["levels"], "level": 0},
    ],
}


def nested(channels: int, classes: int, dim: int = 2) -> nn.Module:
    """Modules in modules, all of them nameless."""
    conv, up = (nn.Conv2d, nn.ConvTranspose2d) if dim == 2 else (nn.Conv3d, nn.ConvTranspose3d)
    norm = nn.BatchNorm2d if dim == 2 else nn.BatchNorm3d
    down = nn.Sequential(nn.Sequential(conv(4, 6, 3, 2, 1), norm(6)), nn.LeakyReLU(0.1))
    back = nn.Sequential(up(6, 4, 2, 2), nn.Sequential(norm(4), nn.ReLU()))
    return nn.Sequential(nn.Sequential(conv(channels, 4, 3, 1, 1), nn.ReLU()), down, back, conv(4, classes, 1))


NESTED_MAP = {
    "network": "foreign_networks:nested",
    "dim": "dim",
    "inputs": "channels",
    "outputs": "classes",
    "stages": [
        {"name": "one", "modules": ["0"], "level": 0, "encoder": True},
        {"name": "two", "modules": ["1.0"], "level": 1, "encoder": True},
        {"name": "three", "modules": ["2.0", "2.1"], "level": 0},
        {"name": "four", "modules": ["3"], "level": 0},
    ],
}


def two_first_layers(channels: int, classes: int, dim: int = 2) -> nn.Module:
    """The same with a first stage of which two layers take the image, as residual blocks have them."""

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.residual = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(channels, 4, 1)
            self.more = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.more(self.conv(x)) + self.residual(x)

    network = nested(channels, classes, dim)
    return nn.Sequential(First(), *list(network)[1:])  # type: ignore[call-overload]


def classifier(channels: int, classes: int) -> nn.Module:
    """No network of stages that go down and up."""
    return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, classes, 3, padding=1))


def two_outputs(channels: int, classes: int) -> nn.Module:
    """A network that gives a list."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(channels, classes, 3, padding=1), nn.Conv2d(channels, classes, 1)

        def forward(self, x: Tensor) -> list[Tensor]:
            return [self.a(x), self.b(x)]

    return Two()


def monai_maps(dim: int = 2) -> dict[str, dict]:
    """Small networks of MONAI, told by the command line's proposal."""
    from lib.networks.stage_proposal import propose

    arguments = {
        "UNet": {"channels": [4, 8, 16], "strides": [2, 2], "norm": "batch"},
        "BasicUNet": {"features": [4, 4, 8, 8, 8, 4]},
        "DynUNet": {
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [4, 8, 16],
        },
    }
    return {
        name: propose(f"monai:{name}", given, inputs=1, outputs=1, dim=dim, size=32).table()
        for name, given in arguments.items()
    }


def nnunet_maps(dim: int = 2) -> dict[str, dict]:
    """Small networks of nnU-Net, told by the command line's proposal; their decoder holds the encoder once more."""
    from lib.networks.stage_proposal import propose

    shared = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 16],
        "conv_op": {"import": f"torch.nn:Conv{dim}d"},
        "kernel_sizes": 3,
        "strides": [1, 2, 2],
        "n_conv_per_stage_decoder": 1,
        "conv_bias": True,
        "norm_op": {"import": f"torch.nn:InstanceNorm{dim}d"},
        "norm_op_kwargs": {"affine": True},
        "nonlin": {"import": "torch.nn:LeakyReLU"},
    }
    own = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
    return {
        name: propose(f"nnunet:{name}", {**shared, blocks: 1}, inputs=1, outputs=1, dim=dim, size=32).table()
        for name, blocks in own.items()
    }


def smp_maps(dim: int = 2) -> dict[str, dict]:
    """The Unet of segmentation-models with a ResNet encoder, told by the command line's proposal."""
    from lib.networks.stage_proposal import propose

    given = {"encoder_name": "resnet18", "encoder_weights": {"null": True}, "decoder_channels": [16, 8, 8, 8, 4]}
    return {"SmpUnet": propose("smp:Unet", given, inputs=1, outputs=1, dim=dim, size=32).table()}
