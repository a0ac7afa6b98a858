"""Layer norm and RMS norm as layers: every row of x is normalized by itself, over its last axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.checks import eps_of, shape_of
from bnstream.core.forward import Forward
from bnstream.core.gradient import Backward
from bnstream.core.instances import row_forward
from bnstream.core.layer import NormLayer, Setting


class RowNorm(NormLayer):
    """What layer norm and RMS norm share."""

    _affine = "elementwise_affine"
    _about_zero: bool

    @property
    def normalized_shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def elementwise_affine(self) -> bool:
        """Whether there is a scale, a shift, or both."""
        return self.affine

    def __call__(
        self, x: ArrayLike, out: NDArray[Any] | None = None, *, n_threads: int | None = None
    ) -> NDArray[Any]:
        """Normalize every row of x, in training and in inference alike.

        Parameters
        ----------
        x : array_like
            Real numbers of any dtype and strides, whose last lengths are `normalized_shape`. It is read in place, and
            in training kept for `backward`.
        out : ndarray, optional
            Where the result goes: of the shape of `x` and the dtype of the result. It may be `x` itself; then there is
            no backward.
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
            As for `layer_norm`.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.LayerNorm(2)(np.array([[1.0, 3.0]])).round(2).tolist()
        [[-1.0, 1.0]]
        """
        return self._call(x, out, None, n_threads)

    def vjp(  # type: ignore[override]
        self, x: ArrayLike, *, n_threads: int | None = None
    ) -> tuple[NDArray[Any], Backward]:
        """Normalize x as a call does, and return the backward pass of this call as a function.

        Parameters
        ----------
        x, n_threads
            As for a call.

        Returns
        -------
        y : ndarray
            What a call returns.
        backward : Backward
            As for `BatchNorm.vjp`.

        Raises
        ------
        TypeError, ValueError
            As for a call.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> y, backward = bnstream.LayerNorm(3).vjp(np.array([[1.0, 3.0, 5.0]]))
        >>> backward(np.array([[1.0, 0.0, 0.0]]))[0].round(3).tolist()
        [[0.102, -0.204, 0.102]]
        """
        return super().vjp(x, n_threads=n_threads)

    def _normalize(
        self, x: ArrayLike, out: NDArray[Any] | None, where: ArrayLike | None, n_threads: int | None
    ) -> tuple[NDArray[Any], Forward]:
        forward = row_forward(x, self._shape, self._gamma, self._beta, self.eps, self._about_zero, self._result_dtype)
        return forward.train(out, "propagate", n_threads), forward


class LayerNorm(RowNorm):
    """Layer normalization: every row of x by its own mean and variance, over the last axes.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The last lengths of every x, those that are reduced over.
    eps : float, default 1e-5
        Added to the variance.
    elementwise_affine : bool, default True
        Whether the layer has gamma and beta, a scale and a shift of each element of a row.
    bias, scale : bool, default True
        With `elementwise_affine`, whether the layer has beta, and whether it has gamma.
    dtype : dtype, default "float32"
        The dtype of gamma, beta and their gradients: float16, bfloat16, float32 or float64.
    result_dtype : dtype, optional
        The dtype of results, one of the same four. By default that of x, or float32 for integers.
    names : sequence of str, optional
        The names of the elements of a row.

    Attributes
    ----------
    gamma, beta : ndarray or None
        Arrays of shape `normalized_shape`, initially 1 and 0; None where the layer has none. Each is always the same
        array: change it in place, or assign to the attribute, which copies into it.
    grad_gamma, grad_beta : ndarray or None
        The gradients of the last `backward`, or the sums of those that were accumulated.
    training : bool
        The mode, initially True. It says only whether a call keeps x for `backward`.
    normalized_shape, elementwise_affine, scale, bias, dtype, eps, result_dtype, names
        As given. The last three may be set.

    See Also
    --------
    layer_norm : the same without a layer; its notes hold here.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> norm = bnstream.LayerNorm(4, bias=False, dtype="float64")
    >>> x = np.array([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])
    >>> norm(x).round(2).tolist()
    [[-1.34, -0.45, 0.45, 1.34], [-1.34, -0.45, 0.45, 1.34]]
    >>> dx = norm.backward(np.ones((2, 4)))
    >>> norm.grad_gamma.round(2).tolist(), norm.grad_beta
    ([-2.68, -0.89, 0.89, 2.68], None)
    """

    _settings = ("normalized_shape", "eps", "scale", "bias", "dtype", "result_dtype")
    _about_zero = False

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, *, scale: bool = True, dtype: DTypeLike = "float32", result_dtype: DTypeLike | None = None,
        names: Iterable[str] | None = None,
    ) -> None:
        super().__init__(
            shape_of("normalized_shape", normalized_shape), eps=eps, scale=elementwise_affine and scale,
            bias=elementwise_affine and bias, dtype=dtype, result_dtype=result_dtype, names=names,
        )


class RMSNorm(RowNorm):
    """Root-mean-square normalization: every row of x is divided by its root mean square, over the last axes.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The last lengths of every x, those that are reduced over.
    eps : float, optional
        Added to the mean square; by default the eps of float64 for x of float64, else that of float32, as in PyTorch.
    elementwise_affine : bool, default True
        Whether the layer has gamma, a scale of each element of a row.
    dtype, result_dtype, names
        As for `LayerNorm`.

    Attributes
    ----------
    gamma, grad_gamma, training, normalized_shape, elementwise_affine, dtype, eps, result_dtype, names
        As for `LayerNorm`. beta and `grad_beta` are None.

    See Also
    --------
    rms_norm : the same without a layer; its notes hold here.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> bnstream.RMSNorm(2)(np.array([[3.0, 4.0]])).round(3).tolist()
    [[0.849, 1.131]]
    """

    _settings = ("normalized_shape", "eps", "elementwise_affine", "dtype", "result_dtype")
    _about_zero = True
    eps = Setting(lambda name, value: None if value is None else eps_of(name, value))

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True, *,
        dtype: DTypeLike = "float32", result_dtype: DTypeLike | None = None, names: Iterable[str] | None = None,
    ) -> None:
        super().__init__(
            shape_of("normalized_shape", normalized_shape), eps=eps, scale=elementwise_affine, bias=False, dtype=dtype,
            result_dtype=result_dtype, names=names,
        )
