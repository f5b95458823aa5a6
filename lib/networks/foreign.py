"""Networks that were written elsewhere: found by a name, made with keyword arguments, without touching random state.

A name comes from a stage map, a spec, a suite or an nnU-Net's plans, which anybody may have written, and what it names
is imported and called. So it must be code of a package in `ALLOWED` that is a class of networks, or a function that
says it returns one, and it may fetch no weights, as networks here begin as they are drawn; or code of a module that the
user trusts, by its name in the variable `STUDY_TRUST` or typed on the command line, which may do anything.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lib.common.errors import StudyError, cut, nearest, shown
from lib.common.outside import read_json

# The module that the names of a collection stand in. None of these packages is needed for anything else.
COLLECTIONS = {
    "monai": "monai.networks.nets",
    "timm": "timm",
    "smp": "segmentation_models_pytorch",
    "nnunet": "dynamic_network_architectures.architectures.unet",
}
INSTALLED_AS = {  # timm and segmentation-models-pytorch import torchvision, whatever network is asked for
    "monai": "monai",
    "timm": "timm torchvision",
    "smp": "segmentation-models-pytorch torchvision pillow",
    "nnunet": "dynamic-network-architectures",
}
ALLOWED = (
    "monai.networks", "timm", "segmentation_models_pytorch", "dynamic_network_architectures", "torch.nn",
    "lib.networks.examples",
)  # fmt: skip
TRUST = "STUDY_TRUST"  # the variable that names modules of the user's own, with commas; kernels and workers inherit it
FETCHING = ("pretrained", "checkpoint_path", "encoder_weights", "weights", "cache_dir")  # arguments
NUMBERS = 1 << 30  # in one network
IMPORTED = "import"  # the key of an argument that is an object to be imported: {import = "torch.nn:Conv2d"}
NOTHING = {"null": True}  # stands for None, for which TOML has no word


def find_object(name: str) -> Any:
    """What `package.module:name` stands for; of a collection, `monai:UNet` is `monai.networks.nets:UNet`.

    Raises:
        StudyError: the name is none, is not trusted, its module cannot be imported, or holds no such thing.
    """
    place, colon, own = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not colon or not place or not own:
        known = ", ".join(f"{each}:NAME" for each in COLLECTIONS)
        raise StudyError(f"a network is named package.module:function, or {known}; got {shown(name)}")
    _check_trusted(name, COLLECTIONS.get(place, place))
    try:
        module = importlib.import_module(COLLECTIONS.get(place, place))
    except Exception as error:  # whatever a module does when it is imported
        remedy = "it must be installed, or lie in the folder that the command is run in"
        if place in INSTALLED_AS:
            remedy = f"pip install {INSTALLED_AS[place]}"
            if "torchvision" in remedy:
                remedy += f" (torchvision of the build that fits torch {torch.__version__})"
        raise StudyError(
            f"{name}: {COLLECTIONS.get(place, place)} cannot be imported here ({type(error).__name__}: "
            f"{first_line(error)}); {remedy}"
        ) from error
    if not hasattr(module, own):
        known = [each for each in vars(module) if not each.startswith("_")]
        raise StudyError(nearest(f"name in {place}", own, get_close_matches(own, known, n=8) or known[:8]))
    found = getattr(module, own)
    home = getattr(found, "__module__", None)
    if not callable(found) or not isinstance(home, str):
        raise StudyError(f"{name} is a {type(found).__name__}; name a class or a function that gives a network")
    _check_trusted(name, home)  # not what a module merely imports, such as its `os`
    return found


def _check_trusted(name: str, module: str) -> None:
    if not _in(module, (*ALLOWED, *trusted())):
        raise StudyError(
            f"{name}: code of {module} is not run because a file names it; if you trust it, say so with the variable "
            f"{TRUST}={module.partition('.')[0]} (several with commas; in a notebook, %env {TRUST}=...)"
        )


def trusted() -> list[str]:
    """Modules of which the user lets code be run because a file names it."""
    return [each.strip() for each in os.environ.get(TRUST, "").split(",") if each.strip()]


def _in(module: str, packages: Iterable[str]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in packages)


def trust(name: str) -> None:
    """Trust the module of a network that the user typed, in this process and those that it starts."""
    place, colon, _ = name.partition(":")
    if colon and place not in COLLECTIONS and place not in trusted():
        os.environ[TRUST] = ",".join([*trusted(), place])


def _check_harmless(name: str, make: Any, given: Mapping[str, Any]) -> None:
    """That what a file names makes a network and does nothing else; of trusted modules, anything.

    Raises:
        StudyError: it is no class of networks, and no function that says it returns one; or it would fetch weights.
    """
    if _in(make.__module__, trusted()):
        return
    try:
        made = make if inspect.isclass(make) else typing.get_type_hints(make).get("return")
        signature = inspect.signature(make).bind_partial(**given)
    except Exception:  # hints may name anything, and arguments that do not fit are told when it is called
        made, signature = make if inspect.isclass(make) else None, None
    if not inspect.isclass(made) or not issubclass(made, nn.Module):
        raise StudyError(f"{name} is no class of networks, and no function that says it returns one")
    if signature is not None:
        signature.apply_defaults()
    all_given = {**given, **(signature.arguments if signature else {})}
    fetching = [key for key in FETCHING if all_given.get(key)]
    fetching += [key for key, value in all_given.items() if isinstance(value, str) and ":" in value]
    if fetching or ":" in name.partition(":")[2]:
        raise StudyError(
            f"{name} with {', '.join(fetching) or 'such a name'} may fetch or read a file; a network begins as it is "
            'drawn, so set it to false, or to {"null" = true}; weights are named beside it'
        )


def named(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the keyword arguments of a network in one line: `monai:BasicUNet spatial_dims=2 features=[8, 16]`.

    Raises:
        StudyError: what follows the name is no ARGUMENT=VALUE.
    """
    name, *words = re.split(r"\s+(?=[A-Za-z_]\w*\s*=)", text.strip())
    if " " in name:
        raise StudyError(f"after the name of a network only ARGUMENT=VALUE can stand, got {text!r}")
    return name, dict(map(argument, words))


