"""The teaching notebooks: questions with hints, data of each student's own, a file to hand in, and its tally.

Read `answers` (how an answer is read), `session` (questions put to one student) and `hand_in`; then the module that is
named as the notebook: `cka_by_hand`, `which_layers_to_tune` (with `layer_chooser`), `do_filters_look_random` (with
`trained_or_random`) and `argue_with_the_ledger` (with `planted_results`). `classroom` packs all of it for laptops.
"""
