"""Could these filters be a fresh random draw? A battery of tests, its calibration and its controls.

Read `layer_tests` (each test and its null distribution; `classifier_test` is one of them), `battery` (all tests on all
layers), `calibration` (level and power), then `kernel_patterns` and `pretrained_networks` (positive controls).
"""
