"""Datasets on their way to training: simulated, prepared from originals, or a user's own folder.

Read `cards` (what is known of a dataset), `prepared_folder`, then the packages: `simulate` draws images,
`preparation` converts originals, `tasks` hands images and splits to training. `cli` is `python -m lib data`.
"""
