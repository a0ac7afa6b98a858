"""Layer, RMS, group and instance norm without a layer: functions of one array, and their backward passes.

    layer_norm, rms_norm    the rows of x, over its last axes
    group_norm              groups of the channels of each instance, (N, C, ...)
    instance_norm           each channel of each instance
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.checks import eps_of, integer, number
from bnstream.core.dlpack import as_numpy
from bnstream.core.forward import Forward, replace
from bnstream.core.functional import batch_norm, batch_norm_vjp, running_rows
from bnstream.core.gradient import Backward, gradient_dtype
from bnstream.core.instances import channel_forward, instance_axis, row_forward
from bnstream.core.moments import Moments
from bnstream.core.rows import M2, MEAN, N

Result = NDArray[Any]


def layer_norm(
    x: ArrayLike, normalized_shape: int | Sequence[int], gamma: ArrayLike | None = None, beta: ArrayLike | None = None,
    eps: float = 1e-5, *, out: Result | None = None, n_threads: int | None = None,
) -> Result:
    """Normalize every row of x by its own mean and variance, over the last axes.

    Parameters
    ----------
    x : array_like
        Real numbers of any dtype, strides and byte order. It is read in place, never copied whole.
    normalized_shape : int or tuple of int
        The last lengths of `x`, those that are reduced over.
    gamma, beta : array_like, optional
        Scale and shift of each element of a row, of shape `normalized_shape`; by default 1 and 0.
    eps : float, default 1e-5
        Added to the variance.
    out : ndarray, optional
        Where the result goes: of the shape of `x` and the dtype of the result. It may be `x` itself.
    n_threads : int, optional
        The maximum number of threads; by default `get_num_threads()`.

    Returns
    -------
    ndarray
        `out`, or a new array with the memory layout of `x`; in the dtype of `x` if that is floating, else float32.

    Raises
    ------
    TypeError
        If `x` or a parameter is not of real numbers, or `normalized_shape` is not of ints.
    ValueError
        If `x` does not end in `normalized_shape`, or a parameter has another shape; if `eps` is negative, or `out`
        cannot be used; if float64 values or their squares sum to more than float64 can hold.

    See Also
    --------
    layer_norm_vjp : the same with a backward pass.
    LayerNorm : the same as a layer.

    Notes
    -----
    ``y = (x - mean) / sqrt(var + eps) * gamma + beta`` [1]_ with ``ddof=0``, in double precision and rounded once to
    the dtype of the result. float32 is within one ulp of the exact value, however far the data lies from 0. Where the
    two terms cancel, it is within 2**-50 of the larger one.

    The bits of a row depend on its own values alone: not on the number of rows, on the other rows, on the layout of `x`
    or on the number of threads. NaN and inf stay in their row. A row without variance becomes beta, and where
    ``var + eps`` is 0 it is centered and not divided.

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> bnstream.layer_norm(np.array([[1.0, 3.0], [1e8, 1e8 + 2]]), 2).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    forward = row_forward(x, normalized_shape, gamma, beta, eps, False, result_only=True)
    return forward.train(out, "propagate", n_threads)


def layer_norm_vjp(
    x: ArrayLike, normalized_shape: int | Sequence[int], gamma: ArrayLike | None = None, beta: ArrayLike | None = None,
    eps: float = 1e-5, *, n_threads: int | None = None,
) -> tuple[Result, Backward]:
    """Normalize as `layer_norm`, and return the backward pass as a function.

    Parameters
    ----------
    x, normalized_shape, gamma, beta, eps, n_threads
        As for `layer_norm`.

    Returns
    -------
    y : ndarray
        As `layer_norm` returns it.
    backward : Backward
        ``dx, grad_gamma, grad_beta = backward(dy)``. It holds x and what else it needs, and may be called more than
        once. The gradient of a parameter has its shape, and is None if the parameter was None.

    Raises
    ------
    TypeError, ValueError
        As for `layer_norm`.

    Notes
    -----
    The gradients of gamma and beta do not depend on the number of threads, and dx of a row only on that row.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> y, backward = bnstream.layer_norm_vjp(np.array([[1.0, 3.0, 5.0]]), 3, beta=np.zeros(3))
    >>> dx, grad_gamma, grad_beta = backward(np.array([[1.0, 0.0, 0.0]]))
    >>> dx.round(3).tolist(), grad_gamma, grad_beta.tolist()
    ([[0.102, -0.204, 0.102]], None, [1.0, 0.0, 0.0])
    """
    return with_backward(row_forward(x, normalized_shape, gamma, beta, eps, False), gamma, beta, n_threads)


