"""The backward pass of one call, apart from the call: it may run at any time, and more than once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.dlpack import as_numpy
from bnstream.core.dtypes import is_floating
from bnstream.core.forward import Forward

Gradients = tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]


def gradient_dtype(parameter: ArrayLike | None) -> np.dtype[Any] | None:
    """The dtype of the gradient of a parameter; None without one."""
    if parameter is None:
        return None
    dtype: np.dtype[Any] = as_numpy(parameter).dtype.newbyteorder("=")
    return dtype if is_floating(dtype) else np.dtype(np.float64)


class Backward:
    """The vector-Jacobian product of one normalization: a function of the gradient of its result.

    It holds x, and the statistics and parameters as they were: it gives the gradients of that call, whatever is called
    afterwards, in any order, by any thread, and as often as needed. Do not change x in between.

    Parameters
    ----------
    forward : Forward
        The call.
    dtypes : tuple of dtype or None
        The dtypes of the gradients of gamma and beta, None where there is no such parameter.
    add : callable, optional
        Adds both gradients to those of a layer.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> x = np.array([[2.0], [4.0], [6.0], [8.0]])
    >>> y, backward = bnstream.batch_norm_vjp(x, None, None, gamma=[1.0], beta=[0.0], training=True)
    >>> dx, grad_gamma, grad_beta = backward(np.array([[1.0], [0.0], [0.0], [0.0]]))
    >>> dx.round(2).ravel().tolist(), grad_gamma.round(2).tolist(), grad_beta.tolist()
    ([0.13, -0.18, -0.04, 0.09], [-1.34], [1.0])
    """

    def __init__(
        self, forward: Forward, dtypes: tuple[Any, Any], add: Callable[[Any, Any], None] | None = None
    ) -> None:
        self._forward, self._dtypes, self._add = forward, dtypes, add

    def __reduce__(self) -> NoReturn:
        raise TypeError("the backward pass of a call holds its x, and cannot be copied or pickled; copy the layer")

    def __call__(
        self, dy: ArrayLike, out: NDArray[Any] | None = None, *, accumulate: bool = False,
        n_threads: int | None = None,
    ) -> Gradients:
        """Compute the gradients of x, gamma and beta.

        Parameters
        ----------
        dy : array_like
            The gradient of the result, of its shape.
        out : ndarray, optional
            Where the gradient of x goes: of its shape and dtype, float32 for integers. It may be `dy`.
        accumulate : bool, default False
            Also add the gradients of gamma and beta to `grad_gamma` and `grad_beta` of the layer.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        dx : ndarray
            The gradient of x, of its shape and dtype, float32 for integers.
        grad_gamma, grad_beta : ndarray or None
            Of the shape and dtype of the parameter; None without that parameter.

        Raises
        ------
        TypeError
            If `dy` is not of real numbers.
        ValueError
            If `dy` has another shape, `out` cannot be used, or there is no layer to accumulate in.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.BatchNorm(2)
        >>> y, backward = bn.vjp(np.array([[1.0, 2.0], [3.0, 6.0]]))
        >>> for _ in range(2):
        ...     _ = backward(np.ones_like(y), accumulate=True)
        >>> bn.grad_beta.tolist()
        [4.0, 4.0]
        """
        if accumulate and self._add is None:
            raise ValueError("accumulate=True needs a layer; add up the gradients that are returned")
        dx, grad_gamma, grad_beta = self._forward.backward(dy, out, self._dtypes, n_threads, keep_x=True)
        if accumulate and self._add is not None:
            self._add(grad_gamma, grad_beta)
        return dx, grad_gamma, grad_beta
