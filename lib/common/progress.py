"""Progress that moves: printed lines for batch work, one updating display for JupyterLab, both with the time left."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
QUIET_SECONDS = 5.0
_last: contextvars.ContextVar[list[float] | None] = contextvars.ContextVar("_last", default=None)


def time_text(seconds: float) -> str:
    """Seconds as "4 s", "3:07 min" or "2:05 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = divmod(whole, 60), divmod(whole // 60, 60)
    return f"{minutes[0]}:{minutes[1]:02d} min" if whole < 3600 else f"{hours[0]}:{hours[1]:02d} h"


def print_line(line: str) -> None:
    """Print a line at once, so that a pipe or a log shows it when it happens."""
    print(line, flush=True)


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """In here `counted` tells how far it is; command lines are, and notebooks, whose pages would show it, are not."""
    before = _last.set([time.monotonic()])
    try:
        yield
    finally:
        _last.reset(before)


def counted(items: Sequence[T], what: str) -> Iterator[T]:
    """The items one by one; within `telling` a line on standard error says how many, whenever that takes seconds.

    Args:
        what: is done to them, as in "reading runs".
    """
    last, began = _last.get(), time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if last is not None and now - max(last[0], began) > QUIET_SECONDS:
            last[0], elapsed = now, now - began
            left = f", {time_text(elapsed / done * (len(items) - done))} left" if done else ""
            print(
                f"{what}: {done:,} of {len(items):,} ({time_text(elapsed)} so far{left})", file=sys.stderr, flush=True
            )
        yield item


def updating_display() -> Callable[[str], None]:
    """A sink for lines that shows only the newest one, in place, in a notebook's output."""
    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(line: str) -> None:
        assert handle is not None
        handle.update({"text/plain": line}, raw=True)

    return show


class Progress:
    """Counts the steps of many runs, and says how far the whole is; safe to call from several threads.

    Args:
        steps: steps of every run that is to be trained, by run id.
        show: where lines go.
        every_evaluation: a line for every evaluation; otherwise one for every finished run, and one every few
            seconds, so that a long run does not look like a standstill.
    """

    def __init__(
        self, steps: Mapping[str, int], show: Callable[[str], None] = print_line, *, every_evaluation: bool = False
    ) -> None:
        self.steps, self.show, self.every_evaluation = dict(steps), show, every_evaluation
        self.done: dict[str, int] = {}
        self.first: dict[str, int] = {}  # where a resumed run took up: those steps cost no time now
        self.finished: set[str] = set()
        self.began = self.last = time.monotonic()
        self.guard = threading.Lock()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take a report of `lib.training.loop.train`."""
        with self.guard:
            if event["kind"] == "too large":
                self.show(f"{event['runs']} runs at once are too many for the memory of this device: half as many")
                return
            if event["kind"] == "queue":
                self.show(f"no worker has begun yet, after {time_text(event['seconds'])} in the queue")
                return
            run = event["run"]
            if event["kind"] == "waiting":
                self.show(f"{run}: another process is training it; waiting for it to end")
                return
            if event["kind"] == "alone":
                self.show(f"{run}: trained alone, since its network cannot be stacked ({event['reason']})")
                return
            self.steps.setdefault(run, event["steps"])
            if event["kind"] == "begins":
                if self.every_evaluation or not self.done or time.monotonic() - self.last > QUIET_SECONDS:
                    self._line(f"{run} begins")
                return
            if event["kind"] == "done":
                self.done[run] = self.steps[run]
                self.first.setdefault(run, self.done[run])  # without an evaluation, it was trained elsewhere
                self.finished.add(run)
                self._line(f"{run} {event['status']}")
                return
            self.first.setdefault(run, event["step"])
            self.done[run] = event["step"]
            if self.every_evaluation or time.monotonic() - self.last > QUIET_SECONDS:
                scores = {"Dice": event.get("val_dice"), "PSNR": event.get("val_psnr")}
                told = ", ".join(
                    f"validation {name} {value:.3f}" for name, value in scores.items() if value is not None
                )
                self._line(f"{run} step {event['step']}/{event['steps']}, {told}")

    def _line(self, text: str) -> None:
        self.last = time.monotonic()
        elapsed = self.last - self.began
        made = sum(self.done.values()) - sum(self.first.values())
        left = sum(self.steps.values()) - sum(self.done.values())
        remaining = f"{time_text(elapsed / made * left)} left" if made > 0 else "time left unknown yet"
        count = f"[{len(self.finished)}/{len(self.steps)} runs] " if len(self.steps) > 1 else ""
        self.show(f"{count}{text} ({time_text(elapsed)} so far, {remaining})")
