"""What a user's own folder of pictures and one of volumes have in common: names, groups, values of masks, the card.

Read `pairing`, then `mask_values`.
"""
