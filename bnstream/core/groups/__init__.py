"""Statistics by group: `GroupedMoments`, and what reads and writes it.

    keys   -> keycolumns -> keys       the distinct keys of a batch, and for each row the place of its key among them
    batch  -> batch -> sums            the rows of each group, added to copies of the states of the groups
    states, index                      the states of all groups, and the place of each key
    results, table, arrangement        arrays and tables of all groups; the groups of single columns
    affine, domainbatchnorm            normalization of each row by its group; a layer for each group
"""
