"""What a kind of faults has at hand for one injection."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults.originals import Originals
from faults.processes import Child
from faults.study import Study


@dataclass
class Try:
    """One injection: where it happens and by what chance, and `note`, what exactly was done."""

    study: Study
    place: Path
    draw: random.Random
    originals: Originals
    home: Path = field(init=False)
    step: str = ""
    note: str = ""
    landed: bool = True
    wrong: str = ""

    def begin(self, *steps: str) -> list[str]:
        """Choose one of these steps, of those that the study did, and lay out the home that it begins with.

        Returns:
            The command.
        """
        self.step = self.draw.choice([each for each in steps if each in self.study.outcomes])
        self.home = self.study.home_before(self.step, self.place)
        return self.study.command(self.step, self.home, self.originals.address)

    def moment(self) -> int:
        """The number of an event of the step."""
        return self.draw.randint(1, self.study.events[self.step])


Inject = Callable[[Try], list[Child]]
