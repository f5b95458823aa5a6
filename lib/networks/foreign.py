"""Networks that were written elsewhere: found by a name, made with keyword arguments, without touching random state."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.common.errors import StudyError, nearest

# The module that the names of a collection stand in. None of these packages is needed for anything else.
COLLECTIONS = {
    "monai": "monai.networks.nets",
    "timm": "timm",
    "smp": "segmentation_models_pytorch",
    "nnunet": "dynamic_network_architectures.architectures.unet",
}
IMPORTED = "import"  # the key of an argument that is an object to be imported: {import = "torch.nn:Conv2d"}
NOTHING = {"null": True}  # stands for None, for which TOML has no word


def find_object(name: str) -> Any:
    """What `package.module:name` stands for; of a collection, `monai:UNet` is `monai.networks.nets:UNet`.

    Raises:
        StudyError: the name is none, its module cannot be imported, or holds no such thing.
    """
    place, colon, own = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not colon or not place or not own:
        known = ", ".join(f"{each}:NAME" for each in COLLECTIONS)
        raise StudyError(f"a network is named package.module:function, or {known}; got {name!r}")
    try:
        module = importlib.import_module(COLLECTIONS.get(place, place))
    except Exception as error:  # packages that do not match each other raise anything
        module_name = COLLECTIONS.get(place, place)
        raise StudyError(f"{name}: {module_name} cannot be imported here ({first_line(error)})") from error
    if not hasattr(module, own):
        raise StudyError(nearest(f"name in {place}", own, [each for each in vars(module) if not each.startswith("_")]))
    return getattr(module, own)


def construct(name: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """A network on the CPU, with the weights that its own framework draws after `torch.manual_seed(seed)`.

    The law of the draw is the framework's. The random state of the process is as before.

    Args:
        name: see `find_object`; `timm:NAME` is what `timm.create_model` makes of the name.
        arguments: keyword arguments; a table `{import = "torch.nn:Conv2d"}` stands for what is found there, and
            `{null = true}` for None.

    Raises:
        StudyError: the name is unknown, the arguments are refused, or no network comes of them.
    """
    make = find_object("timm:create_model" if name.startswith("timm:") else name)
    given: dict[str, Any] = {key: _imported(value) for key, value in arguments.items()}
    if name.startswith("timm:"):
        given = {"model_name": name.partition(":")[2], **given}
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            made = make(**given)
    except Exception as error:
        raise StudyError(
            f"{name} cannot be made with {dict(arguments)}: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise StudyError(f"{name} gives a {type(made).__name__}, which is no torch.nn.Module")
    return made


def _imported(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {IMPORTED}:
        return find_object(value[IMPORTED])
    return None if value == NOTHING else value


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [""])[0]


def parameters_of(name: str) -> list[str]:
    """Names of the keyword arguments that a network's function or class declares."""
    make: Callable[..., Any] = find_object(name) if not name.startswith("timm:") else find_object("timm:create_model")
    return list(inspect.signature(make).parameters)


def origin(name: str) -> dict[str, str]:
    """Where the code of a network comes from: its file's sha256 and, of an installed package, name and version."""
    make = inspect.unwrap(find_object("timm:create_model" if name.startswith("timm:") else name))
    found = {"name": name}
    package = make.__module__.partition(".")[0]
    for distribution in metadata.packages_distributions().get(package, [])[:1]:
        found["package"] = f"{distribution} {metadata.version(distribution)}"
    found["sha256"] = hashlib.sha256(Path(inspect.getfile(make)).read_bytes()).hexdigest()
    return found
