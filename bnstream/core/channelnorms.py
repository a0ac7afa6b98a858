"""Group norm and instance norm as layers: channels of every instance are normalized by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.checks import integer
from bnstream.core.forward import Forward, forward_of, locked, replace
from bnstream.core.instances import channel_forward
from bnstream.core.labels import counted
from bnstream.core.layer import LOCK, NormLayer, Setting
from bnstream.core.moments import Moments
from bnstream.core.norms import instance_averages, momentum_of, moved_estimates, require_several
from bnstream.core.running import require_variances
from bnstream.core.statedict import COUNT, StateDict, checked_state


def channel_axis_of(name: str, value: Any) -> int:
    """The axis of the channels of instances, which lie along axis 0. An array has 64 axes at most."""
    axis = integer(name, value, first=-63, last=63)
    if axis == 0:
        raise ValueError(f"{name} must not be 0, the axis of the instances; for one instance, add an axis with x[None]")
    return axis


class ChannelNorm(NormLayer):
    """What group norm and instance norm share."""

    _channel_axis: int
    channel_axis = Setting(channel_axis_of)

    def __call__(
        self, x: ArrayLike, out: NDArray[Any] | None = None, *, where: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> NDArray[Any]:
        """Normalize every instance of x.

        Parameters
        ----------
        x : array_like
            Real numbers of any dtype and strides, of at least 2 dimensions: axis 0 holds the instances, `channel_axis`
            the channels. It is read in place, and in training kept for `backward`.
        out : ndarray, optional
            Where the result goes: of the shape of `x` and the dtype of the result. It may be `x` itself; then there is
            no backward.
        where : array_like of bool, optional
            The elements to use, as for `group_norm`.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        ndarray
            `out`, or a new array with the memory layout of `x`. Its dtype is `result_dtype`; by default that of `x` if
            it is floating, else float32.

        Raises
        ------
        TypeError, ValueError
            As for `group_norm` and `instance_norm`.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.GroupNorm(1, 2)(np.array([[[1.0], [3.0]]])).round(2).tolist()
        [[[-1.0], [1.0]]]
        """
        return self._call(x, out, where, n_threads)

    def _forward(self, x: ArrayLike, where: ArrayLike | None, num_groups: int) -> Forward:
        return channel_forward(x, self._shape[0], num_groups, self._gamma, self._beta, self.eps, self._channel_axis,
                               where, self._result_dtype)


class GroupNorm(ChannelNorm):
    """Group normalization: every group of channels of every instance by its own mean and variance.

    Parameters
    ----------
    num_groups : int
        The number of groups, a divisor of `num_channels`. Neighboring channels are a group.
    num_channels : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance.
    affine : bool, default True
        Whether the layer has gamma and beta, a scale and a shift of each channel.
    bias, scale : bool, default True
        With `affine`, whether the layer has beta, and whether it has gamma.
    channel_axis : int, default 1
        The axis of the channels in every x; -1 for (N, H, W, C). Axis 0 holds the instances.
    dtype, result_dtype
        As for `LayerNorm`.
    names : sequence of str, optional
        The names of the channels.

    Attributes
    ----------
    gamma, beta : ndarray or None
        Arrays of shape (num_channels,), initially 1 and 0; None where the layer has none. Each is always the same
        array: change it in place, or assign to the attribute, which copies into it.
    grad_gamma, grad_beta, training
        As for `LayerNorm`.
    num_groups, num_channels, affine, scale, bias, dtype, eps, channel_axis, result_dtype, names
        As given. The last four may be set.

    See Also
    --------
    group_norm : the same without a layer; its notes hold here.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> norm = bnstream.GroupNorm(2, 4)
    >>> norm(np.array([[[1.0], [3.0], [10.0], [30.0]]])).round(2).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    _settings = ("num_groups", "num_channels", "eps", "scale", "bias", "channel_axis", "dtype", "result_dtype")
    _n_required = 2

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, bias: bool = True,
        scale: bool = True, channel_axis: int = 1, dtype: DTypeLike = "float32",
        result_dtype: DTypeLike | None = None, names: Iterable[str] | None = None,
    ) -> None:
        self._num_groups = integer("num_groups", num_groups, first=1)
        n = integer("num_channels", num_channels, first=1)
        if n % self._num_groups:
            raise ValueError(f"num_groups must divide num_channels, {n}, got {num_groups}")
        super().__init__(
            (n,), eps=eps, scale=affine and scale, bias=affine and bias, dtype=dtype, result_dtype=result_dtype,
            names=names,
        )
        self.channel_axis = channel_axis

    @property
    def num_groups(self) -> int:
        return self._num_groups

    @property
    def num_channels(self) -> int:
        return self._shape[0]

    def _normalize(
        self, x: ArrayLike, out: NDArray[Any] | None, where: ArrayLike | None, n_threads: int | None
    ) -> tuple[NDArray[Any], Forward]:
        forward = self._forward(x, where, self._num_groups)
        return forward.train(out, "propagate", n_threads), forward


