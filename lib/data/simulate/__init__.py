"""Embedded image domains drawn from physics and statistics: no network, no files, every image from its seed.

Read `fields` (random fields) and `shapes`, then a domain: `natural`, `ultrasound`, `radiograph`; `brain` and `knee`
are slices of the volumes of `anatomy`. `catalog` knows the domains by name and draws sets of them.
"""
