"""Which numbers the fields of a spec may have, and which options a strategy's."""

from __future__ import annotations

import json
from typing import Any

from lib.common.errors import StudyError

_REAL = ("lr", "weight_decay", "acceleration", "foreground")
_OPTIONAL = ("depth", "batch", "volume", "patience", "validation", "flat", "foreground")
_MOST = dict.fromkeys(("size", "volume", "validation", "seed", "fold", "steps", "batch", "coils"), 2**31 - 1)
_MOST |= {
    "width": 4096,
    "depth": 10,
    "flat": 10,
    "foreground": 1,
    "blocks": 100,
}  # far beyond what trains, and small enough to count parameters
_LEAST = {
    "width": 1, "depth": 1, "size": 8, "volume": 1, "seed": 0, "fold": 0, "steps": 1, "batch": 1,
    "lr": 0, "weight_decay": 0, "patience": 1, "evaluations": 1, "validation": 1,
    "blocks": 1, "acceleration": 1, "coils": 1, "flat": 0, "foreground": 0,
}  # fmt: skip


def check_numbers(spec: Any) -> None:
    """That every number of a `lib.runs.spec.RunSpec` is one, and within its range; makes whole real ones real.

    Raises:
        StudyError: one is not; names it.
    """
    for name, least in _LEAST.items():
        if name in _OPTIONAL and getattr(spec, name) is None:
            continue
        value = getattr(spec, name)
        whole = name not in _REAL
        right_type = isinstance(value, int) if whole else isinstance(value, (int, float))
        if isinstance(value, bool) or not right_type or not least <= value < float("inf"):
            raise StudyError(
                f"{name} must be {'a whole number' if whole else 'a number'} of at least {least}, got {value!r}"
            )
    for name, most in _MOST.items():
        if (getattr(spec, name) or 0) > most:
            raise StudyError(f"{name} must be at most {most}, got {getattr(spec, name)!r}")
    for name in ("lr", "weight_decay", "acceleration"):
        object.__setattr__(spec, name, float(getattr(spec, name)))  # 1 and 1.0 are one run
    if not spec.lr > 0:
        raise StudyError(f"lr must be a positive number, got {spec.lr!r}")
    if spec.evaluations > spec.steps:
        raise StudyError(
            f"evaluations must be at most steps ({spec.steps}), got {spec.evaluations}; set evaluations too"
        )


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of a strategy's options as JSON gives them back, so that a spec equals the one read from its file.

    Raises:
        StudyError: they hold something that JSON has no word for.
    """
    try:
        return json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StudyError(f"options must be texts, finite numbers, true, false, null or lists, got {options}") from error
