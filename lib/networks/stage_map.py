"""A stage map: a TOML file that tells the stages of a network from elsewhere, and that network made `Staged` by it.

```toml
network = "monai:BasicUNet"     # or package.module:function, timm:NAME, smp:NAME, nnunet:NAME
dim = "spatial_dims"            # the argument that takes the number of dimensions; or 2, or 3
inputs = "in_channels"          # the argument that takes the channels of an image; or how many it always takes
outputs = "out_channels"        # the same of the channels that come out

[arguments]                     # all others; also NAME = {import = "torch.nn:Conv2d"}, and NAME = {null = true}
features = [16, 16, 32, 64, 128, 16]

[[stages]]                      # in order along the data path
name = "conv_0"
modules = ["conv_0"]            # names of modules or parameters; a module stands for all that is in it
level = 0                       # 0 at the full resolution, more further down
encoder = true
```
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lib.common import paths
from lib.common.errors import StudyError, check_keys, cut, nearest, shown
from lib.common.outside import is_file, read_toml
from lib.networks.foreign import construct
from lib.networks.stages import Staged

_KEYS = ("network", "dim", "inputs", "outputs", "arguments", "stages")
_STAGE_KEYS = ("name", "modules", "level", "encoder")
OWN = "network_maps"  # folder of the user's own maps, in the study's home
SHIPPED = Path(__file__).parent / "maps"


@dataclass(frozen=True)
class MappedStage:
    """One stage: the modules in it, its level (0: full resolution), and whether the encoder holds it."""

    name: str
    modules: tuple[str, ...]
    level: int
    encoder: bool = False


@dataclass(frozen=True)
class StageMap:
    """What a stage map holds; see the docstring of this file."""

    network: str
    dim: str | int
    inputs: str | int
    outputs: str | int
    arguments: Mapping[str, Any]
    stages: tuple[MappedStage, ...]

    def table(self) -> dict[str, Any]:
        """The map as plain JSON values."""
        return json.loads(json.dumps(asdict(self)))

    def build(self, inputs: int, outputs: int, dim: int, seed: int) -> Mapped:
        """The network for so many channels and dimensions, with weights that the seed decides; see `construct`.

        Raises:
            StudyError: the map has another number of them, or does not fit the network that comes of it.
        """
        given = dict(self.arguments)
        for name, ours, wanted in (
            ("dim", self.dim, dim),
            ("inputs", self.inputs, inputs),
            ("outputs", self.outputs, outputs),
        ):
            if isinstance(ours, str):
                given[ours] = wanted
            elif ours != wanted:
                raise StudyError(f"{name} of the stage map of {self.network} is {ours}, and the task has {wanted}")
        return Mapped(construct(self.network, given, seed), self.stages)


def stage_map(table: Any) -> StageMap:
    """The map that a table holds, as TOML and JSON give it.

    Raises:
        StudyError: a key is unknown or missing, or a value is out of range; names it.
    """
    check_keys("key of a stage map", table, _KEYS)
    for key in _KEYS:
        if key not in table and key != "arguments":
            raise StudyError(f"a stage map needs {key}")
    if not isinstance(table["network"], str):
        raise StudyError(f"network of a stage map is a name, got {shown(table['network'])}")
    for key, least in (("dim", 2), ("inputs", 1), ("outputs", 1)):
        value = table[key]
        if isinstance(value, bool) or not isinstance(value, (str, int)) or (isinstance(value, int) and value < least):
            raise StudyError(f"{key} of a stage map is the name of an argument, or a whole number, got {shown(value)}")
    arguments = table.get("arguments", {})
    check_keys("argument", arguments, arguments)
    clash = [table[key] for key in ("dim", "inputs", "outputs") if table[key] in arguments]
    if clash:
        raise StudyError(f"{clash[0]} is set by the task; take it out of the arguments of the stage map")
    if not isinstance(table["stages"], list) or len(table["stages"]) < 2:
        raise StudyError("a stage map needs at least two stages, each under [[stages]]")
    stages = tuple(_stage(each) for each in table["stages"])
    names = [each.name for each in stages]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise StudyError(f"two stages of the stage map are called {twice!r}")
    if len({each.encoder for each in stages}) < 2:
        raise StudyError("a stage map needs stages with encoder = true, and some without")
    levels = {each.level for each in stages}
    if levels != set(range(len(levels))):
        raise StudyError(f"levels of a stage map must be 0, 1, 2, ... without gaps, got {sorted(levels)}")
    return StageMap(table["network"], table["dim"], table["inputs"], table["outputs"], dict(arguments), stages)


def _stage(table: Any) -> MappedStage:
    check_keys("key of a stage", table, _STAGE_KEYS)
    name, modules, level, encoder = (table.get(key) for key in _STAGE_KEYS)
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise StudyError(f"a stage needs a name of letters, digits, points and dashes, got {shown(name)}")
    if not isinstance(modules, list) or not modules or not all(isinstance(each, str) for each in modules):
        raise StudyError(f"stage {name!r} needs modules, a list of names, got {shown(modules)}")
    if isinstance(level, bool) or not isinstance(level, int) or level < 0:
        raise StudyError(f"stage {name!r} needs a level, 0 or more, got {level!r}")
    if not isinstance(encoder, bool | None):
        raise StudyError(f"encoder of stage {name!r} must be true or false, got {encoder!r}")
    return MappedStage(name, tuple(modules), level, bool(encoder))


def map_folders() -> list[Path]:
    """Folders in which a map is looked for by its name: the user's own, then the study's."""
    return [paths.home() / OWN, SHIPPED]


def load_map(name: str, others: tuple[str, ...] = ()) -> tuple[str, StageMap]:
    """A map by the path of its TOML file, or by its name in one of `map_folders`; its name with it.

    Args:
        others: names of models that are no maps, for the answer to a misspelt one.

    Raises:
        StudyError: there is none, or it is no stage map.
    """
    files = {file.stem: file for folder in reversed(map_folders()) for file in sorted(folder.glob("*.toml"))}
    file = files.get(name)
    if name.endswith(".toml"):
        path = Path(name).expanduser()
        file = path if is_file(path) else files.get(path.stem, path)  # a bundle carries it by its name alone
    if file is None:
        raise StudyError(nearest("model", name, (*others, *files)) + ", or the path of a stage map (.toml)")
    if not is_file(file):
        raise StudyError(f"no stage map at {cut(str(file))}")
    table = read_toml(file)
    try:
        return file.stem, stage_map(table)
    except StudyError as error:
        raise StudyError(f"{file}: {error}") from error


def map_text(found: StageMap) -> str:
    """The map as TOML, to be looked at and corrected."""
    lines = [f"{key} = {json.dumps(getattr(found, key))}" for key in ("network", "dim", "inputs", "outputs")]
    lines += ["", "[arguments]", *(f"{key} = {_toml(value)}" for key, value in found.arguments.items())]
    for stage in found.stages:
        lines += ["", "[[stages]]", f"name = {json.dumps(stage.name)}", f"modules = {_toml(list(stage.modules))}"]
        lines += [f"level = {stage.level}", f"encoder = {_toml(stage.encoder)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None:
        raise StudyError("a stage map has no null inside an argument; leave it out, or write a function of your own")
    return json.dumps(value)


class Mapped(Staged):
    """A network from elsewhere, told in stages. It shares all tensors and modules with that network, by their names.

    A tensor that the network holds under several names counts once, under the first of them.

    Raises:
        StudyError: the stages and the network do not fit: says which module is unknown, in two stages or in none.
    """

    def __init__(self, network: nn.Module, stages: tuple[MappedStage, ...]) -> None:
        super().__init__()
        # Not as a child: its children are ours, so that no name changes.
        self.__dict__["_network"] = network
        for shared in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[shared] = network.__dict__[shared]
        self.map = stages
        self._check()

    def _check(self) -> None:
        known = [name for name, _ in (*self.named_modules(), *self.named_parameters(), *self.named_buffers()) if name]
        owner: dict[str, str] = {}
        for stage in self.map:
            for entry in stage.modules:
                if entry not in known:
                    close = get_close_matches(entry, known, n=1, cutoff=0.0)
                    hint = f"; the nearest is {close[0]!r}" if close else ""
                    raise StudyError(f"stage {stage.name!r}: the network has no module {entry!r}{hint}")
                for name in known:
                    if name == entry or name.startswith(f"{entry}."):
                        if owner.get(name, stage.name) != stage.name:
                            raise StudyError(f"{name!r} is in two stages, {owner[name]!r} and {stage.name!r}")
                        owner[name] = stage.name
        lost = [name for name in self._primary() if name not in owner]
        if lost:
            raise StudyError(f"{lost[0]!r} is in no stage{f', and {len(lost) - 1} more' if lost[1:] else ''}")
        for stage in self.map:
            if not any(owner[name] == stage.name for name, _ in self.named_parameters()):
                raise StudyError(f"stage {stage.name!r} holds no parameter; leave it out, or name its modules")

    @property
    def stages(self) -> list[str]:
        return [each.name for each in self.map]

    @property
    def encoder(self) -> list[str]:
        return [each.name for each in self.map if each.encoder]

    @property
    def levels(self) -> list[list[str]]:
        depth = 1 + max(each.level for each in self.map)
        return [[each.name for each in self.map if each.level == level] for level in range(depth)]

    @property
    def core(self) -> nn.Module:
        return self._network  # type: ignore[return-value]

    def stage_of(self, name: str) -> str:
        for stage in self.map:
            if any(name == entry or name.startswith(f"{entry}.") for entry in stage.modules):
                return stage.name
        return ""  # a module that holds several stages, or parts of them

    def modules_of(self, stage: str) -> list[nn.Module]:
        (entries,) = (each.modules for each in self.map if each.name == stage)
        modules = dict(self.named_modules())
        return [module for entry in entries if entry in modules for module in _called(modules[entry])]

    def forward(self, x: Tensor) -> Tensor:  # (n, inputs, *size) -> (n, outputs, *size)
        out = self.core(x)
        if not isinstance(out, Tensor):
            raise StudyError(
                f"the network gives a {type(out).__name__} and not one tensor; give it arguments under which it does "
                "(such as deep_supervision = false), or wrap it in a function of your own"
            )
        return out

    def train(self, mode: bool = True) -> Mapped:
        self.core.training = mode
        return super().train(mode)

    def get_submodule(self, target: str) -> nn.Module:
        return self.core.get_submodule(target)  # by attribute: a child may be called as a property here is

    def _primary(self) -> list[str]:
        """Names of the tensors of checkpoints, each tensor once."""
        all_of = super().state_dict()
        once = {name for name, _ in (*self.named_parameters(), *self.named_buffers())}
        return [name for name in all_of if name in once]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found = super().state_dict(*args, **kwargs)
        return {name: found[name] for name in self._primary()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        whole = super().state_dict(keep_vars=True)
        first: dict[int, str] = {}
        for name in self._primary():
            first[id(whole[name])] = name
        filled = {name: first[id(each)] for name, each in whole.items() if first.get(id(each)) in state_dict}
        return super().load_state_dict(
            {**state_dict, **{name: state_dict[own] for name, own in filled.items()}}, strict, assign
        )


def _called(module: nn.Module) -> list[nn.Module]:
    """A module; of a list of modules, which is never called itself, its members."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return [each for child in module.children() for each in _called(child)]
    return [module]
