"""Batch normalization as a layer: gamma, beta and the running estimates, kept from call to call."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.diagnosis import Diagnosis
from bnstream.core.dlpack import as_numpy, detached
from bnstream.core.dtypes import floating, is_floating, is_real
from bnstream.core.forward import Forward, batch_statistics, infer, move, standardize
from bnstream.core.late import late
from bnstream.core.moments import Moments, moments_from, rows_of
from bnstream.core.rows import ROWS

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class BatchNorm:
    """Batch normalization over all axes but that of the channels.

    Parameters
    ----------
    num_features : int
        How many channels.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        The weight of a batch in the running estimates: ``running = (1 - momentum) * running + momentum * batch``,
        PyTorch's sense; what Keras, Flax and ONNX call momentum is 1 minus this. None: the running estimates are the
        exact statistics of all batches together, as if they were one.
    affine : bool, default True
        Have gamma and beta, a scale and a shift of each channel.
    channel_axis : int, default 1
        The axis of the channels in every x.
    dtype : dtype, default "float32"
        Of gamma, beta and their gradients: float16, bfloat16, float32 or float64. The running estimates are float64.
    running_ddof : float, default 1
        The variance that goes into `running_var` is divided by ``n - running_ddof``: 1 as in PyTorch, 0 as elsewhere.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        What training does about NaN and inf: refuse the batch; leave these elements out of the statistics, with a
        gradient of 0; or let them through, into the running estimates, too.
    track_pooled : bool, default False
        Keep the exact statistics of all batches beside running estimates with a momentum, in `pooled`.
    renorm : bool, default False
        Batch Renormalization [2]_, for small batches: in training, too, normalize by the running estimates, as far as
        `r_max` and `d_max` let them differ from those of the batch.
    r_max, d_max : float, default 3.0, 5.0
        The most by which the sd of a batch may differ, as a ratio, and its mean, in running sd. Both may be set between
        calls: 1 and 0 at the start of a training are plain batch normalization.
    names : sequence of str, optional
        Names of the channels.

    Attributes
    ----------
    gamma, beta : ndarray or None
        Of shape (num_features,), 1 and 0 at first; None without `affine`. Always the same arrays: they may be changed
        in place, and setting them copies into them.
    running_mean, running_var : ndarray of float64
        Of shape (num_features,), 0 and 1 at first; likewise.
    grad_gamma, grad_beta : ndarray or None
        The gradients that the last `backward` found; not summed up.
    num_batches_tracked : int
        How many batches are in the running estimates.
    pooled : Moments or None
        The exact statistics of all batches in training, if tracked.
    training : bool
        The mode: True at first.
    names : tuple of str or None
        Names of the channels; they may be set, and have no part in ``==``.
    num_features, channel_axis, dtype, affine, nan_policy
        As given. `eps`, `momentum`, `running_ddof`, `renorm`, `r_max` and `d_max` may be set.

    See Also
    --------
    batch_norm, normalize : the same without a state.
    Moments : the exact statistics alone.

    Notes
    -----
    Training: ``y = (x - mean) / sqrt(var + eps) * gamma + beta`` by mean and variance (``ddof=0``) of the batch;
    inference: by the running estimates [1]_. In double precision, rounded once to the dtype of x: float32 is within one
    ulp of the exact value, however far the data lies from 0; where beta cancels the rest, within 2**-50 of it. The bits
    are the same for any number of threads.

    A call that raises leaves parameters, estimates and gradients as they were. The layer keeps a reference to the last
    x, for `backward`: do not change that array in between. Several threads may call one layer; `backward` belongs to
    the thread that called it last. It pickles and copies, without that reference.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
       Shift", 2015.
    .. [2] S. Ioffe, "Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models", 2017.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> bn = bnstream.BatchNorm(1, dtype="float64")
    >>> bn(np.array([[2.0], [4.0], [6.0], [8.0]])).round(2).ravel().tolist()
    [-1.34, -0.45, 0.45, 1.34]
    >>> bn.running_mean.tolist(), bn.eval()(np.array([[2.0]])).round(2).tolist()
    ([0.5], [[1.2]])
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        channel_axis: int = 1,
        dtype: DTypeLike = "float32",
        running_ddof: float = 1,
        nan_policy: Literal["raise", "omit", "propagate"] = "raise",
        track_pooled: bool = False,
        renorm: bool = False,
        r_max: float = 3.0,
        d_max: float = 5.0,
        names: Iterable[str] | None = None,
    ) -> None:
        self.num_features = operator.index(num_features)
        if self.num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        self.channel_axis = operator.index(channel_axis)
        self.dtype = floating(dtype)
        self.eps, self.momentum, self.running_ddof = eps, momentum, running_ddof
        self.affine, self.renorm, self.r_max, self.d_max = bool(affine), bool(renorm), r_max, d_max
        pooled = Moments(nan_policy=nan_policy)
        self.pooled = pooled if track_pooled or momentum is None else None
        self.nan_policy = pooled.nan_policy
        self._gamma: Any = np.ones(self.num_features, self.dtype) if affine else None
        self._beta: Any = np.zeros(self.num_features, self.dtype) if affine else None
        self.training = True
        self.names = names
        self.grad_gamma: Any = None
        self.grad_beta: Any = None
        self._forward: Forward | None = None
        self._running = np.empty((6, self.num_features))
        self.reset_running_stats()

    # Parameters and estimates are checked once, where they are set, and not at each call.

    def _checked(self, name: str, values: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
        new = detached(values)
        if not is_real(new.dtype):
            raise TypeError(f"{name} must be of real numbers, got dtype {new.dtype}")
        if new.shape != (self.num_features,):
            raise ValueError(f"{name} must have shape ({self.num_features},), got {new.shape}")
        if name == "running_var" and (new < 0).any():
            raise ValueError(f"running_var must not be negative, got {new.min()}")
        with np.errstate(all="ignore"):
            return new.astype(dtype)

    @property
    def gamma(self) -> Any:
        return self._gamma

    @gamma.setter
    def gamma(self, values: ArrayLike) -> None:
        self._require_affine("gamma")
        self._gamma[:] = self._checked("gamma", values, self.dtype)

    @property
    def beta(self) -> Any:
        return self._beta

    @beta.setter
    def beta(self, values: ArrayLike) -> None:
        self._require_affine("beta")
        self._beta[:] = self._checked("beta", values, self.dtype)

    @property
    def running_mean(self) -> NDArray[np.float64]:
        return self._running[0]

    @running_mean.setter
    def running_mean(self, values: ArrayLike) -> None:
        self._set_running(0, self._checked("running_mean", values, np.float64))

    @property
    def running_var(self) -> NDArray[np.float64]:
        return self._running[1]

    @running_var.setter
    def running_var(self, values: ArrayLike) -> None:
        self._set_running(1, self._checked("running_var", values, np.float64))

    def _set_running(self, row: int, values: NDArray[np.float64]) -> None:
        """From outside: nothing is left of the start, and nobody knows how many values are in them."""
        self._running[row] = values
        self._running[2:4] = [[math.nan], [0.0]]

    @property
    def eps(self) -> float:
        return self._eps

    @eps.setter
    def eps(self, value: float) -> None:
        if not 0 <= value < math.inf:
            raise ValueError(f"eps must be a finite number of at least 0, got {value}")
        self._eps = float(value)

    @property
    def momentum(self) -> float | None:
        return self._momentum

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        if value is not None and not 0 <= value <= 1:
            raise ValueError("momentum must be from 0 to 1, the weight of the new batch, or None for the exact "
                             f"statistics of all batches, got {value}")
        if value is None and getattr(self, "pooled", self) is None:
            raise ValueError("momentum=None needs the statistics from the first batch on; make the layer with it, or "
                             "with track_pooled=True")
        self._momentum = None if value is None else float(value)

    @property
    def running_ddof(self) -> float:
        return self._running_ddof

    @running_ddof.setter
    def running_ddof(self, value: float) -> None:
        if not 0 <= value < 2:
            raise ValueError(f"running_ddof must be 1 as in PyTorch, or 0, got {value}")
        self._running_ddof = value

    @property
    def r_max(self) -> float:
        return self._r_max

    @r_max.setter
    def r_max(self, value: float) -> None:
        if not value >= 1:
            raise ValueError(f"r_max must be at least 1, the largest ratio of two sd, got {value}")
        self._r_max = float(value)

    @property
    def d_max(self) -> float:
        return self._d_max

    @d_max.setter
    def d_max(self, value: float) -> None:
        if not value >= 0:
            raise ValueError(f"d_max must be at least 0, the largest distance of two means in sd, got {value}")
        self._d_max = float(value)

    @property
    def names(self) -> tuple[str, ...] | None:
        return self._names

    @names.setter
    def names(self, names: Iterable[str] | None) -> None:
        checked: tuple[str, ...] | None = Moments(names=names).names
        if checked is not None and len(checked) != self.num_features:
            raise ValueError(f"{len(checked)} names do not fit {self.num_features} channels")
        self._names = checked

    def _require_affine(self, name: str) -> None:
        if not self.affine:
            raise ValueError(f"this layer has no {name}; make it with affine=True")

    def reset_running_stats(self) -> None:
        """Forget the running estimates: mean 0, variance 1, no batch.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1)
        >>> bn.running_mean = [3.0]
        >>> bn.reset_running_stats()
        >>> bn.running_mean.tolist()
        [0.0]
        """
        # mean, var; of the weights w of the batches in them the sum of w**2 / n, and the weight of this start; mean and
        # var of the last batch
        self._running[:] = [[0.0], [1.0], [0.0], [1.0], [np.nan], [np.nan]]
        self.num_batches_tracked = 0
        if self.pooled is not None:
            self.pooled = Moments(nan_policy=self.nan_policy)

    def train(self, mode: bool = True) -> Self:
        """Go to training mode, or with ``mode=False`` to inference mode.

        Parameters
        ----------
        mode : bool, default True

        Returns
        -------
        BatchNorm
            Itself.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.BatchNorm(3).train(False).training
        False
        """
        self.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Go to inference mode: calls normalize by the running estimates, and change nothing.

        Returns
        -------
        BatchNorm
            Itself.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.BatchNorm(3).eval().training
        False
        """
        return self.train(False)

    def __call__(
        self, x: ArrayLike, out: NDArray[Any] | None = None, *, where: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Normalize x: in training by its own statistics, which then move the running estimates, else by these.

        Parameters
        ----------
        x : array_like
            Numbers of any dtype but complex, of at least 2 dimensions, with the layer's channels along `channel_axis`;
            any strides. It is read in place, and kept for `backward`.
        out : ndarray, optional
            Where the result goes: of the shape of `x` and the dtype of the result. It may be `x` itself; then there is
            no backward.
        where : array_like of bool, optional
            Which batch positions count, as True: of the shape of `x` without the channel axis, as (N, L) for sequences
            (N, channels, L), or with 1 for any axis. The others, padding, may hold anything; their result is 0, and in
            `backward` their gradient.

        Returns
        -------
        ndarray
            `out`, or a new array laid out as `x`; in the dtype of `x` if that is floating, else float32.

        Raises
        ------
        TypeError
            If `x` is not of real numbers, `where` not of bool, or `out` is no plain array.
        ValueError
            If `x` has other channels, `where` another shape, or `out` another shape or dtype, is read-only or overlaps
            `x` in part; in training, if there are not two values in each channel, or NaN or inf under
            ``nan_policy="raise"``.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.BatchNorm(1)(np.array([[1.0], [3.0]])).round(2).ravel().tolist()
        [-1.0, 1.0]
        """
        self._forward = None
        if not self.training:
            y, self._forward = infer(
                x, self._running, self._gamma, self._beta, self._eps, self.channel_axis, out, where
            )
            return y
        if self.renorm:
            y, forward = self._renormalize(x, out, where)
        else:
            y, forward = standardize(
                x, self._running, self._gamma, self._beta, self._eps, self.channel_axis, out, self.nan_policy, where
            )
        if self.pooled is not None:
            self._pool(self.pooled, forward)
        move(forward, self._running, self._momentum, self._running_ddof)
        self.num_batches_tracked += 1
        self._forward = forward
        return y

    def _renormalize(
        self, x: ArrayLike, out: NDArray[Any] | None, where: ArrayLike | None
    ) -> tuple[NDArray[Any], Forward]:
        """Batch Renormalization: xhat * r + d, where r and d are constants in backward."""
        forward = batch_statistics(
            x, self._running, self._gamma, self._beta, self._eps, self.channel_axis, self.nan_policy, where
        )
        n, mean, _, m2, _, gamma, beta = forward.statistics()
        sd = np.sqrt(self._running[1] + self._eps)
        r, d = np.ones(self.num_features), np.zeros(self.num_features)
        if self._running[3, 0] < 1:     # there are estimates
            with np.errstate(all="ignore"):
                r = np.clip(np.sqrt(m2 / n + self._eps) / sd, 1 / self.r_max, self.r_max)
                d = np.clip((mean - self._running[0]) / sd, -self.d_max, self.d_max)
        beta += gamma * d
        gamma *= r
        y = forward.apply(out)
        forward.ratio = r, d
        return y, forward

    def _pool(self, pooled: Moments, forward: Forward) -> None:
        """A batch into the pooled statistics."""
        pooled.merge(moments_from(forward.statistics()[:len(ROWS)], nan_policy=self.nan_policy))
        seen = None
        while self._momentum is None and seen != pooled:    # a batch of another thread may come in between
            seen = pooled.copy()
            self._use(seen)

    def _use(self, moments: Moments) -> None:
        """Make the running estimates those of the given statistics."""
        if moments.shape != (self.num_features,):
            told = "no data" if moments.shape is None else f"channels of shape {moments.shape}"
            raise ValueError(f"expected statistics of {self.num_features} channels, got {told}")
        if self.nan_policy != "propagate" and not np.isfinite(moments.mean + moments.m2).all():
            raise ValueError("there is NaN or inf in the statistics; leave such data out, or make the layer with "
                             "nan_policy='propagate'")
        n = np.broadcast_to(moments.effective_n, self.num_features)
        if n.min() <= self.running_ddof:
            raise ValueError(f"the variance of a channel with {n.min():g} values is not known; give more data")
        self._running[:4] = moments.mean, moments.var(self.running_ddof), 1 / n, np.zeros(self.num_features)

    def backward(self, dy: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The gradients of x, gamma and beta in the last call.

        Parameters
        ----------
        dy : array_like
            The gradient of the result, of its shape.
        out : ndarray, optional
            Where the gradient of x goes: of its shape and the dtype of the result. It may be `dy`, or x itself.

        Returns
        -------
        ndarray
            The gradient of x. Those of gamma and beta are in `grad_gamma` and `grad_beta`, in the layer's dtype, with
            ``affine``.

        Raises
        ------
        RuntimeError
            If there was no call before, or it raised, or `backward` has been called for it already, or that call was
            another thread's or wrote its result over x.
        ValueError
            If `dy` has another shape, or `out` cannot be used, as in a call.

        Notes
        -----
        In training ``dx = gamma / sqrt(var + eps) * (dy - grad_beta / n - xhat * grad_gamma / n)``, in inference
        ``dy * gamma / sqrt(var + eps)``; sums in double precision. gamma is as it was in the call.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1, dtype="float64")
        >>> _ = bn(np.array([[2.0], [4.0], [6.0], [8.0]]))
        >>> bn.backward(np.array([[1.0], [0.0], [0.0], [0.0]])).round(2).ravel().tolist()
        [0.13, -0.18, -0.04, 0.09]
        >>> bn.grad_gamma.round(2).tolist(), bn.grad_beta.tolist()
        ([-1.34], [1.0])
        """
        forward = self._forward
        if forward is None:
            raise RuntimeError("backward needs a call of the layer before it, and only one backward for each call")
        dx, (grad_beta, grad_gamma) = forward.backward(dy, out)
        if forward.ratio is not None:
            r, d = forward.ratio
            grad_gamma = r * grad_gamma + d * grad_beta
        if self.affine:
            with np.errstate(all="ignore"):         # too large for the dtype is inf, here as in the kernels
                self.grad_gamma, self.grad_beta = grad_gamma.astype(self.dtype), grad_beta.astype(self.dtype)
        if self._forward is forward:                # and not another thread's call since
            self._forward = None
        return dx

    def recalibrate(self, batches: Iterable[ArrayLike] | Moments) -> Moments:
        """Make the running estimates the exact statistics of all values of a stream.

        Parameters
        ----------
        batches : iterable of array_like, or Moments
            Arrays as for a call, any number of them, each with any number of values; or the statistics themselves, as
            this method answers them on another worker.

        Returns
        -------
        Moments
            Those statistics. Of several workers they add up: ``bn.recalibrate(sum(parts, Moments()))``.

        Raises
        ------
        TypeError, ValueError
            As `Moments.update`; also if there is no data, or other channels. The estimates are then as they were.

        Notes
        -----
        Counts and the variance between batches have their part, which an average of the variances of batches leaves
        out. `running_ddof` holds here, too. `num_batches_tracked` becomes the number of batches, where these
        are given. In a network recalibrate one layer after the other: what a layer sees depends on those before it.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1, running_ddof=0)
        >>> bn.recalibrate([np.array([[1.0], [2.0]]), np.array([[6.0]])]).n.tolist()
        [3]
        >>> bn.running_mean.tolist(), bn.running_var.round(4).tolist()
        ([3.0], [4.6667])
        """
        count = self.num_batches_tracked
        if hasattr(batches, "__array__"):
            told = type(batches).__name__
            raise TypeError(f"expected several batches, got one {told}; put a single batch into a list")
        if isinstance(batches, Moments):
            moments = batches.copy()
        else:
            moments = Moments(nan_policy=self.nan_policy)
            count = 0
            for batch in batches:
                moments.merge(self._moments_of(as_numpy(batch)))
                count += 1
        self._use(moments)
        self._running[4:] = math.nan
        self.num_batches_tracked = count
        if self.pooled is not None:
            self.pooled = moments.copy()
        return moments

    def _moments_of(self, x: NDArray[Any]) -> Moments:
        """Those of a batch, of any length."""
        axis = self.channel_axis + x.ndim if self.channel_axis < 0 else self.channel_axis
        if x.ndim < 2 or not 0 <= axis < x.ndim:
            raise ValueError(f"expected an array of at least 2 dimensions with an axis {self.channel_axis}, got shape "
                             f"{x.shape}")
        if x.shape[axis] != self.num_features:
            raise ValueError(f"expected {self.num_features} channels along axis {self.channel_axis}, got "
                             f"{x.shape[axis]} from x of shape {x.shape}")
        return Moments(tuple(i for i in range(x.ndim) if i != axis), nan_policy=self.nan_policy).update(x)

    def fold(
        self, weight: ArrayLike, bias: ArrayLike | None = None, *, channel_axis: int = 0
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Weight and bias of a linear layer or a convolution that does this layer's inference, too, when it comes
        before it.

        Parameters
        ----------
        weight : array_like
            Of any rank.
        bias : array_like, optional
            Of shape (num_features,); by default 0.
        channel_axis : int, default 0
            The axis of the weight's output channels: 0 in PyTorch, -1 in Keras.

        Returns
        -------
        weight, bias : ndarray
            New arrays, in the dtype of `weight` if that is floating, else float32.

        Raises
        ------
        ValueError
            If `weight` or `bias` has not as many output channels.

        Notes
        -----
        ``weight * s`` and ``(bias - running_mean) * s + beta`` with ``s = gamma / sqrt(running_var + eps)``, of any
        sign, in double precision.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1, eps=0)
        >>> bn.running_mean, bn.running_var = [1.0], [4.0]
        >>> weight, bias = bn.fold(np.array([[6.0, 8.0]]), [3.0])
        >>> weight.tolist(), bias.tolist()
        ([[3.0, 4.0]], [1.0])
        """
        w = detached(weight)
        if not is_real(w.dtype):
            raise TypeError(f"weight must be of real numbers, got dtype {w.dtype}")
        dtype = w.dtype if is_floating(w.dtype) else np.dtype(np.float32)
        if not -w.ndim <= channel_axis < w.ndim or w.shape[channel_axis] != self.num_features:
            raise ValueError(f"weight must have {self.num_features} output channels along axis {channel_axis}, got "
                             f"shape {w.shape}; channel_axis says which axis holds them")
        b = np.zeros(self.num_features) if bias is None else self._checked("bias", bias, np.float64)
        scale = np.ones(self.num_features) if self._gamma is None else self._gamma.astype(np.float64)
        with np.errstate(all="ignore"):
            scale /= np.sqrt(self._running[1] + self._eps)
        shift = 0.0 if self._beta is None else self._beta.astype(np.float64)
        new_bias = (b - self._running[0]) * scale + shift
        columns = scale.reshape([-1 if axis == channel_axis % w.ndim else 1 for axis in range(w.ndim)])
        with np.errstate(all="ignore"):
            return (w.astype(np.float64) * columns).astype(dtype), new_bias.astype(dtype)

    def diagnose(self) -> Diagnosis:
        """Per channel: what the running estimates are worth, and how far they are from the data.

        Returns
        -------
        Diagnosis
            `effective_n`, `initial_weight`, `condition`, `mean_drift`, `var_drift`, `mean_gap`, `sd_gap`. NaN are the
            drift where the pooled statistics are not tracked or a channel is constant, the gap before the first batch,
            and `effective_n` of estimates that were loaded.

        Notes
        -----
        A running estimate is a weighted sum of those of the batches. Its effective n is ``sum(w)**2 / sum(w**2 / n)``,
        that of a plain mean whose variance is the same, after Kish; 19 batches of n at momentum 0.1, however many there
        were.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1)
        >>> for _ in range(100):
        ...     _ = bn(np.array([[1.0], [3.0]]))
        >>> bn.diagnose().effective_n.round(1).tolist()
        [38.0]
        """
        spread, initial, mean, var = self._running[2:]
        sd = np.sqrt(self._running[1] + self._eps)
        mean_drift = var_drift = np.full(self.num_features, np.nan)
        with np.errstate(all="ignore"):
            if self.pooled is not None and self.pooled.shape is not None:
                varies = np.where(self.pooled.m2 > 0, 1.0, np.nan)
                mean_drift = (self._running[0] - self.pooled.mean) / self.pooled.std() * varies
                var_drift = self._running[1] / self.pooled.var(self.running_ddof) * varies
            mean_gap = (mean - self._running[0]) / sd
            sd_gap = np.sqrt(var + self._eps) / sd
            effective_n = np.where(initial < 1, (1 - initial) ** 2 / spread, 0)
            condition = np.abs(self._running[0]) / np.sqrt(self._running[1])
        return Diagnosis(effective_n, float(initial[0]), condition, mean_drift, var_drift, mean_gap, sd_gap)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Parameters and running estimates, by PyTorch's names.

        Returns
        -------
        dict of str to ndarray
            "weight" (gamma) and "bias" (beta) with `affine`; "running_mean", "running_var", "num_batches_tracked"; and
            "pooled", five rows, where the pooled statistics are tracked. Copies.

        Examples
        --------
        >>> import bnstream
        >>> sorted(bnstream.BatchNorm(3).state_dict())
        ['bias', 'num_batches_tracked', 'running_mean', 'running_var', 'weight']
        """
        state: dict[str, NDArray[Any]] = {}
        if self._gamma is not None and self._beta is not None:
            state = {"weight": self._gamma.copy(), "bias": self._beta.copy()}
        state["running_mean"], state["running_var"] = self._running[0].copy(), self._running[1].copy()
        state["num_batches_tracked"] = np.array(self.num_batches_tracked, np.int64)
        if self.pooled is not None:
            rows = rows_of(self.pooled)
            state["pooled"] = np.zeros((5, self.num_features)) if rows is None else rows
        return state

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Take over parameters and running estimates.

        Parameters
        ----------
        state : mapping of str to array_like
            What `state_dict` answers, here or in PyTorch, whose tensors are welcome. Without "pooled" the pooled
            statistics start anew, and the count of batches, too, where the estimates are made from them; a layer that
            does not track them leaves "pooled" aside.

        Raises
        ------
        ValueError
            If a name is missing or not expected, or a shape is another. The layer is then as it was.

        Examples
        --------
        >>> import bnstream
        >>> bn = bnstream.BatchNorm(3)
        >>> bn.load_state_dict(bnstream.BatchNorm(3, momentum=0.5).state_dict())
        """
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("running_mean", "running_var"), (self.num_features,))
        shapes["num_batches_tracked"] = ()
        if self.affine:
            shapes |= dict.fromkeys(("weight", "bias"), (self.num_features,))
        given = {name: detached(values) for name, values in state.items()}
        rows = given.pop("pooled", None)
        if given.keys() != shapes.keys():
            raise ValueError(f"expected {sorted(shapes)} in the state, got {sorted(state)}; make the layer with "
                             "affine=True for one with weight and bias, without for one that lacks them")
        for name, values in given.items():
            if values.shape != shapes[name] or not is_real(values.dtype):
                raise ValueError(f"{name} must be numbers of shape {shapes[name]}, got {values.dtype}, {values.shape}")
        if (given["running_var"] < 0).any():
            raise ValueError(f"running_var must not be negative, got {given['running_var'].min()}")
        count = given["num_batches_tracked"]
        if not 0 <= count < 2**63 or count != np.rint(count):
            raise ValueError(f"num_batches_tracked must be a whole number, got {count}")
        if rows is not None and (rows.shape != (5, self.num_features) or rows.dtype != np.float64):
            raise ValueError(f"pooled must be float64 of {(5, self.num_features)}, got {rows.dtype} of {rows.shape}")
        if rows is not None and not ((rows[0] >= 0) & (rows[0] < 2**63) & ~(rows[3] < 0)).all():
            raise ValueError("pooled must hold counts and sums of squares, which are not negative")
        if self._momentum is None and rows is None:
            count = np.array(0)         # none of those batches will be in the next estimates
        self.reset_running_stats()
        if self.affine:
            self.gamma, self.beta = given["weight"], given["bias"]
        self.running_mean, self.running_var = given["running_mean"], given["running_var"]
        self.num_batches_tracked = int(count)
        if not count:
            self._running[2:4] = [[0.0], [1.0]]
        if self.pooled is not None and rows is not None and rows[0].any():
            self.pooled = moments_from(rows, nan_policy=self.nan_policy)

    def copy(self) -> Self:
        """An independent layer with the same parameters and estimates, in the same mode.

        Returns
        -------
        BatchNorm

        Examples
        --------
        >>> import bnstream
        >>> bn = bnstream.BatchNorm(3)
        >>> bn.copy() == bn
        True
        """
        new = type(self).__new__(type(self))
        new.__dict__.update({
            name: value.copy() if isinstance(value, np.ndarray | Moments) else value
            for name, value in self.__getstate__().items()
        })
        return new

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = type(self).__new__(type(self))
        new.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        return new

    def __getstate__(self) -> dict[str, Any]:
        """All but the reference to the last x."""
        return {**self.__dict__, "_forward": None}

    def __eq__(self, other: object) -> bool:
        """Whether two layers have the same settings, parameters and estimates; NaN equals NaN."""
        if not isinstance(other, BatchNorm):
            return NotImplemented
        ours, theirs = self.state_dict(), other.state_dict()
        return (
            self._settings() == other._settings() and ours.keys() == theirs.keys() and
            all(np.array_equal(ours[name].astype(float), theirs[name].astype(float), equal_nan=True) for name in ours)
        )

    __hash__ = None  # type: ignore[assignment]

    def _settings(self) -> dict[str, Any]:
        names = "num_features eps momentum affine channel_axis dtype running_ddof nan_policy renorm r_max d_max"
        return {name: getattr(self, name) for name in names.split()}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items() if name != "num_features")
        settings = settings.replace(f"dtype={self.dtype!r}", f"dtype={self.dtype.name!r}")
        mode = "training" if self.training else "inference"
        return f"BatchNorm({self.num_features}, {settings}): {mode}, {self.num_batches_tracked} batches"

    plot: Callable[..., Figure] = late("bnstream.plots", "plot_moments")
    _repr_html_: Callable[..., str] = late("bnstream.core.html", "batchnorm_html")
    from_torch: Callable[..., BatchNorm] = late("bnstream.exchange.torch", "from_torch", static=True)
    to_torch: Callable[..., Any] = late("bnstream.exchange.torch", "to_torch")
    from_keras: Callable[..., BatchNorm] = late("bnstream.exchange.keras", "from_keras", static=True)
    to_keras: Callable[..., Any] = late("bnstream.exchange.keras", "to_keras")
    from_flax: Callable[..., BatchNorm] = late("bnstream.exchange.flax", "from_flax", static=True)
    to_flax: Callable[..., Any] = late("bnstream.exchange.flax", "to_flax")
    to_linen: Callable[..., tuple[Any, dict[str, Any]]] = late("bnstream.exchange.flax", "to_linen")
    from_onnx: Callable[..., BatchNorm] = late("bnstream.exchange.onnx", "from_onnx", static=True)
    to_onnx: Callable[..., Any] = late("bnstream.exchange.onnx", "to_onnx")
