"""States and layers for tests, and the bits of a state."""

from bnstream import BatchNorm, Moments
from bnstream.core.moments import rows_of


def state(*batches, **options):
    """Return Moments after one update for each batch."""
    m = Moments(**options)
    for batch in batches:
        m.update(batch)
    return m


def layer(gamma, beta=None, **options):
    """Return a layer of float64 with these parameters."""
    bn = BatchNorm(len(gamma), dtype="f8", **options)
    bn.gamma = gamma
    if beta is not None:
        bn.beta = beta
    return bn


def bits(m):
    """Return the bytes of all rows of a state."""
    return rows_of(m).tobytes()
