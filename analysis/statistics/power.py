"""The smallest effect that so many replicates would have shown."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike
from scipy import optimize
from scipy import stats as sps

from analysis.statistics.intervals import finite_values


def detectable(differences: ArrayLike, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true mean that a two-sided t test of these paired differences finds with the given power.

    Uses their number and observed SD (noncentral t); in the unit of the differences. NaN below two
    replicates.

    Raises:
        ValueError: a power outside 0.5 to 0.999.
    """
    if not 0.5 <= power <= 0.999:
        raise ValueError(f"power must be between 0.5 and 0.999, got {power}")
    x = finite_values(differences, "differences")
    if len(x) < 2:
        return math.nan
    dof = len(x) - 1
    critical = sps.t.ppf(1 - alpha / 2, dof)

    def lacking(shift: float) -> float:
        return float(sps.nct.sf(critical, dof, shift)) - power  # the far tail adds nothing at these shifts

    shift = optimize.root_scalar(lacking, bracket=(0.0, 10 * critical)).root
    return float(shift) * float(x.std(ddof=1)) / math.sqrt(len(x))
