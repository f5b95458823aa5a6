"""What is learned: per goal an objective, and the metrics that judge it.

Read `segmentation`, then `volume_segmentation` with `windows` for volumes, and `reconstruction`.
"""
