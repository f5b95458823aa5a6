"""A network from elsewhere, from its checkpoints to the names of the layers to tune (notebook 11; no claim of its own).

Read `checkpoints` (the shipped network trained, files where they are looked for), `stage_tables`, `tuning`, then
`figures`.
"""
