"""States as the plain arrays of other tools, and back.

    convention     scale, shift   mean, variance                   ddof   momentum   eps
    pytorch        weight, bias   running_mean, running_var        1      -          -
    keras          gamma, beta    moving_mean, moving_variance     0      momentum   epsilon
    flax           scale, bias    mean, var                        0      momentum   epsilon
    onnx           scale, B       input_mean, input_var            0      momentum   epsilon
    scikit-learn   -              mean_, var_; n_samples_seen_     0      -          -

Momentum is 1 minus ours everywhere but in PyTorch, whose arrays do not have it. They have num_batches_tracked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.dlpack import detached
from bnstream.core.dtypes import FLOATING, floating
from bnstream.core.moments import Moments, moments_from

Convention = Literal["pytorch", "keras", "flax", "onnx", "scikit-learn"]
Arrays = dict[str, NDArray[Any]]


class Layer(NamedTuple):
    """How a tool names what a layer has, and what it takes where an array does not tell; None: it has no such array."""

    gamma: str
    beta: str
    mean: str
    var: str
    ddof: int
    default_eps: float
    default_momentum: float
    eps: str | None = "epsilon"
    momentum: str | None = "momentum"
    n_batches: str | None = None


LAYERS = {
    "pytorch": Layer("weight", "bias", "running_mean", "running_var", 1, 1e-5, 0.1, None, None, "num_batches_tracked"),
    "keras": Layer("gamma", "beta", "moving_mean", "moving_variance", 0, 1e-3, 0.99),
    "flax": Layer("scale", "bias", "mean", "var", 0, 1e-5, 0.99),
    "onnx": Layer("scale", "B", "input_mean", "input_var", 0, 1e-5, 0.9),
}
SCALER = ("mean_", "var_", "n_samples_seen_")
SCALER_EXTRAS = ("scale_", "n_features_in_", "feature_names_in_")


def to_arrays(state: Moments | BatchNorm, convention: Convention, *, dtype: DTypeLike | None = None) -> Arrays:
    """A state as the arrays of another tool, by its names.

    Parameters
    ----------
    state : Moments or BatchNorm
        Of channels of one axis. Moments become a layer of gamma 1 and beta 0, whose running estimates are the exact
        statistics, as if of one batch; eps and momentum are left to the tool.
    convention : {"pytorch", "keras", "flax", "onnx", "scikit-learn"}
    dtype : dtype, optional
        Of all arrays of floating numbers, but the settings. By default gamma and beta keep theirs, bfloat16 becomes
        float32, and the statistics are float64. ONNX Runtime needs the same for all.

    Returns
    -------
    dict of str to ndarray
        Copies, of shape (channels,); settings and counts are of shape ().

    Raises
    ------
    TypeError
        If `state` is something else, or `dtype` not floating.
    ValueError
        If there are no data, or too few for the variance; channels of several axes; for scikit-learn a layer without
        pooled statistics.

    See Also
    --------
    from_arrays : the way back.

    Notes
    -----
    PyTorch stores the variance with ddof 1, the others with ddof 0. Where n is known, of Moments and of a layer whose
    running estimates are its pooled statistics, the variance is exactly that of the convention; that of other running
    estimates is passed on as it is. A StandardScaler gets the pooled statistics of a layer, not its running estimates;
    its scale_ is 1 where the variance is 0.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.exchange import to_arrays
    >>> m = bnstream.Moments().update(np.array([[1.0], [3.0]]))
    >>> {name: values.tolist() for name, values in to_arrays(m, "keras").items()}
    {'gamma': [1.0], 'beta': [0.0], 'moving_mean': [2.0], 'moving_variance': [1.0]}
    >>> to_arrays(m, "pytorch")["running_var"].tolist()
    [2.0]
    """
    if not isinstance(state, Moments | BatchNorm):
        raise TypeError(f"expected a Moments or a BatchNorm, got {type(state).__name__}")
    if dtype is not None:
        dtype = floating(dtype)
    if convention == "scikit-learn":
        arrays = to_scaler(state)
    elif isinstance(state, Moments):
        arrays = moments_to_layer(state, layer_of(convention))
    else:
        arrays = batchnorm_to_layer(state, layer_of(convention))
    for name, values in arrays.items():
        if values.dtype.name == "bfloat16" or (values.dtype.kind == "f" and values.ndim and dtype is not None):
            arrays[name] = values.astype(np.float32 if dtype is None else dtype)
    return arrays


def from_arrays(
    arrays: Mapping[str, ArrayLike], convention: Convention, *, prefix: str | None = None, **settings: Any
) -> Any:
    """A state from the arrays of another tool.

    Parameters
    ----------
    arrays : mapping of str to array_like
        By the names of the tool. Those of one layer may have a prefix and be among others, as in PyTorch's state_dict
        of a network; tensors are welcome.
    convention : {"pytorch", "keras", "flax", "onnx", "scikit-learn"}
    prefix : str, optional
        Which layer, "bn1." for "bn1.weight"; needed where there are several.
    **settings
        For `BatchNorm`, before what the arrays say: eps, momentum (in our sense), channel_axis, names, ...

    Returns
    -------
    BatchNorm or Moments
        Moments of scikit-learn's, a layer in training mode of the others. eps and momentum are those of the arrays,
        else the tool's defaults; num_batches_tracked where it is not told is 1.

    Raises
    ------
    ValueError
        If arrays are missing or not expected, do not fit each other, or hold what they cannot. The message says what
        was expected and what came.

    See Also
    --------
    to_arrays : the way back.

    Examples
    --------
    >>> from bnstream.exchange import from_arrays
    >>> bn = from_arrays({"gamma": [2.0], "beta": [0.0], "moving_mean": [5.0], "moving_variance": [4.0],
    ...                   "momentum": 0.9, "epsilon": 0.0}, "keras")
    >>> bn.momentum, bn.eval()([[7.0]]).tolist()
    (0.1, [[2.0]])
    """
    return import_arrays(arrays, convention, prefix=prefix, **settings)[0]


def import_arrays(
    arrays: Mapping[str, ArrayLike], convention: Convention, *, prefix: str | None = None, **settings: Any
) -> tuple[Any, list[str]]:
    """What `from_arrays` answers, and what the arrays did not tell, for `save`.

    Parameters
    ----------
    arrays, convention, prefix, **settings
        As for `from_arrays`.

    Returns
    -------
    state : BatchNorm or Moments
    lacks : list of str
        "n", "eps", "momentum", ...: unknown, or taken from the defaults of the tool.

    Raises
    ------
    ValueError
        As `from_arrays`.

    Examples
    --------
    >>> from bnstream.exchange import import_arrays
    >>> import_arrays({"running_mean": [5.0], "running_var": [4.0]}, "pytorch")[1]
    ['n', 'num_batches_tracked', 'eps', 'momentum']
    """
    if convention == "scikit-learn":
        if settings:
            raise ValueError(f"scikit-learn's arrays become Moments, which have no {', '.join(settings)}")
        given = chosen(arrays, SCALER, SCALER_EXTRAS, prefix)
        return from_scaler(given), ["mean_lo", "m2_lo"]
    layer = layer_of(convention)
    required = (layer.mean, layer.var, *((layer.gamma, layer.beta) if convention == "onnx" else ()))
    others = (layer.gamma, layer.beta, layer.eps, layer.momentum, layer.n_batches)
    given = chosen(arrays, required, [name for name in others if name and name not in required], prefix)
    return from_layer(given, layer, settings)


def layer_of(convention: str) -> Layer:
    if convention not in LAYERS:
        raise ValueError(f"convention must be one of {', '.join((*LAYERS, 'scikit-learn'))}, got {convention!r}")
    return LAYERS[convention]


def require_channels(m: Moments) -> int:
    """How many, of statistics that are of one axis of channels."""
    if m.shape is None:
        raise ValueError("the statistics are empty: no batch has come yet")
    if len(m.shape) != 1:
        raise ValueError(f"expected statistics with channels of one axis, got shape {m.shape}")
    return m.shape[0]


def known_var(m: Moments, ddof: int) -> NDArray[np.float64]:
    least = np.min(m.effective_n)
    if least <= ddof:
        raise ValueError(f"a channel has {least:g} values, too few for the variance with ddof {ddof} that is the "
                         "convention here; give more data")
    return m.var(ddof)


def moments_to_layer(m: Moments, layer: Layer) -> Arrays:
    n_channels = require_channels(m)
    arrays: Arrays = {layer.gamma: np.ones(n_channels), layer.beta: np.zeros(n_channels), layer.mean: m.mean,
                      layer.var: known_var(m, layer.ddof)}
    if layer.n_batches:
        arrays[layer.n_batches] = np.array(1)
    return arrays


def batchnorm_to_layer(bn: BatchNorm, layer: Layer) -> Arrays:
    pooled, var = bn.pooled, bn.running_var.copy()
    if pooled is not None and pooled.shape is not None and np.array_equal(
        var, pooled.var(bn.running_ddof), equal_nan=True
    ):
        var = known_var(pooled, layer.ddof)
    arrays: Arrays = {} if bn.gamma is None else {layer.gamma: bn.gamma.copy(), layer.beta: bn.beta.copy()}
    if bn.gamma is None and layer == LAYERS["onnx"]:        # which cannot do without
        arrays = {layer.gamma: np.ones(bn.num_features), layer.beta: np.zeros(bn.num_features)}
    arrays |= {layer.mean: bn.running_mean.copy(), layer.var: var}
    if layer.eps:
        arrays[layer.eps] = np.array(bn.eps)
    if layer.momentum and bn.momentum is not None:
        arrays[layer.momentum] = np.array(float(1 - Decimal(str(bn.momentum))))
    if layer.n_batches:
        arrays[layer.n_batches] = np.array(bn.num_batches_tracked)
    return arrays


def to_scaler(state: Moments | BatchNorm) -> Arrays:
    m = state if isinstance(state, Moments) else state.pooled
    if m is None:
        raise ValueError("running estimates do not tell of how many values they are, and scikit-learn's "
                         "n_samples_seen_ does; make the layer with track_pooled=True, or recalibrate it and convert "
                         "the Moments")
    require_channels(m)
    var = m.var()
    n = np.asarray(m.n)
    arrays: Arrays = {"mean_": m.mean, "var_": var, "scale_": np.where(var == 0, 1.0, np.sqrt(var)),
              "n_samples_seen_": n.flat[:1].reshape(()) if (n == n.flat[0]).all() else n}
    names = state.names or m.names
    if names:
        arrays["feature_names_in_"] = np.array(names)
    return arrays


def from_scaler(given: Arrays) -> Moments:
    mean, var, n = (numbers(given, name) for name in SCALER)
    if mean.ndim != 1 or var.shape != mean.shape or n.shape not in ((), mean.shape):
        raise ValueError("expected mean_ and var_ of one shape (features,) and n_samples_seen_ of this shape or (), "
                         f"got {told(given)}")
    if not ((n >= 0) & (n < 2**53)).all():
        raise ValueError(f"n_samples_seen_ must be numbers from 0 to 2**53, got {n}")
    if (var < 0).any():
        raise ValueError(f"var_ must not be negative, got {var.min()}")
    counts = np.broadcast_to(n, mean.shape)
    state = np.stack([counts, mean, np.zeros_like(mean), var * counts, np.zeros_like(mean)])
    state[1:, counts == 0] = 0
    if (n != np.rint(n)).any():     # of a fit with sample_weight, whose squares nobody knows: as if they were 1
        state = np.concatenate([state, [np.zeros_like(mean), counts]])
    if not np.isfinite(state).all():
        raise ValueError(f"mean_ and var_ must be finite where n_samples_seen_ is not 0, got mean_ {mean}, var_ {var}")
    names = given.get("feature_names_in_")
    # scikit-learn leaves NaN out; it counts each feature once there was one.
    return moments_from(state, nan_policy="omit" if n.ndim else "raise",
                        names=None if names is None else [str(name) for name in names.ravel()])


def from_layer(given: Arrays, layer: Layer, settings: dict[str, Any]) -> tuple[BatchNorm, list[str]]:
    shape = given[layer.mean].shape
    vectors = [name for name in (layer.gamma, layer.beta, layer.mean, layer.var) if name in given]
    if len(shape) != 1 or not shape[0] or any(numbers(given, name).shape != shape for name in vectors):
        raise ValueError(f"expected {', '.join(vectors)} of one shape (channels,), got {told(given)}")
    found = {"eps": layer.default_eps, "momentum": layer.default_momentum}
    if layer.eps in given:
        found["eps"] = float(decimal(given, layer.eps))
    if layer.momentum is not None:
        theirs = decimal(given, layer.momentum) if layer.momentum in given else Decimal(str(layer.default_momentum))
        found["momentum"] = float(1 - theirs)
    parameters = [given[name] for name in vectors[:-2]]
    dtypes = [values.dtype for values in parameters if values.dtype.name in FLOATING]
    bn = BatchNorm(shape[0], **{
        "affine": bool(parameters), "dtype": np.result_type(*dtypes).name if dtypes else "float32",
        "running_ddof": layer.ddof, **found, **settings,
    })
    state = {"running_mean": given[layer.mean], "running_var": given[layer.var],
             "num_batches_tracked": given.get(layer.n_batches or "", np.array(1))}
    if bn.affine:
        state["weight"], state["bias"] = given.get(layer.gamma, np.ones(shape)), given.get(layer.beta, np.zeros(shape))
    bn.load_state_dict(state)
    lacks = ["n", *([] if layer.n_batches in given else ["num_batches_tracked"])]
    lacks += [name for name, array in (("eps", layer.eps), ("momentum", layer.momentum))
              if array not in given and name not in settings]
    return bn, lacks


def chosen(
    arrays: Mapping[str, ArrayLike], required: Sequence[str], optional: Sequence[str], prefix: str | None
) -> Arrays:
    """Those of one layer, without its prefix."""
    if prefix is None:
        first = required[0]
        ends = {name.removesuffix(first) for name in arrays if name.endswith(first)}
        ends = {end for end in ends if end[-1:] in ("", ".", "/")}
        prefixes = sorted(end for end in ends if all(end + name in arrays for name in required))
        if len(prefixes) > 1:
            raise ValueError(f"there are several layers; choose one with prefix=, of {', '.join(map(repr, prefixes))}")
        prefix = prefixes[0] if prefixes else ""
    own = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    given = {name: detached(values) for name, values in own.items() if "." not in name and "/" not in name}
    if not given.keys() >= set(required) or given.keys() - {*required, *optional}:
        may = f", and optionally {', '.join(optional)}" if optional else ""
        came = ", ".join(list(own)[:20]) + (f" and {len(own) - 20} more" if len(own) > 20 else "")
        raise ValueError(f"expected the arrays {', '.join(required)}{may}, got {came or 'none'}")
    return given


def numbers(given: Arrays, name: str) -> NDArray[Any]:
    values = given[name]
    if values.dtype.kind not in "fiu" and values.dtype.name != "bfloat16":
        raise ValueError(f"{name} must be of real numbers, got {told(given)}")
    return values


def decimal(given: Arrays, name: str) -> Decimal:
    """A setting as it is written: so 1 - 0.9 is 0.1, of float32, too."""
    values = numbers(given, name)
    if values.size != 1:
        raise ValueError(f"{name} must be one number, got {told(given)}")
    return Decimal(str(values.reshape(())[()]))


def told(given: Arrays) -> str:
    return ", ".join(f"{name} {values.dtype} {values.shape}" for name, values in given.items())