class InstanceNorm(ChannelNorm):
    """Instance normalization: every channel of every instance by its own mean and variance.

    Parameters
    ----------
    num_features : int
        The number of channels.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        The weight of a batch in the running estimates, as in PyTorch: ``running = (1 - momentum) * running + momentum *
        batch``, of the averages over its instances of mean and of variance with ``ddof=1``. None keeps the
        averages over all instances so far, as if they were one batch.
    affine : bool, default False
        Whether the layer has gamma and beta, a scale and a shift of each channel.
    track_running_stats : bool, default False
        Whether the layer keeps running estimates, by which it normalizes in inference. Without them inference is as
        training.
    bias, scale : bool, default True
        With `affine`, whether the layer has beta, and whether it has gamma.
    channel_axis, dtype, result_dtype, names
        As for `GroupNorm`.

    Attributes
    ----------
    gamma, beta, grad_gamma, grad_beta
        As for `GroupNorm`.
    running_mean, running_var : ndarray of float64 or None
        Arrays of shape (num_features,), initially 0 and 1, which may be changed in place or assigned to; None where
        they are not tracked.
    num_batches_tracked : int
        The number of batches in the running estimates.
    training : bool
        The mode, initially True.
    num_features, momentum, track_running_stats, affine, scale, bias, dtype, eps, channel_axis, result_dtype, names
        As given. The last four may be set.

    See Also
    --------
    instance_norm : the same without a layer; its notes hold here.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> norm = bnstream.InstanceNorm(1, momentum=None, track_running_stats=True)
    >>> norm(np.array([[[1.0, 3.0]], [[10.0, 30.0]]])).round(2).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    >>> norm.running_mean.tolist(), norm.running_var.tolist()
    ([11.0], [101.0])
    """

    _settings = ("num_features", "eps", "momentum", "scale", "bias", "track_running_stats", "channel_axis", "dtype",
                 "result_dtype")

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
        track_running_stats: bool = False, *, bias: bool = True, scale: bool = True, channel_axis: int = 1,
        dtype: DTypeLike = "float32", result_dtype: DTypeLike | None = None, names: Iterable[str] | None = None,
    ) -> None:
        super().__init__(
            (integer("num_features", num_features, first=1),), eps=eps, scale=affine and scale, bias=affine and bias,
            dtype=dtype, result_dtype=result_dtype, names=names,
        )
        self.channel_axis = channel_axis
        n = self.num_features
        self._running = np.repeat([[0.0], [1.0]], n, axis=1) if track_running_stats else None      # mean and variance
        self._n_batches = np.zeros(1, np.int64)
        # One value for each instance, of mean and variance, where the estimates are their averages.
        self._averages = Moments(nan_policy="omit") if track_running_stats and momentum is None else None
        self.momentum = momentum

    @property
    def num_features(self) -> int:
        return self._shape[0]

    @property
    def track_running_stats(self) -> bool:
        return self._running is not None

    @property
    def momentum(self) -> float | None:
        return self._momentum

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        if value is None and self._running is not None and self._averages is None:
            raise ValueError("momentum=None needs the instances from the first batch on; make the layer with it")
        self._momentum = value if value is None else momentum_of("momentum", value)

    @property
    def running_mean(self) -> Any:
        return None if self._running is None else self._running[0]

    @running_mean.setter
    def running_mean(self, values: ArrayLike) -> None:
        self._tracked()[0] = self._checked("running_mean", values, np.float64)

    @property
    def running_var(self) -> Any:
        return None if self._running is None else self._running[1]

    @running_var.setter
    def running_var(self, values: ArrayLike) -> None:
        checked = self._checked("running_var", values, np.float64)
        require_variances(checked)
        self._tracked()[1] = checked

    @property
    def num_batches_tracked(self) -> int:
        return int(self._n_batches[0])

    def _tracked(self) -> NDArray[np.float64]:
        """The running estimates. Raise ValueError if there are none."""
        if self._running is None:
            raise ValueError("this layer has no running estimates; make it with track_running_stats=True")
        return self._running

    def reset_running_stats(self) -> None:
        """Reset the running estimates, if they are tracked, to mean 0 and variance 1, with no batch.

        Examples
        --------
        >>> import bnstream
        >>> norm = bnstream.InstanceNorm(1, track_running_stats=True)
        >>> norm.running_mean = [3.0]
        >>> norm.reset_running_stats()
        >>> norm.running_mean.tolist()
        [0.0]
        """
        if self._running is not None:
            initial = np.repeat([[0.0], [1.0]], self.num_features, axis=1)
            locked(LOCK, self._become, initial, 0, Moments(nan_policy="omit"))

    def _become(
        self, running: NDArray[np.float64], n_batches: int, averages: Moments, parameters: Sequence[NDArray[Any]] = ()
    ) -> None:
        """Take over estimates, the averages if they are kept, and perhaps all parameters, in one step."""
        replace(
            [self._tracked(), self._n_batches, *(self._parameters().values() if parameters else ())],
            [running, np.array([n_batches]), *parameters],
            self, {} if self._averages is None else {"_averages": averages},
        )

    def _normalize(
        self, x: ArrayLike, out: NDArray[Any] | None, where: ArrayLike | None, n_threads: int | None
    ) -> tuple[NDArray[Any], Forward]:
        if self._running is not None and not self._training:
            require_variances(self._running[1], "; set running_var to variances, or call reset_running_stats()")
            forward = forward_of(x, self.num_features, self._gamma, self._beta, self.eps, self._channel_axis, where,
                                 self._result_dtype)
            return forward.infer(self._running, out, n_threads), forward
        forward = self._forward(x, where, self.num_features)
        require_several(forward)
        y = forward.train(out, "propagate" if self._running is None else "raise", n_threads)
        if self._running is not None:
            locked(LOCK, self._track, forward)      # Without the lock, the update of another thread could be lost.
        return y, forward

    def _track(self, forward: Forward) -> None:
        """Move the running estimates by the instances of a batch."""
        running, averages = self._tracked(), instance_averages(forward)
        if averages.shape is None:
            return                      # The batch is empty.
        total = averages if self._averages is None else instance_averages(forward, self._averages)
        with np.errstate(all="ignore"):
            moved = moved_estimates(running, self._momentum, total if self._momentum is None else averages)
        self._become(moved, self.num_batches_tracked + 1, total)

    def _state(self) -> StateDict:
        return locked(LOCK, self._unlocked_state)       # so that estimates and averages are of the same batches

    def _unlocked_state(self) -> StateDict:
        state = super()._state()
        if self._running is None:
            return state
        state["running_mean"], state["running_var"] = self._running.copy()
        state[COUNT] = np.array(self.num_batches_tracked, np.int64)
        return StateDict(state, None if self._averages is None else self._averages.copy())

    def state_dict(self) -> StateDict:
        """Return the parameters, and running estimates that are tracked, by PyTorch's names.

        Returns
        -------
        dict of str to ndarray
            "weight" (gamma) and "bias" (beta) if the layer has them; "running_mean", "running_var" and
            "num_batches_tracked" if it tracks them. Copies. With ``momentum=None`` the attribute `pooled` has the
            averages.

        Examples
        --------
        >>> import bnstream
        >>> sorted(bnstream.InstanceNorm(3, track_running_stats=True).state_dict())
        ['num_batches_tracked', 'running_mean', 'running_var']
        """
        if self._running is not None:
            require_variances(self._running[1], "; set running_var to variances, or call reset_running_stats()")
        return self._state()

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy parameters, and running estimates if they are tracked, into this layer.

        Parameters
        ----------
        state : mapping of str to array_like
            What `state_dict` returns, here or in PyTorch; tensors are accepted. Of "weight" and "bias" one may be
            missing, which stands for 1 or 0. Without `pooled` the averages of ``momentum=None`` start anew.

        Raises
        ------
        TypeError
            If `state` is not a mapping.
        ValueError
            If a name is missing or unexpected, a shape differs, or a value is impossible. The layer is then as it was.

        Examples
        --------
        >>> import bnstream
        >>> norm = bnstream.InstanceNorm(3, affine=True)
        >>> norm.load_state_dict(bnstream.InstanceNorm(3, affine=True).state_dict())
        """
        if self._running is None:
            super().load_state_dict(state)
            return
        given = checked_state(state, self._parameters(), self._shape, estimates=True)
        averages = getattr(state, "pooled", None)
        count = int(given.get(COUNT, self.num_batches_tracked))
        if averages is None or averages.shape != (2 * self.num_features,):
            averages = Moments(nan_policy="omit")
            if self._momentum is None:
                count = 0           # None of those batches will be in the next estimates.
        running = np.stack([given["running_mean"], given["running_var"]], dtype=np.float64)
        locked(LOCK, self._become, running, count, averages.copy(), self._loaded(given))

    def __repr__(self) -> str:
        if self._running is None:
            return super().__repr__()
        mode = "training" if self.training else "inference"
        return f"{super().__repr__()}: {mode}, {counted(self.num_batches_tracked, 'batch', 'batches')}"

    def __getstate__(self) -> dict[str, Any]:
        return locked(LOCK, self._snapshot)

    def _snapshot(self) -> dict[str, Any]:
        copies = {name: value if value is None else value.copy() for name, value in (
            ("_running", self._running), ("_n_batches", self._n_batches), ("_averages", self._averages))}
        return {**super().__getstate__(), **copies}

    def __setstate__(self, state: dict[str, Any]) -> None:
        running, averages = state["_running"], state["_averages"]
        if running is not None:
            running = np.array(running, np.float64, order="C")
            if running.shape != (2, *state["_shape"]):
                raise ValueError(f"expected running estimates of shape {(2, *state['_shape'])}, got {running.shape}")
        super().__setstate__({**state, "_running": running, "_averages": None if averages is None else averages.copy(),
                              "_n_batches": np.array(state["_n_batches"], np.int64).reshape(1)})
