"""Train segmentation networks under a transfer strategy, one reproducible run at a time."""
