"""States and layers for tests: some to begin with, one of every kind for the state files, and the bits of each."""

import numpy as np
from support.arrays import BFLOAT16, normal

from bnstream import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, Moments, RMSNorm
from bnstream.core.moments import rows_of
from bnstream.core.running import RunningEstimates


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


def bits(state):
    """All bits of a state. The last x and the gradients of a layer are not part of it."""
    if isinstance(state, Moments) and state.exact:
        return repr((state.axis, state.nan_policy)), state.digest()
    if isinstance(state, Moments):
        rows, axis, policy, names = rows_of(state), state.axis, state.nan_policy, state.names
        digest = state.digest() if state.exact else None
        return repr((axis, policy, names)), None if rows is None else (rows.shape, rows.tobytes()), digest
    values = {**state.__getstate__(), "grad_gamma": None, "grad_beta": None}
    return {name: bits(value) if isinstance(value, Moments) else
            (value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else
            value.rows.tobytes() if isinstance(value, RunningEstimates) else repr(value)
            for name, value in values.items()}


def holed():
    """A Moments that has omitted NaN, with awkward names."""
    x = normal((30, 3))
    x[normal((30, 3), 1) > 0.5] = np.nan
    x[:, 2] = np.nan
    return Moments(nan_policy="omit", names=["a", "", "\u00e9\udc80\n"]).update(x)


def trained(n=3, **options):
    """A layer with parameters, after three batches."""
    bn = BatchNorm(n, **options)
    if bn.gamma is not None:
        bn.gamma = np.arange(n) - 1.3
    if bn.beta is not None:
        bn.beta = np.arange(n) / 7
    for i in range(3):
        bn(normal((20, n), i) * (i + 1) + i)
    return bn


def instances_of(layer):
    """The layer with parameters, after two batches of instances (2, 3)."""
    for values in (layer.gamma, layer.beta):
        if values is not None:
            values[...] = normal(values.shape)
    for i in range(2):
        layer(normal((4, 2, 3), i) + i)
    return layer


def recalibrated():
    """A layer with the statistics of other data."""
    bn = trained(track_pooled=True)
    bn.recalibrate(Moments((0, 2), names=["x", "y", "z"]).update(normal((5, 3, 4))))
    return bn.eval()


def set_estimates(bn):
    """Assign NaN and inf to the running estimates."""
    bn.running_mean, bn.running_var = [np.nan, 1, -np.inf], [0, np.nan, np.inf]
    return bn


SAVED = {
    "empty": lambda: Moments(),
    "empty, named": lambda: Moments(-1, names=["a", "b"]),
    "one channel": lambda: Moments(None).update(normal((7, 2))),
    "columns": lambda: Moments(names=["a", "b"]).update(normal((7, 2))),
    "many updates": lambda: Moments().update(normal((7, 2)) + 1e15).update(normal((70, 2), 1) / 3),
    "images": lambda: Moments((0, -1), nan_policy="propagate").update(normal((4, 3, 5, 2))),
    "holes": holed,
    "NaN and inf": lambda: Moments(nan_policy="propagate").update([[np.nan, np.inf, 1e200], [1.0, 2.0, -1e200]]),
    "merged": lambda: Moments().update(np.ones((2, 3))).merge(holed()),
    "exact": lambda: Moments(exact=True, names=["a", "b", "c"]).update(normal((7, 3)) * [1e-200, 1, 1e200]),
    "exact, empty": lambda: Moments(exact=True, nan_policy="omit"),
    "exact, NaN and inf": lambda: Moments(exact=True, nan_policy="propagate").update(
        [[np.nan, np.inf, 1e200], [0, 2, -0.5]]),
    "new layer": lambda: BatchNorm(3),
    "layer": trained,
    "named layer": lambda: trained(names=["a", "b", "c"], channel_axis=-1).eval(),
    "one feature": lambda: trained(1, dtype="float64"),
    "momentum=None": lambda: trained(momentum=None),
    "pooled": lambda: trained(track_pooled=True, running_ddof=0),
    "pooled, omit": lambda: trained(track_pooled=True, nan_policy="omit", dtype="float16"),
    "pooled, exact": lambda: trained(track_pooled="exact", momentum=None, nan_policy="omit"),
    "no affine": lambda: trained(affine=False, running_ddof=0.5),
    "no beta": lambda: trained(bias=False),
    "no gamma": lambda: trained(scale=False, dtype=BFLOAT16),
    "mixed precision": lambda: trained(result_dtype=BFLOAT16),
    "bfloat16": lambda: trained(dtype=BFLOAT16, eps=0.1),
    "renorm": lambda: trained(renorm=True, r_max=float("inf"), d_max=2),
    "virtual batches": lambda: trained(virtual_batch=10),
    "recalibrated": recalibrated,
    "layer norm": lambda: instances_of(LayerNorm((2, 3), 1e-3, bias=False)),
    "RMS norm": lambda: instances_of(RMSNorm(3, dtype=BFLOAT16, names=["a", "b", "c"])),
    "group norm": lambda: instances_of(GroupNorm(1, 2, channel_axis=-2, result_dtype="f2").eval()),
    "instance norm": lambda: instances_of(InstanceNorm(2, affine=True)),
    "instance norm, tracked": lambda: instances_of(InstanceNorm(2, 1e-4, 0.3, track_running_stats=True)),
    "instance norm, averaged": lambda: instances_of(InstanceNorm(2, 1e-4, None, True, True, dtype="f8")),
    "set from outside": lambda: set_estimates(BatchNorm(3, nan_policy="propagate")),
}
