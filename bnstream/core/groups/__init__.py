"""Statistics by group: `GroupedMoments`, and what reads and writes it.

    keys   -> keycolumns -> keys       the distinct keys of a batch, and the place of each row's among them
    batch  -> batch -> sums            the rows of each group, added to copies of the states of the groups
    states, index                      the states of all groups, and the place of each key
    arrangement, table, affine         other forms of them; normalization by them
"""
