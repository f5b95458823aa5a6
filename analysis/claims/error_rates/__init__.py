"""How often the ledger is wrong: every test of a claim on planted tables, and whole ledgers.

Read in this order: `study` (a table whose outcomes are drawn again and again), the scenes (`segmentation`, `layer_sets`,
`reconstruction`, `networks`: what is planted for each claim), `catalog` (all of them), `measure` (rates of one scene),
`whole_ledgers`, `record` (what ships, and the command).
"""
