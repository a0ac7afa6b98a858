"""Batch normalization by domain: each domain has a layer of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.columns import require_names_in_order
from bnstream.core.groups.keys import keys_of
from bnstream.core.groups.sums import array_of
from bnstream.core.labels import counted, listed, require_order


class DomainBatchNorm(Mapping[Any, BatchNorm]):
    """Batch normalization with statistics, scale and shift of each domain, such as a site, a sensor or a data set.

    Parameters
    ----------
    num_features : int
        The number of channels.
    **options
        Those of `BatchNorm`, for the layer of every domain. `virtual_batch` counts the rows of one domain.

    Attributes
    ----------
    training : bool
        The mode of all layers, initially True.
    num_features : int
        As given.
    domain_names : tuple of str or None
        The names of the columns of domains, of the first call in training that has them.

    See Also
    --------
    BatchNorm : the layer of one domain.
    GroupedMoments.normalize : by the statistics of whole groups.

    Notes
    -----
    An object is a mapping of domains to their layers: ``bn["site A"].running_mean``. A call in training makes a layer
    for each new domain. It normalizes the rows of a domain by the statistics of these rows alone [1]_, which then move
    the running estimates of the domain. Results and estimates have the bits of a `BatchNorm` that is given the rows of
    the domain. A call that raises leaves all layers as they were.

    References
    ----------
    .. [1] W.-G. Chang, T. You, S. Seo, S. Kwak, B. Han, "Domain-Specific Batch Normalization for Unsupervised Domain
       Adaptation", 2019.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> bn = bnstream.DomainBatchNorm(1, dtype="float64", eps=0)
    >>> x, domain = np.array([[1.0], [3.0], [10.0], [30.0]]), ["a", "a", "b", "b"]
    >>> bn(x, domain).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    >>> list(bn), bn["b"].running_mean.tolist()
    (['a', 'b'], [2.0])
    """

    def __init__(self, num_features: int, **options: Any) -> None:
        self._template = BatchNorm(num_features, **options)
        self._layers: dict[Any, BatchNorm] = {}
        self.domain_names: tuple[str, ...] | None = None
        self._rows: dict[Any, NDArray[np.intp]] | None = None      # of the last call in training, by domain
        self._lock = threading.Lock()

    @property
    def num_features(self) -> int:
        return self._template.num_features

    @property
    def training(self) -> bool:
        return self._template.training

    def __getitem__(self, domain: Any) -> BatchNorm:
        return self._layers[domain]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __call__(self, x: ArrayLike, domain: Any, *, n_threads: int | None = None) -> NDArray[Any]:
        """Normalize each row of x by its domain: in training by the statistics of the batch, else by the estimates.

        Parameters
        ----------
        x : array_like
            As for `BatchNorm`, with rows along axis 0.
        domain : array_like, or sequence or mapping of them
            The domain of each row, like the keys of `GroupedMoments.update`; or one int, bool or str for all rows.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        ndarray
            Of the shape of x, and of the dtype that `BatchNorm` returns.

        Raises
        ------
        TypeError, ValueError
            As a call of `BatchNorm`; a ValueError names the domain. A TypeError if domains are of another kind than
            those before. A ValueError if channels lie along axis 0, a domain has more than 64 bits, or columns of
            domains have the names of those before in another order.
        KeyError
            In inference, if a domain has no layer.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.DomainBatchNorm(1, dtype="float64", eps=0)
        >>> bn(np.array([[1.0], [3.0]]), "a").ravel().tolist()
        [-1.0, 1.0]
        """
        require_names_in_order(self._template.names, x)
        a = array_of(x)
        channel_axis = self._template.channel_axis
        if a.ndim and channel_axis in (0, -a.ndim):
            raise ValueError(f"channel_axis={channel_axis} is the axis of the rows of x of shape {a.shape}, which have "
                             "a domain each; move the channels to another axis")
        n_rows = a.shape[0] if a.ndim else 0
        if isinstance(domain, str | int | np.generic):
            domain = np.full(n_rows, domain)
        if not n_rows:
            return self._template.copy()(a)         # refuses it in training
        rows, names = rows_by_domain(domain, n_rows, a.shape)
        with self._lock:
            require_kind(next(iter(rows)), self._layers)
            require_order(self.domain_names, names, "columns of domains")
            new = {key: self._template.copy() for key in rows if key not in self._layers}
            if new and not self.training:
                raise KeyError(f"no layer of the domain {listed([*map(repr, new)])}; the domains are "
                               f"{listed([*map(repr, self._layers)]) or 'none'}: train with it first")
            layers = {key: new[key] if key in new else self._layers[key] for key in rows}
            y = self._normalize(a, rows, layers, n_threads)
            self._layers = {**self._layers, **new}
            if self.training:
                self._rows = rows
                self.domain_names = names if self.domain_names is None else self.domain_names
        return y

    def _normalize(
        self, x: NDArray[Any], rows: dict[Any, NDArray[np.intp]], layers: dict[Any, BatchNorm], n_threads: int | None
    ) -> NDArray[Any]:
        """Call the layer of each domain. If one refuses its rows, all are as they were."""
        before = {key: (layer.copy(), layer._pending) for key, layer in layers.items()} if self.training else {}
        parts = {}
        key = None
        try:
            for key, layer in layers.items():
                parts[key] = layer(np.ascontiguousarray(x[rows[key]]), n_threads=n_threads)
            return joined(parts, rows, x.shape)
        except BaseException as error:
            for other, (old, pending) in before.items():
                layers[other]._become(old._running, old._pooled)        # type: ignore[arg-type]
                layers[other]._pending = pending
            if isinstance(error, ValueError):
                raise ValueError(f"domain {key!r}: {error}") from error
            raise

    def backward(self, dy: ArrayLike, *, n_threads: int | None = None) -> NDArray[Any]:
        """Compute the gradients of x, and of gamma and beta of each layer, for the last call in training.

        Parameters
        ----------
        dy : array_like
            The gradient of the result, of its shape.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        ndarray
            The gradient of x. Those of gamma and beta are in the layers of the domains.

        Raises
        ------
        RuntimeError
            If there was no call in training since the last `backward`.
        ValueError
            If `dy` has another shape.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bn = bnstream.DomainBatchNorm(1, dtype="float64", eps=0)
        >>> _ = bn(np.array([[1.0], [3.0], [10.0], [20.0]]), ["a", "a", "b", "b"])
        >>> _ = bn.backward(np.array([[1.0], [0.0], [2.0], [0.0]]))
        >>> bn["a"].grad_beta.tolist(), bn["b"].grad_beta.tolist()
        ([1.0], [2.0])
        """
        with self._lock:
            if self._rows is None:
                raise RuntimeError("backward needs a call in training before it")
            rows, gradient = self._rows, array_of(dy)
            n_rows = sum(map(len, rows.values()))
            if gradient.ndim == 0 or len(gradient) != n_rows:
                raise ValueError(f"dy must have the {n_rows} rows of the last call in training, got shape "
                                 f"{gradient.shape}")
            parts = {key: self._layers[key].backward(np.ascontiguousarray(gradient[at]), n_threads=n_threads)
                     for key, at in rows.items()}
            self._rows = None
        return joined(parts, rows, gradient.shape)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers: training, or with ``mode=False`` inference; return the object itself.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.DomainBatchNorm(1).train().training
        True
        """
        with self._lock:
            for layer in (self._template, *self._layers.values()):
                layer.train(mode)
        return self

    def eval(self) -> Self:
        """Set the mode of all layers to inference; return the object itself.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.DomainBatchNorm(1).eval().training
        False
        """
        return self.train(False)

    def copy(self) -> Self:
        """Return an independent object with the same layers, in the same mode.

        Returns
        -------
        DomainBatchNorm

        Examples
        --------
        >>> import bnstream
        >>> bnstream.DomainBatchNorm(1).eval().copy().training
        False
        """
        new = type(self).__new__(type(self))
        new.__setstate__(self.__getstate__())
        return new

    __copy__ = copy

    def __getstate__(self) -> dict[str, Any]:
        """Return copies of the layers, of one moment, but not the call that awaits `backward`."""
        with self._lock:
            return {"_template": self._template.copy(), "_rows": None, "domain_names": self.domain_names,
                    "_layers": {domain: layer.copy() for domain, layer in self._layers.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        domains = listed([repr(key) for key in self._layers], most=8) or "none yet"
        return f"DomainBatchNorm({self.num_features}): domains {domains}"


def require_kind(domain: Any, known: Mapping[Any, Any]) -> None:
    """Raise TypeError unless a domain is of the kind of those that are known."""
    other = next(iter(known), domain)
    if types_of(other) != types_of(domain):
        raise TypeError(f"expected domains such as {other!r}, got {domain!r}; convert them")


def types_of(domain: Any) -> list[type]:
    """The types of the parts of a domain. True is equal to 1, so that a dict would take one for the other."""
    return [type(part) for part in domain] if isinstance(domain, tuple) else [type(domain)]


def rows_by_domain(
    domain: Any, n_rows: int, shape: tuple[int, ...]
) -> tuple[dict[Any, NDArray[np.intp]], tuple[str, ...] | None]:
    """The numbers of the rows of each domain, in ascending order of the domains, and the names of their columns."""
    found = keys_of(domain, n_rows, f"x of shape {shape}", "keep", None, "domain")
    keys = found.distinct.tolist() if isinstance(found.distinct, np.ndarray) else found.distinct
    rows = dict(zip(keys, found.rows(n_rows), strict=True))
    n_missing = sum(len(rows[key]) for key in rows if key is None or (isinstance(key, tuple) and None in key))
    if n_missing:
        raise ValueError(f"domain is missing in {counted(n_missing, 'row', 'rows')} of x; leave them out of both, or "
                         "give them a domain of their own")
    return rows, found.names


def joined(
    parts: Mapping[Any, NDArray[Any]], rows: Mapping[Any, NDArray[np.intp]], shape: tuple[int, ...]
) -> NDArray[Any]:
    """The rows of all parts in their places."""
    whole = np.empty(shape, next(iter(parts.values())).dtype)
    for key, part in parts.items():
        whole[rows[key]] = part
    return whole