def argument(text: str) -> tuple[str, Any]:
    """A keyword argument from ARGUMENT=VALUE; VALUE as in JSON, or a plain word.

    Raises:
        StudyError: it is none.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise StudyError(f"expected ARGUMENT=VALUE, got {text!r}")
    try:
        given = json.loads(value)
        return name.strip(), NOTHING if given is None else given
    except json.JSONDecodeError:
        return name.strip(), value


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
    make = _maker(name)
    given: dict[str, Any] = {key: _imported(value) for key, value in arguments.items()}
    if name.startswith("timm:"):
        given = {"model_name": name.partition(":")[2], **given}
    _check_harmless(name, make, given)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), _Counted():
            torch.default_generator.manual_seed(seed)
            made = make(**given)
    except Exception as error:
        raise StudyError(
            f"{name} cannot be made with {shown(dict(arguments))}: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise StudyError(f"{name} gives a {type(made).__name__}, which is no torch.nn.Module")
    return made


def _maker(name: str) -> Callable[..., Any]:
    """What is called to make a network of that name."""
    return find_object("timm:create_model" if name.startswith("timm:") else name)


class _Counted(TorchFunctionMode):
    """Refuses to make tensors of more than `NUMBERS` in all: memory that was asked for is not yet taken."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if function in (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn):
            self.numbers += made.numel()
            if self.numbers > NUMBERS:
                raise StudyError(f"it would have more than {NUMBERS:,} numbers; are its arguments right?")
        return made


def _imported(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {IMPORTED}:
        return find_object(value[IMPORTED])
    return None if value == NOTHING else value


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return cut((str(error).splitlines() or [""])[0])


def planned(folder: Path) -> tuple[str, dict[str, Any]]:
    """The network that nnU-Net (version 2) trained, and its arguments, from its plans; it gives one output.

    Args:
        folder: of results, `TRAINER__PLANS__CONFIGURATION`, in which plans.json and dataset.json lie.

    Raises:
        StudyError: it is no such folder, or its plans are of before they told the architecture.
    """
    try:
        plans, data = (read_json(folder / name) for name in ("plans.json", "dataset.json"))
        known = plans["configurations"]
        configuration = dict(known[folder.resolve().name.rpartition("__")[2]])
        for _ in known:  # so that one that inherits from itself comes to an end
            if "inherits_from" in configuration:
                configuration = {**known[configuration.pop("inherits_from")], **configuration}
        told = configuration["architecture"]
        name, given = told["network_class_name"], dict(told["arch_kwargs"])
        labels = data["labels"]
        channels = data.get("channel_names") or data["modality"]
        for key in told["_kw_requires_import"]:
            given[key] = given[key] and {IMPORTED: _colon(given[key])}
        regions = any(isinstance(each, list) and len(each) > 1 for each in labels.values())
        outputs = len(set(labels) - ({"ignore", "background"} if regions else {"ignore"}))
        return _colon(name), {
            **given, "input_channels": len(channels), "num_classes": outputs, "deep_supervision": False,
        }  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = "" if isinstance(error, StudyError) else f"{type(error).__name__}: "
        raise StudyError(
            f"{folder} does not tell an nnU-Net ({kind}{first_line(error)}); give its folder of "
            "results TRAINER__PLANS__CONFIGURATION, in which plans.json (with an architecture) and dataset.json lie"
        ) from error


def _colon(name: str) -> str:
    module, _, own = name.rpartition(".")
    return f"{module}:{own}"


def parameters_of(name: str) -> list[str]:
    """Names of the keyword arguments that a network's function or class declares."""
    return list(inspect.signature(_maker(name)).parameters)


def origin(name: str) -> dict[str, str]:
    """Where the code of a network comes from: its file's sha256 and, of an installed package, name and version."""
    make = inspect.unwrap(_maker(name))
    found = {"name": name}
    package = make.__module__.partition(".")[0]
    for distribution in metadata.packages_distributions().get(package, [])[:1]:
        found["package"] = f"{distribution} {metadata.version(distribution)}"
    found["sha256"] = hashlib.sha256(Path(inspect.getfile(make)).read_bytes()).hexdigest()
    return found
