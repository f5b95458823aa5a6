"""How often the ledger is wrong: every test of a claim on planted tables, and whole ledgers.

Read in this order: `study` (a table whose outcomes are drawn again and again), `scene` (what is planted for a claim),
the scenes by kind (`segmentation`, `layer_sets`, `reconstruction`, `networks`), `catalog` (all of them), `shortcut`
(why thousands of studies take seconds), `measure` (rates of one scene), `whole_ledgers`, `record` (what ships, and the
command).
"""
