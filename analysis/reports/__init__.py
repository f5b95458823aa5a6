"""Notebooks executed and rendered: pages, tables beside them, and a gallery in front.

Read `parameters` (what will run), `execution` (one notebook), `pages` and `page_parts` (one page), `build` (a whole
suite), and what a notebook calls: `given` (its parameters in a running kernel) and `published` (figures and tables).
"""

from __future__ import annotations

from analysis.reports.given import check_parameters
from analysis.reports.published import publish

__all__ = ["check_parameters", "publish"]
