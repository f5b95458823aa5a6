"""What every package stands on: errors, command lines, registries, paths, devices, seeds, progress and provenance.

Read `errors` and `paths`; the others stand alone.
"""
