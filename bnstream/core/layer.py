"""What every normalization layer keeps: scale and shift, their gradients, the mode, and the names of the channels."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.checks import eps_of, real_values, shape_of
from bnstream.core.columns import require_names_in_order
from bnstream.core.dtypes import floating, rounded, stored_floating
from bnstream.core.forward import Forward, locked, replace
from bnstream.core.gradient import Backward
from bnstream.core.labels import counted
from bnstream.core.late import late
from bnstream.core.moments import Moments
from bnstream.core.statedict import IDENTITY, StateDict, checked_state


class Setting:
    """A setting of a layer, which is checked where it is set and not at each call.

    `check` takes the name and a value, and returns what is kept, under the name with an underscore.
    """

    def __init__(self, check: Callable[[str, Any], Any]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.key = name, f"_{name}"

    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else getattr(layer, self.key)

    def __set__(self, layer: Any, value: Any) -> None:
        # Not through __dict__, as touching it slows every later access to attributes.
        setattr(layer, self.key, self.check(self.name, value))


LOCK = threading.Lock()         # held while gradients are added up, and estimates of instances move
SEVERAL = "several calls await their backward"


def flag(name: str, value: Any) -> bool:
    """A setting that is on or off."""
    return bool(value)


PARAMETERS = ("_gamma", "_beta", "grad_gamma", "grad_beta")      # the arrays that have the dtype of the layer


class NormLayer:
    """The base of the layers. A subclass adds the call, as `_normalize`, and what it keeps from call to call."""

    _settings: ClassVar[tuple[str, ...]]            # the arguments that make such a layer, but for its names
    _n_required: ClassVar[int] = 1                  # how many of them have no default
    _affine: ClassVar[str] = "affine"               # the argument without which there are neither gamma nor beta
    _training: bool
    _result_dtype: np.dtype[Any] | None
    eps: Any = Setting(eps_of)
    training = Setting(flag)
    result_dtype = Setting(lambda name, value: None if value is None else floating(value, name))

    def __init__(
        self, shape: tuple[int, ...], *, eps: float | None, scale: bool, bias: bool, dtype: DTypeLike,
        result_dtype: DTypeLike | None, names: Iterable[str] | None,
    ) -> None:
        self._shape = shape                         # of gamma and beta
        self.eps = eps
        self._dtype = floating(dtype)
        self.result_dtype = result_dtype
        self._gamma: Any = np.ones(shape, self.dtype) if scale else None
        self._beta: Any = np.zeros(shape, self.dtype) if bias else None
        self.grad_gamma: Any = None
        self.grad_beta: Any = None
        self.names = names
        self.training = True
        self._pending: Any = None       # the call in training that awaits its `backward`, or SEVERAL

    @property
    def scale(self) -> bool:
        """Whether there is a scale, gamma."""
        return self._gamma is not None

    @property
    def bias(self) -> bool:
        """Whether there is a shift, beta."""
        return self._beta is not None

    @property
    def affine(self) -> bool:
        """Whether there is a scale, a shift, or both."""
        return self._gamma is not None or self._beta is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def gamma(self) -> Any:
        return self._gamma

    @gamma.setter
    def gamma(self, values: ArrayLike) -> None:
        if self._gamma is None:
            raise ValueError(f"this layer has no gamma; make it with {self._affine}=True and scale=True")
        self._gamma[:] = self._checked("gamma", values, self.dtype)

    @property
    def beta(self) -> Any:
        return self._beta

    @beta.setter
    def beta(self, values: ArrayLike) -> None:
        if self._beta is None:
            advice = f"; make it with {self._affine}=True and bias=True" if "bias" in self._settings else ""
            raise ValueError(f"this layer has no beta{advice}")
        self._beta[:] = self._checked("beta", values, self.dtype)

    @property
    def names(self) -> tuple[str, ...] | None:
        return self._names

    @names.setter
    def names(self, names: Iterable[str] | None) -> None:
        checked: tuple[str, ...] | None = Moments(names=names).names
        n = math.prod(self._shape)
        if checked is not None and len(checked) != n:
            raise ValueError(f"expected {counted(n, 'name', 'names')}, one for each channel or element, got "
                             f"{len(checked)}")
        self._names = checked

    def _checked(self, name: str, values: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
        """Values of every channel as a new array."""
        new = real_values(name, values)
        if new.shape != self._shape:
            raise ValueError(f"{name} must have shape {self._shape}, got {new.shape}")
        return rounded(new, dtype)

    def _normalize(
        self, x: ArrayLike, out: NDArray[Any] | None, where: ArrayLike | None, n_threads: int | None
    ) -> tuple[NDArray[Any], Forward]:
        """The result of a call, and what its backward pass needs."""
        raise NotImplementedError

    def _call(
        self, x: ArrayLike, out: NDArray[Any] | None, where: ArrayLike | None, n_threads: int | None
    ) -> NDArray[Any]:
        """Normalize x. A call in training is kept for `backward`."""
        require_names_in_order(self._names, x)
        y, forward = self._normalize(x, out, where, n_threads)
        if self._training:
            pending = self._pending
            self._pending = forward if pending is None or (pending is not SEVERAL and pending.x is None) else SEVERAL
        return y

    def vjp(
        self, x: ArrayLike, *, where: ArrayLike | None = None, n_threads: int | None = None
    ) -> tuple[NDArray[Any], Backward]:
        """Normalize x as a call does, and return the backward pass of this call as a function.

        Use it where one call and one `backward` are not enough: a layer that is used several times in a step,
        accumulated gradients, gradients in inference, or checks by finite differences.

        Parameters
        ----------
        x, where, n_threads
            As for a call.

        Returns
        -------
        y : ndarray
            What a call returns.
        backward : Backward
            ``dx, grad_gamma, grad_beta = backward(dy)``. It holds x and what else it needs, and may be called in any
            order and more than once. ``backward(dy, accumulate=True)`` also adds to `grad_gamma` and `grad_beta`.

        Raises
        ------
        TypeError, ValueError
            As for a call.

        See Also
        --------
        batch_norm_vjp, layer_norm_vjp, rms_norm_vjp, group_norm_vjp, instance_norm_vjp : the same without a layer.
        jax.vjp : its model.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1, dtype="float64")
        >>> y1, backward1 = bn.vjp(np.array([[1.0], [2.0], [6.0]]))
        >>> y2, backward2 = bn.vjp(np.array([[0.0], [2.0], [4.0]]))
        >>> dx1, *_ = backward1(y2, accumulate=True)
        >>> dx2, *_ = backward2(y1, accumulate=True)
        >>> bn.grad_gamma.round(3).tolist()
        [5.669]
        """
        require_names_in_order(self._names, x)
        y, forward = self._normalize(x, None, where, n_threads)
        return y, Backward(forward, self._grad_dtypes(), self._add_gradients)

    def backward(
        self, dy: ArrayLike, out: NDArray[Any] | None = None, *, n_threads: int | None = None
    ) -> NDArray[Any]:
        """Compute the gradients of x, gamma and beta for a call in training.

        Parameters
        ----------
        dy : array_like
            The gradient of the result, of its shape.
        out : ndarray, optional
            Where the gradient of x goes: of its shape and dtype, float32 for integers. It may be `dy`, or x itself.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        ndarray
            The gradient of x. Those of gamma and beta are in `grad_gamma` and `grad_beta`, in the layer's dtype, if it
            has them.

        Raises
        ------
        RuntimeError
            Unless there was exactly one call in training since the last `backward`, which did not write its result over
            x; or in inference mode. `vjp` serves all other cases.
        ValueError
            If `dy` has another shape, or `out` cannot be used, as in a call.

        Notes
        -----
        Of batch normalization, ``dx = gamma / sqrt(var + eps) * (dy - grad_beta / n - xhat * grad_gamma / n)``; the
        sums are in double precision. gamma is the gamma of the call. Evaluations in between do not matter.

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
        pending = self._pending
        if not self._training:
            raise RuntimeError("backward() belongs to a call in training, and the layer is in inference mode; use "
                               "y, backward = layer.vjp(x)")
        if pending is None or pending is SEVERAL:
            self._pending = None
            calls = "no call" if pending is None else "several calls, which are forgotten now,"
            raise RuntimeError(f"backward() belongs to one call in training, got {calls} since the last backward(); "
                               "with y, backward = layer.vjp(x), every call has a backward of its own")
        dx, self.grad_gamma, self.grad_beta = pending.backward(dy, out, self._grad_dtypes(), n_threads)
        if self._pending is pending:                # unless another thread has called since
            self._pending = None
        return dx

    def zero_grad(self) -> None:
        """Forget the gradients of gamma and beta, before others are accumulated.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(1)
        >>> _ = bn.backward(bn(np.array([[1.0], [3.0]])))
        >>> bn.zero_grad()
        >>> bn.grad_gamma is None
        True
        """
        self.grad_gamma = self.grad_beta = None

    def _grad_dtypes(self) -> tuple[Any, Any]:
        return None if self._gamma is None else self._dtype, None if self._beta is None else self._dtype

    def _add_gradients(self, of_gamma: Any, of_beta: Any) -> None:
        # Without the lock, the update of another thread could be lost.
        locked(LOCK, self._sum_gradients, of_gamma, of_beta)

    def _sum_gradients(self, of_gamma: Any, of_beta: Any) -> None:
        with np.errstate(all="ignore"):
            gamma = of_gamma if self.grad_gamma is None else self.grad_gamma + of_gamma
            beta = of_beta if self.grad_beta is None else self.grad_beta + of_beta
        self.grad_gamma, self.grad_beta = gamma, beta

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or with ``mode=False`` inference mode.

        Parameters
        ----------
        mode : bool, default True

        Returns
        -------
        self
            The layer itself.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.BatchNorm(3).train(False).training
        False
        """
        self.training = mode
        return self

    def eval(self) -> Self:
        """Set inference mode: calls change nothing, and normalize by the running estimates if there are any.

        Returns
        -------
        self
            The layer itself.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.BatchNorm(3).eval().training
        False
        """
        return self.train(False)

    def copy(self) -> Self:
        """Return an independent layer with the same parameters and estimates, in the same mode.

        Returns
        -------
        A layer of the same class

        Examples
        --------
        >>> import bnstream
        >>> bn = bnstream.BatchNorm(3)
        >>> bn.copy() == bn
        True
        """
        new = type(self).__new__(type(self))
        new.__setstate__({
            name: value.copy() if hasattr(value, "copy") else value for name, value in self.__getstate__().items()
        })
        return new

    __copy__ = copy

    def state_dict(self) -> StateDict:
        """Return the parameters by PyTorch's names.

        Returns
        -------
        dict of str to ndarray
            "weight" (gamma) and "bias" (beta) if the layer has them. Copies.

        Examples
        --------
        >>> import bnstream
        >>> sorted(bnstream.LayerNorm(3).state_dict())
        ['bias', 'weight']
        """
        return self._state()

    def _state(self) -> StateDict:
        return StateDict({name: values.copy() for name, values in self._parameters().items()})

    def _parameters(self) -> dict[str, Any]:
        """The parameters themselves, by PyTorch's names."""
        parameters = {"weight": self._gamma, "bias": self._beta}
        return {name: values for name, values in parameters.items() if values is not None}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy parameters into this layer.

        Parameters
        ----------
        state : mapping of str to array_like
            What `state_dict` returns, here or in PyTorch; tensors are accepted. Of "weight" and "bias" one may be
            missing, which stands for 1 or 0.

        Raises
        ------
        TypeError
            If `state` is not a mapping.
        ValueError
            If a name is missing or unexpected, or a shape differs. The layer is then as it was.

        Examples
        --------
        >>> import bnstream
        >>> norm = bnstream.LayerNorm(3)
        >>> norm.load_state_dict(bnstream.LayerNorm(3, eps=1e-6).state_dict())
        """
        parameters = self._parameters()
        replace([*parameters.values()], self._loaded(checked_state(state, parameters, self._shape)))

    def _loaded(self, given: Mapping[str, Any]) -> list[NDArray[Any]]:
        """The parameters in a checked state, in the dtype of this layer."""
        with np.errstate(all="ignore"):
            return [np.full(self._shape, given.get(name, IDENTITY[name]), self.dtype) for name in self._parameters()]

    def __eq__(self, other: object) -> bool:
        """Whether two layers have the same settings, parameters and estimates; NaN equals NaN."""
        if not isinstance(other, NormLayer) or type(other) is not type(self):
            return NotImplemented
        ours, theirs = self._state(), other._state()
        return (
            settings_of(self) == settings_of(other) and ours.keys() == theirs.keys() and
            all(np.array_equal(ours[name].astype(float), theirs[name].astype(float), equal_nan=True) for name in ours)
            and ours.pooled == theirs.pooled
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        arguments = [text if i < self._n_required else f"{name}={text}"
                     for i, (name, text) in enumerate(setting_texts(self))]
        return f"{type(self).__name__}({', '.join(arguments)})"

    _repr_html_: Callable[..., str] = late("bnstream.core.html", "html_table")
    from_torch: Callable[..., Any] = late("bnstream.exchange.torch", "norm_from_torch", of_class=True)
    to_torch: Callable[..., Any] = late("bnstream.exchange.torch", "norm_to_torch")
    from_keras: Callable[..., Any] = late("bnstream.exchange.keras", "norm_from_keras", of_class=True)
    to_keras: Callable[..., Any] = late("bnstream.exchange.keras", "norm_to_keras")
    from_flax: Callable[..., Any] = late("bnstream.exchange.flax", "norm_from_flax", of_class=True)
    to_flax: Callable[..., Any] = late("bnstream.exchange.flax", "norm_to_flax")
    to_linen: Callable[..., tuple[Any, dict[str, Any]]] = late("bnstream.exchange.flax", "norm_to_linen")
    from_onnx: Callable[..., Any] = late("bnstream.exchange.onnx", "norm_from_onnx", of_class=True)
    to_onnx: Callable[..., Any] = late("bnstream.exchange.onnx", "norm_to_onnx")

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the reference to the last x, in dtypes that any serializer can write."""
        result = self._result_dtype
        state = {**self.__dict__, "_pending": None, "_dtype": self.dtype.name,
                 "_result_dtype": None if result is None else result.name}
        if self.dtype.name == "bfloat16":
            state |= {name: state[name].view(np.uint16) for name in PARAMETERS if state[name] is not None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state. Arrays are copied because a serializer may return read-only ones, such as memory maps."""
        result = state["_result_dtype"]
        dtype, shape = stored_floating(state["_dtype"]), shape_of("shape", state["_shape"])
        result = None if result is None else stored_floating(result, "result_dtype")
        state = {**state, "_dtype": dtype, "_result_dtype": result}
        for name in PARAMETERS:
            if state[name] is not None:
                values = np.array(state[name], np.uint16 if dtype.name == "bfloat16" else dtype)
                if values.shape != shape:
                    raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
                state[name] = values.view(dtype)
        self.__dict__.update(state)


def settings_of(layer: NormLayer) -> dict[str, Any]:
    """The arguments that make such a layer, except its names and whether it tracks pooled statistics."""
    return {name: getattr(layer, name) for name in layer._settings}


def setting_texts(layer: NormLayer) -> list[tuple[str, str]]:
    """The settings of a layer by name, as they are written in a call."""
    return [(name, repr(value.name if isinstance(value, np.dtype) else value))
            for name, value in settings_of(layer).items()]
