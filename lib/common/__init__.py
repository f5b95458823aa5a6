"""What every package stands on: errors, registries, paths, devices, seeds, progress, provenance; read in that order."""
