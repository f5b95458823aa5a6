"""Tasks: what is to be learned, its images, masks and groups, and its splits.

Read `task` (what a task is, and by which name it is found), `catalog` (the simulated ones), `scans` (real volumes),
then `images`, `folds` and `splits`.
"""

from __future__ import annotations

from lib.data.tasks import catalog as catalog
from lib.data.tasks.images import first_images, images_at, load_data, load_task, standardize
from lib.data.tasks.splits import split
from lib.data.tasks.task import TASKS, Task, get_task

__all__ = [
    "TASKS", "Task", "first_images", "get_task", "images_at", "load_data", "load_task", "split", "standardize",
]  # fmt: skip