def rms_norm(
    x: ArrayLike, normalized_shape: int | Sequence[int], gamma: ArrayLike | None = None, eps: float | None = None, *,
    out: Result | None = None, n_threads: int | None = None,
) -> Result:
    """Divide every row of x by its root mean square, over the last axes.

    Parameters
    ----------
    x, normalized_shape, gamma, out, n_threads
        As for `layer_norm`.
    eps : float, optional
        Added to the mean square; by default the eps of float64 for `x` of float64, else that of float32, as in PyTorch.

    Returns
    -------
    ndarray
        As `layer_norm` returns it.

    Raises
    ------
    TypeError, ValueError
        As for `layer_norm`.

    See Also
    --------
    rms_norm_vjp : the same with a backward pass.
    RMSNorm : the same as a layer.

    Notes
    -----
    ``y = x / sqrt(mean(x**2) + eps) * gamma`` [1]_, with the accuracy of `layer_norm` and its promise on bits.

    References
    ----------
    .. [1] B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", 2019.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> bnstream.rms_norm(np.array([[3.0, 4.0]]), 2).round(3).tolist()
    [[0.849, 1.131]]
    """
    forward = row_forward(x, normalized_shape, gamma, None, eps, True, result_only=True)
    return forward.train(out, "propagate", n_threads)


def rms_norm_vjp(
    x: ArrayLike, normalized_shape: int | Sequence[int], gamma: ArrayLike | None = None, eps: float | None = None, *,
    n_threads: int | None = None,
) -> tuple[Result, Backward]:
    """Normalize as `rms_norm`, and return the backward pass as a function.

    Parameters
    ----------
    x, normalized_shape, gamma, eps, n_threads
        As for `rms_norm`.

    Returns
    -------
    y : ndarray
        As `rms_norm` returns it.
    backward : Backward
        As for `layer_norm_vjp`; the gradient of beta is None.

    Raises
    ------
    TypeError, ValueError
        As for `rms_norm`.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> y, backward = bnstream.rms_norm_vjp(np.array([[3.0, 4.0]]), 2, gamma=np.ones(2))
    >>> backward(np.array([[0.0, 1.0]]))[1].round(3).tolist()
    [0.0, 1.131]
    """
    return with_backward(row_forward(x, normalized_shape, gamma, None, eps, True), gamma, None, n_threads)


def group_norm(
    x: ArrayLike, num_groups: int, gamma: ArrayLike | None = None, beta: ArrayLike | None = None, eps: float = 1e-5, *,
    channel_axis: int = 1, where: ArrayLike | None = None, out: Result | None = None, n_threads: int | None = None,
) -> Result:
    """Normalize every group of channels of every instance by its own mean and variance.

    Parameters
    ----------
    x : array_like
        Real numbers, as for `layer_norm`, of at least 2 dimensions. Axis 0 holds the instances.
    num_groups : int
        The number of groups, a divisor of the number of channels. Neighboring channels are a group.
    gamma, beta : array_like, optional
        Scale and shift of each channel, of shape (channels,); by default 1 and 0.
    eps, out, n_threads
        As for `layer_norm`.
    channel_axis : int, default 1
        The axis of the channels; -1 for (N, H, W, C).
    where : array_like of bool, optional
        The elements to use, marked True: of the shape of `x` without the channel axis, or any that broadcasts against
        `x`. The others, such as padding, may hold anything; their result and their gradient are 0. A group with
        nothing selected is 0 throughout, and one with a single value selected becomes beta there.

    Returns
    -------
    ndarray
        As `layer_norm` returns it.

    Raises
    ------
    TypeError
        If `x` or a parameter is not of real numbers, `where` is not of bool, or `num_groups` is not an int.
    ValueError
        If `num_groups` does not divide the number of channels, a parameter has another shape, `channel_axis` is out of
        range or 0, or `where` does not broadcast; as for `layer_norm`.

    See Also
    --------
    group_norm_vjp : the same with a backward pass.
    GroupNorm : the same as a layer.

    Notes
    -----
    The formula and accuracy are those of `layer_norm`, over the channels of a group and the other axes after axis 0
    [1]_. The bits of an instance do not depend on other instances, their number or layout, or on threads. They may
    depend on whether its channels or its positions are neighbors in memory, on the byte order, and on
    whether there is a mask. A group of one value becomes beta.

    References
    ----------
    .. [1] Y. Wu, K. He, "Group Normalization", 2018.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> x = np.array([[[1.0, 3.0], [1.0, 3.0], [5.0, 5.0], [7.0, 7.0]]])
    >>> bnstream.group_norm(x, 2).round(2).tolist()
    [[[-1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]]]
    """
    groups = integer("num_groups", num_groups, first=1)
    forward = group_forward(x, groups, gamma, beta, eps, channel_axis, where)
    return forward.train(out, "propagate", n_threads)


