"""The rows of a state: their names, which state files use, and their places."""

ROWS = ("n", "mean", "mean_lo", "m2", "m2_lo")
WEIGHTED_ROWS = (*ROWS, "n_lo", "sum_of_squared_weights")
N, MEAN, MEAN_LO, M2, M2_LO, N_LO, SQUARES = range(len(WEIGHTED_ROWS))
