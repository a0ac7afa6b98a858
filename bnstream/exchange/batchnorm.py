"""The arrays of a batch normalization layer, by the names of a tool."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.batchnorm import BatchNorm, running_of
from bnstream.core.dtypes import FLOATING, NamedArrays
from bnstream.core.moments import Moments
from bnstream.exchange.arrays import as_decimal, as_numbers, described
from bnstream.exchange.names import LayerNames


def require_channels(m: Moments) -> int:
    """The number of channels of statistics, which must lie along one axis."""
    if m.shape is None:
        raise ValueError("the statistics are empty; update them with a batch first")
    if len(m.shape) != 1:
        raise ValueError(f"expected statistics with channels along one axis, got channels of shape {m.shape}")
    return m.shape[0]


def var_of(m: Moments, ddof: int) -> NDArray[np.float64]:
    least = np.min(m.effective_n)
    if least <= ddof:
        raise ValueError(f"the variance of this convention has ddof {ddof} and needs n > {ddof} in every channel, got "
                         f"n = {least:g}; give more data")
    var = m.var(ddof)
    if np.isinf(var).any():
        raise ValueError(f"the variance of channel {np.argmax(np.isinf(var))} exceeds float64, and a layer cannot hold "
                         "it; scale the data down")
    return var


def moments_to_layer(m: Moments, names: LayerNames) -> NamedArrays:
    n_channels = require_channels(m)
    arrays: NamedArrays = {names.gamma: np.ones(n_channels), names.beta: np.zeros(n_channels), names.mean: m.mean,
                           names.var: var_of(m, names.ddof)}
    if names.n_batches:
        arrays[names.n_batches] = np.array(1)
    return arrays


def batchnorm_to_layer(bn: BatchNorm, names: LayerNames) -> NamedArrays:
    running_of(bn).require_possible()
    pooled, var = bn.pooled, bn.running_var.copy()
    if pooled is not None and pooled.shape is not None and np.array_equal(
        var, pooled.var(bn.running_ddof), equal_nan=True
    ):
        var = var_of(pooled, names.ddof)
    arrays: NamedArrays = {}
    for name, values, identity in ((names.gamma, bn.gamma, 1.0), (names.beta, bn.beta, 0.0)):
        if values is not None:
            arrays[name] = values.copy()
        elif names.needs_affine:
            arrays[name] = np.full(bn.num_features, identity)
    arrays |= {names.mean: bn.running_mean.copy(), names.var: var}
    if names.eps:
        arrays[names.eps] = np.array(bn.eps)
    if names.momentum and bn.momentum is not None:
        arrays[names.momentum] = np.array(float(1 - Decimal(str(bn.momentum))))
    if names.n_batches:
        arrays[names.n_batches] = np.array(bn.num_batches_tracked)
    return arrays


def from_layer(arrays: NamedArrays, names: LayerNames, settings: dict[str, Any]) -> tuple[BatchNorm, list[str]]:
    """A layer, and what the arrays do not tell, as for `import_arrays`."""
    shape = arrays[names.mean].shape
    vectors = [name for name in (names.gamma, names.beta, names.mean, names.var) if name in arrays]
    if len(shape) != 1 or not shape[0] or any(as_numbers(arrays, name).shape != shape for name in vectors):
        raise ValueError(f"expected {', '.join(vectors)} of one shape (channels,), got {described(arrays)}")
    dtypes = [arrays[name].dtype for name in vectors[:-2] if arrays[name].dtype.name in FLOATING]
    parts = {"scale": names.gamma in arrays, "bias": names.beta in arrays}
    bn = BatchNorm(shape[0], **{
        **({} if "affine" in settings else parts), "dtype": np.result_type(*dtypes).name if dtypes else "float32",
        "running_ddof": names.ddof, **eps_and_momentum(arrays, names), **settings,
    })
    state = {"running_mean": arrays[names.mean], "running_var": arrays[names.var],
             "num_batches_tracked": arrays.get(names.n_batches or "", np.array(1))}
    if bn.gamma is not None:
        state["weight"] = arrays.get(names.gamma, np.ones(shape))
    if bn.beta is not None:
        state["bias"] = arrays.get(names.beta, np.zeros(shape))
    bn.load_state_dict(state)
    lacks = ["n", *([] if names.n_batches in arrays else ["num_batches_tracked"])]
    lacks += [setting for setting, name in (("eps", names.eps), ("momentum", names.momentum))
              if name not in arrays and setting not in settings]
    return bn, lacks


def eps_and_momentum(arrays: NamedArrays, names: LayerNames) -> dict[str, float]:
    """The settings as `BatchNorm` takes them: those of the arrays, or the defaults of the tool."""
    eps, momentum = names.default_eps, names.default_momentum
    if names.eps in arrays:
        eps = float(as_decimal(arrays, names.eps))
    if names.momentum is not None:
        theirs = as_decimal(arrays, names.momentum) if names.momentum in arrays else Decimal(str(momentum))
        momentum = float(1 - theirs)
    return {"eps": eps, "momentum": momentum}
