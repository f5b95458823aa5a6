"""The training side: data, networks, strategies, runs. Imports nothing of `analysis`.

Read `study` for many runs, `training/loop.py` for one; below them `runs`, `strategies`, `networks` and `data`, then
`imaging` and `common`.
"""