def group_norm_vjp(
    x: ArrayLike, num_groups: int, gamma: ArrayLike | None = None, beta: ArrayLike | None = None, eps: float = 1e-5, *,
    channel_axis: int = 1, where: ArrayLike | None = None, n_threads: int | None = None,
) -> tuple[Result, Backward]:
    """Normalize as `group_norm`, and return the backward pass as a function.

    Parameters
    ----------
    x, num_groups, gamma, beta, eps, channel_axis, where, n_threads
        As for `group_norm`.

    Returns
    -------
    y : ndarray
        As `group_norm` returns it.
    backward : Backward
        As for `layer_norm_vjp`.

    Raises
    ------
    TypeError, ValueError
        As for `group_norm`.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> y, backward = bnstream.group_norm_vjp(np.array([[[1.0, 3.0], [5.0, 7.0]]]), 1, gamma=[1.0, 1.0])
    >>> dx, grad_gamma, grad_beta = backward(np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    >>> dx.round(3).tolist(), grad_gamma.round(3).tolist()
    ([[[0.134, -0.179], [-0.045, 0.089]]], [-1.342, 0.0])
    """
    groups = integer("num_groups", num_groups, first=1)
    return with_backward(group_forward(x, groups, gamma, beta, eps, channel_axis, where), gamma, beta, n_threads)


def instance_norm(
    x: ArrayLike, running_mean: ArrayLike | None = None, running_var: ArrayLike | None = None,
    gamma: ArrayLike | None = None, beta: ArrayLike | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5, *, channel_axis: int = 1, where: ArrayLike | None = None, out: Result | None = None,
    n_threads: int | None = None,
) -> Result:
    """Normalize every channel of every instance by its own mean and variance, or by running estimates.

    Parameters
    ----------
    x, gamma, beta, eps, channel_axis, where, out, n_threads
        As for `group_norm`.
    running_mean, running_var : array_like or None
        Of shape (channels,). With `use_input_stats` they are updated in place: floating arrays, or both None.
    use_input_stats : bool, default True
        Normalize by the statistics of the instances; else by the running estimates, as `batch_norm` does.
    momentum : float, default 0.1
        The weight of the batch in the running estimates: that of the mean of its instances' means, and of their
        variances with ``ddof=1``, as in PyTorch.

    Returns
    -------
    ndarray
        As `layer_norm` returns it.

    Raises
    ------
    TypeError
        As for `group_norm`; if only one of the running estimates is given, or one to update is not an array.
    ValueError
        As for `group_norm`; with `use_input_stats`, if a channel of an instance has only one value, or if there is NaN
        or inf, which running estimates would keep.

    See Also
    --------
    instance_norm_vjp : the same with a backward pass.
    InstanceNorm : the same as a layer.

    Notes
    -----
    This is `group_norm` with one channel in each group [1]_.

    References
    ----------
    .. [1] D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization",
       2016.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> bnstream.instance_norm(np.array([[[1.0, 3.0], [10.0, 30.0]]])).round(2).tolist()
    [[[-1.0, 1.0], [-1.0, 1.0]]]
    """
    if not use_input_stats:
        require_estimates(running_mean, running_var)
        return batch_norm(x, running_mean, running_var, gamma, beta, eps=eps, channel_axis=channel_axis, where=where,
                          out=out, n_threads=n_threads)
    forward = instance_forward(x, gamma, beta, eps, channel_axis, where)
    return train_instances(forward, running_mean, running_var, momentum, out, n_threads)


def instance_norm_vjp(
    x: ArrayLike, running_mean: ArrayLike | None = None, running_var: ArrayLike | None = None,
    gamma: ArrayLike | None = None, beta: ArrayLike | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5, *, channel_axis: int = 1, where: ArrayLike | None = None, n_threads: int | None = None,
) -> tuple[Result, Backward]:
    """Normalize as `instance_norm`, and return the backward pass as a function.

    Parameters
    ----------
    x, running_mean, running_var, gamma, beta, use_input_stats, momentum, eps, channel_axis, where, n_threads
        As for `instance_norm`.

    Returns
    -------
    y : ndarray
        As `instance_norm` returns it.
    backward : Backward
        As for `layer_norm_vjp`.

    Raises
    ------
    TypeError, ValueError
        As for `instance_norm`.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> y, backward = bnstream.instance_norm_vjp(np.array([[[1.0, 3.0, 5.0]]]))
    >>> backward(np.array([[[1.0, 0.0, 0.0]]]))[0].round(3).tolist()
    [[[0.102, -0.204, 0.102]]]
    """
    if not use_input_stats:
        require_estimates(running_mean, running_var)
        return batch_norm_vjp(x, running_mean, running_var, gamma, beta, eps=eps, channel_axis=channel_axis,
                              where=where, n_threads=n_threads)
    forward = instance_forward(x, gamma, beta, eps, channel_axis, where)
    y = train_instances(forward, running_mean, running_var, momentum, None, n_threads)
    return y, Backward(forward, (gradient_dtype(gamma), gradient_dtype(beta)))


