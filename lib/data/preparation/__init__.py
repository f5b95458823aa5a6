"""From originals, or a user's own folder, to a prepared folder: fetched, verified, converted, checked.

Read `originals`, `fetch`, `prepare` (with `dataset_recipes` and `conversion`), then `own_folder` and `checks`.
"""
