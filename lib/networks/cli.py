"""`python -m lib network card NETWORK`: the stage map of a network from elsewhere, as a proposal to be corrected."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.foreign import argument
from lib.networks.stage_map import OWN, Mapped, map_text
from lib.networks.stage_proposal import propose
from lib.networks.stages import parameters_by_stage


def add_parser(commands: Any) -> None:
    """Add the command `network` to the subparsers of a command line; it sets `run`, (args) -> exit code."""
    parser = commands.add_parser("network", help="write the stage map of a network from elsewhere")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    card = actions.add_parser(
        "card",
        help="propose the stage map of a network",
        description="Send one image through a network, and write its stage map: stages in order along the data path, "
        "levels, encoder. Correct the file by hand. In "
        f"{OWN}/ of the study's home its name is a model of specs and suites (model = NAME), elsewhere its path is. "
        "A module of your own must be found by Python: name its folder in PYTHONPATH.",
    )
    card.add_argument(
        "network", metavar="NETWORK", help="package.module:function, monai:NAME, timm:NAME, smp:NAME or nnunet:NAME"
    )
    card.add_argument("arguments", nargs="*", metavar="ARGUMENT=VALUE", help="keyword arguments; VALUE as in JSON")
    card.add_argument("--inputs", type=int, default=1, metavar="C", help="channels of an image (default 1)")
    card.add_argument("--outputs", type=int, default=1, metavar="K", help="channels that come out (default 1)")
    card.add_argument("--dim", type=int, choices=(2, 3), default=2, help="dimensions of an image (default 2)")
    card.add_argument("--size", type=int, default=64, metavar="S", help="side of the image in pixels (default 64)")
    card.add_argument("--out", type=Path, metavar="FILE", help=f"default: {OWN}/NAME.toml of the study's home")
    card.set_defaults(run=_card)


def _card(options: argparse.Namespace) -> int:
    arguments = dict(map(argument, options.arguments))
    found = propose(
        options.network,
        arguments,
        inputs=options.inputs,
        outputs=options.outputs,
        dim=options.dim,
        size=options.size,
    )
    name = options.network.rpartition(":")[2]
    file = options.out or paths.home() / OWN / f"{name}.toml"
    if file.exists():
        raise StudyError(f"{file} exists; name another with --out, or delete it")
    paths.write_atomic(file, map_text(found))
    model: Mapped = found.build(options.inputs, options.outputs, options.dim, seed=0)
    counts = parameters_by_stage(model)
    for stage in found.stages:
        side = "encoder" if stage.encoder else "decoder"
        number = counts[stage.name]["parameters"]
        print(f"{stage.name:10} level {stage.level}  {side}  {number:>12,} parameters  {', '.join(stage.modules)}")
    print(f"{file}: look at it, correct it, and name it as model in a spec or a suite")
    return 0