def with_backward(
    forward: Forward, gamma: ArrayLike | None, beta: ArrayLike | None, n_threads: int | None
) -> tuple[Result, Backward]:
    """The result of a forward, and its backward pass."""
    y = forward.train(None, "propagate", n_threads)
    return y, Backward(forward, (gradient_dtype(gamma), gradient_dtype(beta)))


def group_forward(
    x: ArrayLike, num_groups: int | None, gamma: ArrayLike | None, beta: ArrayLike | None, eps: float,
    channel_axis: int, where: ArrayLike | None,
) -> Forward:
    """A forward of group norm, or of instance norm without a number of groups."""
    x = as_numpy(x)
    n_channels = x.shape[instance_axis(x, channel_axis)]
    groups = max(1, n_channels) if num_groups is None else num_groups
    if n_channels % groups:
        raise ValueError(f"num_groups must divide the number of channels, {n_channels} along axis {channel_axis} of x "
                         f"of shape {x.shape}, got {num_groups}")
    return channel_forward(x, n_channels, groups, gamma, beta, eps_of("eps", eps), channel_axis, where)


def instance_forward(
    x: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None, eps: float, channel_axis: int,
    where: ArrayLike | None,
) -> Forward:
    """A forward of instance norm. Raise ValueError if a channel of an instance has one value, whose variance is 0."""
    forward = group_forward(x, None, gamma, beta, eps, channel_axis, where)
    require_several(forward)
    return forward


def require_estimates(running_mean: Any, running_var: Any) -> None:
    """Raise TypeError unless there are running estimates to normalize by."""
    if running_mean is None or running_var is None:
        raise TypeError("use_input_stats=False needs running_mean and running_var, got None; pass them, or leave "
                        "use_input_stats=True")


def require_several(forward: Forward) -> None:
    """Raise ValueError if a channel of an instance has one value."""
    x: Any = forward.x
    if 0 < x.size == len(x) * forward.instance:
        raise ValueError("instance norm needs at least 2 values in each channel of an instance, got one from x of "
                         f"shape {x.shape}; use layer_norm or group_norm, or running estimates")


def train_instances(
    forward: Forward, running_mean: Any, running_var: Any, momentum: float, out: Result | None, n_threads: int | None
) -> Result:
    """Normalize instances by their own statistics, and update running estimates in place."""
    if running_mean is None and running_var is None:
        return forward.train(out, "propagate", n_threads)
    weight = momentum_of("momentum", momentum)
    rows = running_rows(running_mean, running_var, forward.instance)
    y = forward.train(out, "raise", n_threads)
    with np.errstate(all="ignore"):         # Too large for the dtype is inf, as in the kernels.
        moved = moved_estimates(np.stack(rows), weight, instance_averages(forward))
        replace([running_mean, running_var], [moved[0].astype(running_mean.dtype), moved[1].astype(running_var.dtype)])
    return y


def momentum_of(name: str, value: Any) -> float:
    """The weight of a batch in running estimates."""
    return number(name, value, "from 0 to 1, the weight of the batch", lambda weight: 0 <= weight <= 1)


def instance_averages(forward: Forward, before: Moments | None = None) -> Moments:
    """Moments of mean and variance with ``ddof=1``, one value for each instance: of all means, then of all variances.

    Those of other instances `before` are added. A channel of which fewer than two values are selected does not count.
    """
    n_instances = forward.n_channels // max(1, forward.instance)
    n, mean, m2 = forward.statistics()[[N, MEAN, M2]].reshape(3, n_instances, forward.instance)
    several = n >= 2
    values = np.concatenate([
        np.where(several, mean, np.nan), np.where(several, m2, np.nan) / np.where(several, n - 1, 1)], axis=1)
    return (Moments(nan_policy="omit") if before is None else before.copy()).update(values)


def moved_estimates(running: Result, weight: float | None, averages: Moments) -> Result:
    """Running mean and variance, (2, channels), moved by averages of instances; replaced by them without a weight."""
    if averages.shape is None:
        return running
    new = np.reshape(averages.mean, running.shape)
    if weight is not None:
        new = (1 - weight) * running + weight * new
    return np.where(np.reshape(averages.n, running.shape) > 0, new, running)
