"""A user's own folder of volumes to a prepared folder.

Read `own_volumes` (the way), then `layouts` (which files), `survey` (what is in them) and `resampling`.
"""
