"""Notebooks executed and rendered: pages, tables beside them, and a gallery in front.

Read `parameters` (what will run), `execution` (one notebook), `pages` (one page), `build` (a whole suite), and
`published` (what a notebook calls).
"""

from __future__ import annotations

from analysis.reports.published import publish

__all__ = ["publish"]
