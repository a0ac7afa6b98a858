"""Batch normalization as a layer: scale, shift and running estimates, kept from call to call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.batches import batch_of
from bnstream.core.checks import integer, number, real_values, require_axis
from bnstream.core.columns import require_names_in_order
from bnstream.core.diagnosis import Diagnosis
from bnstream.core.dtypes import is_floating
from bnstream.core.forward import Forward, forward_of, move_estimates, replace
from bnstream.core.labels import counted
from bnstream.core.late import late
from bnstream.core.layer import NormLayer, Setting, flag
from bnstream.core.moments import Moments, moments_from
from bnstream.core.pooled import as_pooled, batch_moments, require_finite, tracking_of
from bnstream.core.running import MEAN, VAR, RunningEstimates, divisor, require_variances
from bnstream.core.statedict import COUNT, StateDict, checked_state
from bnstream.core.threads import require_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def running_ddof_of(name: str, value: Any) -> float:
    """The ddof of running_var; an int where it is whole, as it is nearly always."""
    ddof = number(name, value, "from 0 to below 2: 1 as in PyTorch, 0 elsewhere", lambda ddof: 0 <= ddof < 2)
    return int(ddof) if ddof in (0, 1) else ddof


def virtual_batch_of(name: str, value: Any) -> int | None:
    """The rows of a virtual batch, or None for the whole batch."""
    return None if value is None else integer(name, value, first=1, last=2**63 - 1)


class BatchNorm(NormLayer):
    """Batch normalization over all axes but that of the channels.

    Parameters
    ----------
    num_features : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        The weight of a batch in the running estimates: ``running = (1 - momentum) * running + momentum * batch``, as in
        PyTorch. What Keras, Flax and ONNX call momentum is 1 minus this. None keeps the statistics of all batches
        together, as if they were one.
    affine : bool, default True
        Whether the layer has gamma and beta, a scale and a shift of each channel.
    scale, bias : bool, default True
        With `affine`, whether the layer has gamma, and whether it has beta. PyTorch has ``bias=False`` as well.
    channel_axis : int, default 1
        The axis of the channels in every x.
    dtype : dtype, default "float32"
        The dtype of gamma, beta and their gradients: float16, bfloat16, float32 or float64. The running estimates are
        float64.
    result_dtype : dtype, optional
        The dtype of results, whatever that of x, as for mixed precision in Keras (`compute_dtype`) and Flax (`dtype`):
        one of the same four. By default it is that of x, or float32 for integers.
    running_ddof : float, default 1
        `running_var` takes the variance of a batch divided by ``n - running_ddof``: 1 as in PyTorch, 0 elsewhere.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        What training does about NaN and inf: refuse the batch; leave these elements out of the statistics and give them
        a gradient of 0; or let them through, into the running estimates as well. A batch of which `where` selects
        nothing is skipped under ``"omit"``: the result and the gradients are 0, and the running estimates and
        `num_batches_tracked` stay as they were. The other policies refuse it.
    track_pooled : {False, True, "exact"}, default False
        Keep the statistics of all batches in `pooled`, beside running estimates with a momentum. "exact" keeps them as
        ``Moments(exact=True)`` does, so that they do not depend on the order and the cut of the batches; nor do the
        running estimates with ``momentum=None``. A call in training then reads x once more.
    renorm : bool, default False
        Batch Renormalization [2]_, for small batches: normalize by the running estimates in training as well, as far as
        `r_max` and `d_max` let them differ from the statistics of the batch.
    r_max, d_max : float, default 3.0, 5.0
        The largest ratio of the sd of a batch to the running sd, and the largest distance of the means in running sd.
        Both may be set between calls; 1 and 0, at the start of a training, give plain batch normalization.
    virtual_batch : int, optional
        Ghost batch normalization [3]_: in training, each part of so many rows along axis 0 is normalized by its own
        statistics, and then moves the running estimates, one after the other, as a batch of its own. It must divide the
        length of the batch; a batch that is no longer is one part. With `renorm` all parts are normalized by the
        estimates before the call.
    names : sequence of str, optional
        The names of the channels. A table with some of them as columns in another order is refused.

    Attributes
    ----------
    gamma, beta : ndarray or None
        Arrays of shape (num_features,), initially 1 and 0; None where the layer has none. Each is always the same
        array: change it in place, or assign to the attribute, which copies into it.
    running_mean, running_var : ndarray of float64
        Arrays of shape (num_features,), initially 0 and 1, which may be changed in the same two ways.
    grad_gamma, grad_beta : ndarray or None
        The gradients of the last `backward`, or the sums of those that were accumulated.
    affine, scale, bias : bool
        Whether the layer has gamma, beta, or both; whether it has gamma; whether it has beta.
    num_batches_tracked : int
        The number of batches in the running estimates.
    pooled : Moments or None
        The statistics of all batches in training, if they are tracked. They may be set, which also decides whether they
        are tracked from then on, and whether exactly.
    training : bool
        The mode, initially True.
    names : tuple of str or None
        The names of the channels. They may be set, and ``==`` ignores them.
    num_features, channel_axis, dtype, result_dtype, nan_policy, track_pooled, virtual_batch
        As given. `eps`, `momentum`, `channel_axis`, `result_dtype`, `running_ddof`, `nan_policy`, `renorm`, `r_max`,
        `d_max` and `virtual_batch` may be set; the others are read-only.

    See Also
    --------
    batch_norm, normalize : the same without a state.
    Moments : the statistics alone.

    Notes
    -----
    Training computes ``y = (x - mean) / sqrt(var + eps) * gamma + beta`` with the mean and variance (``ddof=0``) of the
    batch, inference with the running estimates [1]_, in double precision and rounded once to the dtype of x. float32 is
    within one ulp of the exact value, however far the data lies from 0; where beta cancels the rest, within 2**-50 of
    it. The bits are the same for any number of threads. Where ``var + eps`` is 0, x is centered and not divided.

    A call that raises leaves parameters, estimates and gradients as they were. From a call in training to its
    `backward` the layer keeps a reference to x: do not change that array in between. A pickle or a copy does not have
    it, and inference keeps none. Several threads may call one layer; with `vjp` each has its own backward pass.

    With `renorm` it is the running standard deviation, with eps, that moves by `momentum`, as in the paper.

    References
    ----------
    .. [1] S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
       Shift", 2015.
    .. [2] S. Ioffe, "Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models", 2017.
    .. [3] E. Hoffer, I. Hubara, D. Soudry, "Train Longer, Generalize Better: Closing the Generalization Gap in Large
       Batch Training of Neural Networks", 2017.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> bn = bnstream.BatchNorm(1, dtype="float64")
    >>> bn(np.array([[2.0], [4.0], [6.0], [8.0]])).round(2).ravel().tolist()
    [-1.34, -0.45, 0.45, 1.34]
    >>> bn.running_mean.tolist(), bn.eval()(np.array([[2.0]])).round(2).tolist()
    ([0.5], [[1.2]])
    """

    _settings = ("num_features", "eps", "momentum", "scale", "bias", "channel_axis", "dtype", "result_dtype",
                 "running_ddof", "nan_policy", "renorm", "r_max", "d_max", "virtual_batch")
    _eps: float
    _channel_axis: int
    _running_ddof: float
    _nan_policy: Literal["raise", "omit", "propagate"]
    _renorm: bool
    _virtual_batch: int | None
    channel_axis = Setting(partial(integer, first=-64, last=63))
    running_ddof = Setting(running_ddof_of)
    renorm = Setting(flag)
    r_max = Setting(partial(number, expected="at least 1, the largest ratio of two standard deviations",
                            accepts=lambda value: value >= 1))
    d_max = Setting(partial(number, expected="at least 0, the largest distance of two means in running sd",
                            accepts=lambda value: value >= 0))
    virtual_batch = Setting(virtual_batch_of)

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        scale: bool = True,
        bias: bool = True,
        channel_axis: int = 1,
        dtype: DTypeLike = "float32",
        result_dtype: DTypeLike | None = None,
        running_ddof: float = 1,
        nan_policy: Literal["raise", "omit", "propagate"] = "raise",
        track_pooled: bool | Literal["exact"] = False,
        renorm: bool = False,
        r_max: float = 3.0,
        d_max: float = 5.0,
        virtual_batch: int | None = None,
        names: Iterable[str] | None = None,
    ) -> None:
        super().__init__(
            (integer("num_features", num_features, first=1),), eps=eps, scale=affine and scale, bias=affine and bias,
            dtype=dtype, result_dtype=result_dtype, names=names,
        )
        self.channel_axis = channel_axis
        tracking = tracking_of(track_pooled) or momentum is None
        self._pooled = Moments(nan_policy=nan_policy, exact=tracking == "exact") if tracking else None
        self.momentum, self.running_ddof, self.nan_policy = momentum, running_ddof, nan_policy
        self.renorm, self.r_max, self.d_max, self.virtual_batch = renorm, r_max, d_max, virtual_batch
        self._running = RunningEstimates(self.num_features)

    @property
    def num_features(self) -> int:
        return self._shape[0]

    @property
    def num_batches_tracked(self) -> int:
        return int(self._running.n_batches[0])

    @num_batches_tracked.setter
    def num_batches_tracked(self, value: int) -> None:
        self._running.n_batches[0] = integer("num_batches_tracked", value, first=0, last=2**63 - 1)

    @property
    def running_mean(self) -> NDArray[np.float64]:
        return self._running.mean

    @running_mean.setter
    def running_mean(self, values: ArrayLike) -> None:
        self._running.assign(MEAN, self._checked("running_mean", values, np.float64))

    @property
    def running_var(self) -> NDArray[np.float64]:
        return self._running.var

    @running_var.setter
    def running_var(self, values: ArrayLike) -> None:
        checked = self._checked("running_var", values, np.float64)
        require_variances(checked)
        self._running.assign(VAR, checked)

    @property
    def momentum(self) -> float | None:
        return self._momentum

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        if value is None:
            if self._pooled is None:
                raise ValueError("momentum=None needs the statistics from the first batch on; make the layer with it, "
                                 "or with track_pooled=True")
            self._momentum = None
        else:
            expected = "from 0 to 1, the weight of the new batch, or None for the statistics of all batches together"
            self._momentum = number("momentum", value, expected, lambda weight: 0 <= weight <= 1)

    @property
    def track_pooled(self) -> bool | Literal["exact"]:
        return "exact" if self._is_exact else self._pooled is not None

    @property
    def _is_exact(self) -> bool:
        """Whether the pooled statistics are exact."""
        return self._pooled is not None and self._pooled.exact

    @property
    def pooled(self) -> Moments | None:
        return self._pooled

    @pooled.setter
    def pooled(self, value: Moments | None) -> None:
        if value is None:
            if self._momentum is None:
                raise ValueError("a layer with momentum=None needs pooled statistics, got None; set momentum first")
        else:
            self._require_pooled(value)
            value = as_pooled(value, self._nan_policy, value.exact)
        self._pooled = value

    def _require_pooled(self, value: Any) -> None:
        """Raise TypeError or ValueError unless it can be the pooled statistics."""
        if not isinstance(value, Moments):
            raise TypeError(f"pooled must be a Moments or None, got {type(value).__name__}")
        if value.shape not in (None, (self.num_features,)):
            raise ValueError(f"pooled must have channels of shape ({self.num_features},), got {value.shape}")

    @property
    def nan_policy(self) -> Literal["raise", "omit", "propagate"]:
        return self._nan_policy

    @nan_policy.setter
    def nan_policy(self, value: Literal["raise", "omit", "propagate"]) -> None:
        policy = Moments(nan_policy=value).nan_policy
        pooled = None if self._pooled is None else as_pooled(self._pooled, policy, self._is_exact)
        replace([], [], self, {"_nan_policy": policy, "_pooled": pooled})

    def reset_running_stats(self) -> None:
        """Reset the running estimates to mean 0 and variance 1, with no batch.

        Examples
        --------
        >>> import bnstream
        >>> bn = bnstream.BatchNorm(1)
        >>> bn.running_mean = [3.0]
        >>> bn.reset_running_stats()
        >>> bn.running_mean.tolist()
        [0.0]
        """
        self._become(RunningEstimates(self.num_features), self._new_pooled())

    def _new_pooled(self) -> Moments:
        """Statistics of no data, of the kind that is tracked."""
        return Moments(nan_policy=self._nan_policy, exact=self._is_exact)

    def _become(self, running: RunningEstimates, pooled: Moments, parameters: Sequence[NDArray[Any]] = ()) -> None:
        """Take over estimates, the pooled statistics if they are tracked, and perhaps all parameters, in one step."""
        replace(
            [self._running.rows, self._running.n_batches, *(self._parameters().values() if parameters else ())],
            [running.rows, running.n_batches, *parameters],
            self, {} if self._pooled is None else {"_pooled": pooled},
        )

    def __call__(
        self, x: ArrayLike, out: NDArray[Any] | None = None, *, where: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> NDArray[Any]:
        """Normalize x: in training by its own statistics, which then move the running estimates, else by these.

        Parameters
        ----------
        x : array_like
            Real numbers of any dtype and strides, of at least 2 dimensions, with the channels along `channel_axis`. It
            is read in place, and kept for `backward`.
        out : ndarray, optional
            Where the result goes: of the shape of `x` and the dtype of the result. It may be `x` itself; then there is
            no backward.
        where : array_like of bool, optional
            The elements to use, marked True: of the shape of `x` without the channel axis, as (N, L) for sequences
            (N, channels, L), or any that broadcasts against `x`, as for `Moments.update`. The others, such as padding,
            may hold anything; their result is 0, and so is their gradient in `backward`.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        ndarray
            `out`, or a new array with the memory layout of `x`. Its dtype is `result_dtype`; by default that of `x` if
            it is floating, else float32.

        Raises
        ------
        TypeError
            If `x` is not of real numbers, `where` is not of bool, or `out` is not a plain array.
        ValueError
            If `x` does not have `num_features` channels, or is a table with some of `names` in another order; if
            `where` does not broadcast, or `virtual_batch` does not divide the batch; if `out` has another shape or
            dtype, is read-only, or overlaps `x` in part; in training, if a channel has fewer than two values, unless
            the batch is skipped, or squared deviations that sum to more than float64 can hold, or if there is NaN or
            inf under ``nan_policy="raise"``.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.BatchNorm(1)(np.array([[1.0], [3.0]])).round(2).ravel().tolist()
        [-1.0, 1.0]
        """
        return self._call(x, out, where, n_threads)

    def _normalize(
        self, x: ArrayLike, out: NDArray[Any] | None, where: ArrayLike | None, n_threads: int | None
    ) -> tuple[NDArray[Any], Forward]:
        """The result of a call, and what its backward pass needs. In training the running estimates move."""
        rows = self._running.rows
        forward = forward_of(
            x, self._shape[0], self._gamma, self._beta, self._eps, self._channel_axis, where, self._result_dtype,
            (self._virtual_batch or 0) if self._training else 0,
        )
        if not self._training:
            try:
                return forward.infer(rows, out, n_threads), forward
            except ValueError:
                self._running.require_possible()        # says what to do about a negative variance
                raise
        exact = None
        if self._is_exact:          # before the result may be written over x, and without a message on NaN
            policy = "omit" if self._nan_policy == "omit" else "propagate"
            exact = self._moments_of(forward.x, {"where": where}, policy, n_threads)
        if self._renorm:
            forward.accumulate(self._nan_policy, n_threads)
            y = self._renormalize(forward, out, n_threads)
        else:
            y = forward.train(out, self._nan_policy, n_threads)
        if not forward.skipped:
            if self._pooled is None:
                move_estimates(forward, rows, self._running.n_batches, self._momentum, self._running_ddof, self._renorm)
            else:
                self._pool(self._pooled, forward, exact)
        return y, forward

    def _moments_of(
        self, x: Any, positions: Mapping[str, Any], nan_policy: str, n_threads: int | None
    ) -> Moments:
        """The statistics of a batch, of the kind that is tracked."""
        require_names_in_order(self.names, x)
        return batch_moments(x, self._channel_axis, self.num_features, n_threads, positions, nan_policy=nan_policy,
                             exact=self._is_exact)

    def _renormalize(self, forward: Forward, out: NDArray[Any] | None, n_threads: int | None) -> NDArray[Any]:
        """Batch Renormalization: ``xhat * r + d``, where r and d are constants in backward."""
        n, mean, _, m2, _, gamma, beta = forward.statistics().reshape(-1, forward.n_channels // self.num_features,
                                                                      self.num_features)
        r, d = np.ones_like(mean), np.zeros_like(mean)
        if not self._running.is_initial:
            sd = self._running.sd(self.eps)
            with np.errstate(all="ignore"):
                r = np.clip(divisor(m2 / np.maximum(n, 1), self.eps) / sd, 1 / self.r_max, self.r_max)
                d = np.clip((mean - self.running_mean) / sd, -self.d_max, self.d_max)
        beta += gamma * d
        gamma *= r
        y = forward.apply(out, n_threads)
        forward.ratio = r, d
        return y

    def _pool(self, pooled: Moments, forward: Forward, of_batch: Moments | None) -> None:
        """Move the running estimates, and merge the statistics of the batch into the pooled ones."""
        if of_batch is None:
            of_batch = moments_from(forward.batch_statistics(), nan_policy=self._nan_policy)
        total = pooled + of_batch
        self._require_usable(total)
        whole = None
        if self._momentum is None:
            whole = self._running.copy()
            whole.use(total, self.running_ddof)
        running = self._running
        move_estimates(
            forward, running.rows, running.n_batches, self._momentum, self._running_ddof, self._renorm, pooled,
            of_batch, None if whole is None else whole.rows,
        )
        while whole is not None and total != pooled:        # Another thread's batch came in between.
            total = pooled.copy()
            running.use(total, self.running_ddof)

    def _require_usable(self, moments: Moments) -> None:
        """Raise ValueError unless the running estimates can be these statistics."""
        if moments.shape != (self.num_features,):
            got = "no data" if moments.shape is None else f"channels of shape {moments.shape}"
            raise ValueError(f"expected statistics of {counted(self.num_features)}, got {got}")
        require_finite(moments, self._nan_policy)

    def recalibrate(
        self, batches: Iterable[ArrayLike | Mapping[str, Any]] | Moments, *, n_threads: int | None = None
    ) -> Moments:
        """Make the running estimates the statistics of all values of a stream.

        Parameters
        ----------
        batches : iterable of array_like or mapping, or Moments
            Arrays as for a call, any number of them, each with any number of values; with weights or a mask,
            ``{"batch": x, "weights": weights, "where": mask}``, as the arguments of `Moments.update`. Or the statistics
            themselves, as this method returns them on another worker.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        Moments
            The statistics, exact if the layer tracks exact ones. Those of several workers add up:
            ``bn.recalibrate(sum(parts))``.

        Raises
        ------
        TypeError, ValueError
            As `Moments.update`; also if there is no data, there are other channels, or a mapping has an unknown key or
            no "batch". The estimates are then as they were.

        Notes
        -----
        An average of the variances of batches leaves out their sizes and the variance between them; here both are
        included. `running_ddof` applies. `num_batches_tracked` becomes the number of batches with values, if batches
        are given. In a network recalibrate one layer after the other, as the input of a layer depends on those before.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1, running_ddof=0)
        >>> bn.recalibrate([np.array([[1.0], [2.0]]), np.array([[6.0]])]).n.tolist()
        [3]
        >>> bn.running_mean.tolist(), bn.running_var.round(4).tolist()
        ([3.0], [4.6667])
        >>> bn.recalibrate([{"batch": np.array([[1.0], [3.0]]), "weights": [3, 1]}]).mean.tolist()
        [1.5]
        """
        count = self.num_batches_tracked
        require_threads(n_threads)
        if hasattr(batches, "__array__") or isinstance(batches, Mapping):
            raise TypeError(f"batches must be an iterable of batches, got one {type(batches).__name__}; put a "
                            "single batch into a list")
        if isinstance(batches, (str, bytes)) or not isinstance(batches, (Moments, Iterable)):
            raise TypeError(f"batches must be an iterable of batches, or a Moments, got {batches!r:.60}")
        if isinstance(batches, Moments):
            moments = batches.copy()
            if self.names is not None and moments.names not in (None, self.names):
                raise ValueError(f"expected channels named {list(self.names)} as here, got {list(moments.names)} in "
                                 "the Moments; compute it with the columns in this order")
        else:
            moments = self._new_pooled()
            count = 0
            for batch in batches:
                if isinstance(batch, Moments):
                    raise TypeError("expected batches, got a Moments among them; pass the sum of several: "
                                    "recalibrate(sum(parts))")
                part = self._moments_of(*batch_of(batch), self._nan_policy, n_threads)
                moments.merge(part)
                count += bool(np.any(part.n))       # An empty batch changes nothing.
            if moments.shape is None:
                raise ValueError(f"expected statistics of {counted(self.num_features)}, got no data; pass at least one "
                                 "value a channel, and a new iterator for each pass")
        self._require_usable(moments)
        if self._nan_policy != "propagate" and np.isinf(moments.var(self.running_ddof)).any():
            raise ValueError("the variance of the data exceeds float64; scale the data down")
        running, pooled = self._running.copy(), as_pooled(moments.copy(), self._nan_policy, self._is_exact)
        running.use(moments, self.running_ddof)
        running.forget_batch()
        running.n_batches[0] = count
        self._become(running, pooled)
        return moments

    def fold(
        self, weight: ArrayLike, bias: ArrayLike | None = None, *, output_axis: int = 0
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Fold this layer's inference into the linear layer or convolution before it.

        Parameters
        ----------
        weight : array_like
            The weight of that layer, of any rank.
        bias : array_like, optional
            Its bias, of shape (num_features,); by default 0.
        output_axis : int, default 0
            The axis of the weight's output channels: 0 in PyTorch, -1 in Keras.

        Returns
        -------
        weight, bias : ndarray
            New arrays, in the dtype of `weight` if that is floating, else float32.

        Raises
        ------
        TypeError
            If `weight` or `bias` is not of real numbers, or `output_axis` is not an integer.
        ValueError
            If `weight` or `bias` does not have num_features output channels, or `running_var` is negative.

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
        w, output_axis = real_values("weight", weight), integer("output_axis", output_axis)
        if w.ndim > 0:
            require_axis("output_axis", output_axis, "weight", w.shape)
        if w.ndim == 0 or w.shape[output_axis] != self.num_features:
            expected = counted(self.num_features, "output channel", "output channels")
            raise ValueError(f"weight must have {expected} along axis {output_axis}, got "
                             f"shape {w.shape}; output_axis says which axis holds them")
        dtype = w.dtype if is_floating(w.dtype) else np.dtype(np.float32)
        b = np.zeros(self.num_features) if bias is None else self._checked("bias", bias, np.float64)
        scale = np.ones(self.num_features) if self._gamma is None else self._gamma.astype(np.float64)
        shift = 0.0 if self._beta is None else self._beta.astype(np.float64)
        scale /= self._running.sd(self.eps)
        columns = scale.reshape([-1 if axis == output_axis % w.ndim else 1 for axis in range(w.ndim)])
        with np.errstate(all="ignore"):
            new_bias = (b - self.running_mean) * scale + shift
            return (w.astype(np.float64) * columns).astype(dtype), new_bias.astype(dtype)

    def diagnose(self) -> Diagnosis:
        """Measure for each channel how reliable the running estimates are, and how far they are from the data.

        Returns
        -------
        Diagnosis
            `effective_n`, `initial_weight`, `batch_n`, `condition`, `mean_drift`, `var_drift`, `mean_gap`, `sd_gap`.
            The drift is NaN where the pooled statistics are not tracked or a channel is constant, the gap before the
            first batch, and `effective_n` and `batch_n` for estimates that were set or loaded. Its `findings` say in
            words what stands out;
            printed, or as a table in a notebook, it shows them with the worst channels first.

        Notes
        -----
        A running estimate is a weighted sum of those of the batches. Its effective n is ``sum(w)**2 / sum(w**2 / n)``,
        the n of a plain mean with the same variance, after Kish. At momentum 0.1 it tends to 19 batches of n, however
        many there were.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1)
        >>> for _ in range(100):
        ...     _ = bn(np.array([[1.0], [3.0]]))
        >>> bn.diagnose().effective_n.round(1).tolist()
        [38.0]
        """
        return self._running.diagnose(self.pooled, self.eps, self.running_ddof, self.momentum, self.names)

    def state_dict(self) -> StateDict:
        """Return parameters and running estimates by PyTorch's names.

        Returns
        -------
        dict of str to ndarray
            "weight" (gamma) and "bias" (beta) if the layer has them; "running_mean", "running_var",
            "num_batches_tracked". Copies. PyTorch's strict loading knows no other name: the pooled statistics, where
            they are tracked, are its attribute `pooled`, a `Moments`. `copy` and ``pickle`` keep it, ``dict`` and files
            of arrays do not; `save` keeps all of a layer.

        Raises
        ------
        ValueError
            If `running_var` was set to negative values in place, which no layer can load.

        Examples
        --------
        >>> import bnstream
        >>> sorted(bnstream.BatchNorm(3).state_dict())
        ['bias', 'num_batches_tracked', 'running_mean', 'running_var', 'weight']
        """
        self._running.require_possible()
        return self._state()

    def _state(self) -> StateDict:
        state, (running, pooled) = super()._state(), self._snapshot()
        state["running_mean"], state["running_var"] = running.mean.copy(), running.var.copy()
        state[COUNT] = np.array(running.n_batches[0], np.int64)
        return StateDict(state, pooled)

    def _snapshot(self) -> tuple[RunningEstimates, Moments | None]:
        """Copies of the running estimates and of the pooled statistics, of the same batches."""
        while True:
            running = self._running.copy()
            pooled = None if self._pooled is None else self._pooled.copy()
            if pooled is None or running == self._running:      # else another thread's batch came in between
                return running, pooled

    def __getstate__(self) -> dict[str, Any]:
        running, pooled = self._snapshot()
        return {**super().__getstate__(), "_running": running, "_pooled": pooled}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy parameters and running estimates into this layer.

        Parameters
        ----------
        state : mapping of str to array_like
            What `state_dict` returns, here or in PyTorch; tensors are accepted. Of "weight" and "bias" one may be
            missing, which stands for 1 or 0. Without "num_batches_tracked", as PyTorch had it before 0.4, the number of
            batches stays. Without `pooled` the pooled statistics start anew, and so does the number of batches where
            the estimates are made from them. A layer that does not track them ignores `pooled`.

        Raises
        ------
        TypeError
            If `state` is not a mapping.
        ValueError
            If a name is missing or unexpected, a shape differs, or a value is impossible. The layer is then as it was.

        Examples
        --------
        >>> import bnstream
        >>> bn = bnstream.BatchNorm(3)
        >>> bn.load_state_dict(bnstream.BatchNorm(3, momentum=0.5).state_dict())
        """
        given = checked_state(state, self._parameters(), self._shape, estimates=True)
        pooled = getattr(state, "pooled", None)
        if pooled is not None:
            self._require_pooled(pooled)
            pooled = as_pooled(pooled.copy(), self._nan_policy, self._is_exact)
        count = int(given.get(COUNT, self.num_batches_tracked))
        if self._momentum is None and pooled is None:
            count = 0               # None of those batches will be in the next estimates.
        running = RunningEstimates(self.num_features)
        running.assign(MEAN, given["running_mean"])
        running.assign(VAR, given["running_var"])
        running.n_batches[0] = count
        if not count and (COUNT in given or self._momentum is None):
            running.keep_initial()
        self._become(running, self._new_pooled() if pooled is None else pooled, self._loaded(given))

    def __setstate__(self, state: dict[str, Any]) -> None:
        running = state["_running"]
        if not isinstance(running, RunningEstimates) or running.rows.shape[1:] != state["_shape"]:
            raise ValueError(f"expected running estimates of shape {state['_shape']}, got {running!r:.60}")
        super().__setstate__(state)

    def __repr__(self) -> str:
        mode = "training" if self.training else "inference"
        pooled = ", track_pooled='exact'" if self._is_exact else ""
        return f"{super().__repr__()[:-1]}{pooled}): {mode}, {counted(self.num_batches_tracked, 'batch', 'batches')}"

    plot: Callable[..., Figure] = late("bnstream.plots", "plot_moments")
    from_torch: Callable[..., BatchNorm] = late("bnstream.exchange.torch", "from_torch", static=True)
    to_torch: Callable[..., Any] = late("bnstream.exchange.torch", "to_torch")
    from_keras: Callable[..., BatchNorm] = late("bnstream.exchange.keras", "from_keras", static=True)
    to_keras: Callable[..., Any] = late("bnstream.exchange.keras", "to_keras")
    from_flax: Callable[..., BatchNorm] = late("bnstream.exchange.flax", "from_flax", static=True)
    to_flax: Callable[..., Any] = late("bnstream.exchange.flax", "to_flax")
    to_linen: Callable[..., tuple[Any, dict[str, Any]]] = late("bnstream.exchange.flax", "to_linen")
    from_onnx: Callable[..., BatchNorm] = late("bnstream.exchange.onnx", "from_onnx", static=True)
    to_onnx: Callable[..., Any] = late("bnstream.exchange.onnx", "to_onnx")


def running_of(bn: BatchNorm) -> RunningEstimates:
    """The running estimates of a layer themselves, not a copy."""
    return bn._running
