"""What an arm is called: its strategy, and those of its options that are not the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib.strategies.strategy import STRATEGIES


def arm_name(strategy: str, options: Mapping[str, Any], also: Sequence[str] = ()) -> str:
    """The strategy, those of its options that are not the default, and what else sets it apart, as one label."""
    default = STRATEGIES[strategy].options
    told = [f"{key}={_short(value)}" for key, value in sorted(options.items()) if value != default[key]] + [*also]
    return f"{strategy} ({', '.join(told)})" if told else strategy


def _short(value: Any) -> Any:
    return stages_text(value) if isinstance(value, list) else value


def stages_text(stages: Sequence[str]) -> str:
    """Stages with neighbors drawn together: "enc2-4 dec3-0 head"."""
    runs: list[list[str]] = []
    for name in map(str, stages):
        last = runs[-1][-1] if runs else ""
        beside = last[:3] == name[:3] and last[3:].isdigit() and name[3:].isdigit()
        if beside and abs(int(last[3:]) - int(name[3:])) == 1:
            runs[-1].append(name)
        else:
            runs.append([name])
    return " ".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1][3:]}" for run in runs)
