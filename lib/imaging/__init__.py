"""Physics and geometry of images, without learning: volumes, k-space, the MRI operator, classical reconstruction.

Read `volumes` and `kspace` (what files hold), `mri` (the scanner), then `coil_calibration` and `total_variation`.
"""
