"""Moments of each group of rows, by keys: a mapping of keys to `Moments`, in tables of states."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.blocks import empty_of_shape
from bnstream.core.columns import Columns, in_exact_form, require_mask_in_order, require_names_in_order
from bnstream.core.columnwise import left_out
from bnstream.core.groups.batch import Batch, add_batch
from bnstream.core.groups.index import Index
from bnstream.core.groups.keys import Keys, Missing, keys_of
from bnstream.core.groups.results import Results
from bnstream.core.groups.states import States
from bnstream.core.groups.sums import array_of, axes_in, take_over, update_few
from bnstream.core.labels import counted, listed, require_order
from bnstream.core.late import late
from bnstream.core.moments import Moments, add_missing, moments_from
from bnstream.core.rows import ROWS
from bnstream.core.threads import require_threads
from bnstream.core.tracking import arrays_of

Policy = Literal["raise", "omit", "propagate"]


class GroupedMoments(Results, Mapping[Any, Moments]):
    """Count, mean and sum of squared deviations of every channel, for each group of rows.

    Parameters
    ----------
    axis : int, tuple of int or None, default 0
        The batch axes of every batch, as of `Moments`. The keys lie along the lowest of them.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        What to do about NaN and inf, as of `Moments`.
    missing_keys : {"raise", "omit", "keep"}, default "raise"
        What to do about rows without a key (None, NaN, null): refuse the batch; leave these rows out, as groupby of
        pandas does; or make them the group of the key None.
    names : sequence of str, optional
        The names of the channels, if these are of one axis.
    key_names : sequence of str, optional
        The names of the columns of keys; by default those of the first keys that have names.
    exact : bool, default False
        Keep exact statistics, as `Moments` does. Each group then takes 2 to 4 KB, and an update some microseconds for
        each of its groups.
    track : str or sequence of str, optional
        What to find beside count, mean and variance, as for `Moments`: "min" and "max", "missing", "skewness" and
        "kurtosis", "quantiles". Each group then takes some KB, and an update some microseconds for each of its groups.

    Attributes
    ----------
    n : ndarray of int64 or float64
        The numbers of values, of shape (groups, \\*channels), with the groups in the order of `keys`.
    mean : ndarray of float64
        The means, of the same shape.
    min, max : ndarray of float64
        The least and the greatest values, if these are tracked.
    missing : ndarray of int64
        The numbers of missing values, left out or propagated, if these are tracked.
    shape : tuple of int or None
        The shape of the channels, None before the first batch.
    names, key_names : tuple of str or None
        As given. `names` may be set.
    axis, nan_policy, missing_keys, exact, track
        As given.

    See Also
    --------
    Moments : the statistics of one group.
    fit : with ``by=``, the same for files.

    Notes
    -----
    An object is a mapping: ``g[key]`` is a `Moments`, a copy; ``len(g)``, ``key in g``, ``g.items()`` are those of any
    mapping. A key is an int, a bool or a str; of several columns of keys it is a tuple. New keys are added in ascending
    order. A new object is the identity of `merge`, so ``sum(parts, GroupedMoments())`` holds what one object would.

    For batches of up to 4 MiB, the state of a group has the bits of a `Moments` that gets the rows of the group in one
    call for each update: ``Moments().update(batch[keys == key])``, on any number of threads. Larger batches are read in
    pieces, whose size depends on the bytes of a row and the number of groups in the batch. Within a piece, the rows of
    a group are added in portions of at most 32 KiB, or 256 values of a channel. Exact statistics do not depend on any
    cut, and with `track` the rows of a group are not divided. The error bound of `Moments` holds for every group.

    A group takes 40 bytes a channel (56 with weights), with the channels rounded up to a multiple of 8, and its key
    some 30. An update takes as much again for the groups in the batch, and working memory: 32 KiB for each group and
    thread for up to some thousand groups, at most 1.1 GB for more. Up to 128 MiB of it are kept for the next update.

    A call that raises leaves the state as it was. Several threads may update one object; their calls run one after the
    other. Objects pickle, and two of them are equal if they hold the same keys with equal `Moments`.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> g = bnstream.GroupedMoments(names=["delay"])
    >>> _ = g.update(np.array([[1.0], [3.0], [10.0]]), ["AA", "AA", "UA"])
    >>> list(g), g["AA"].mean.tolist(), g.total().n.tolist()
    (['AA', 'UA'], [2.0], [3])
    >>> g.mean.tolist(), g.var().tolist()
    ([[2.0], [10.0]], [[1.0], [0.0]])
    """

    __hash__: ClassVar[None]                                            # type: ignore[assignment]

    def __init__(
        self,
        axis: SupportsIndex | Sequence[SupportsIndex] | None = 0,
        *,
        nan_policy: Policy = "raise",
        missing_keys: Missing = "raise",
        names: Sequence[str] | None = None,
        key_names: Sequence[str] | None = None,
        exact: bool = False,
        track: str | Sequence[str] = (),
    ) -> None:
        self._template = Moments(axis, nan_policy=nan_policy, names=names, exact=exact, track=track)
        if missing_keys not in ("raise", "omit", "keep"):
            raise ValueError(f"missing_keys must be 'raise', 'omit' or 'keep', got {missing_keys!r}")
        self.missing_keys: Missing = missing_keys
        self.key_names = checked_key_names(key_names)
        self.kinds: tuple[str, ...] | None = None       # of the columns of keys
        self.shape: tuple[int, ...] | None = None
        self._index = Index()
        self._states = States(self._template)
        self._lock = threading.Lock()       # With it, the places are held, so that no thread updates a few rows.
        self._scratch: list[Any] = []
        self._index.integers.omit = nan_policy == "omit"

    @property
    def axis(self) -> Any:
        return self._template.axis

    @property
    def nan_policy(self) -> Policy:
        policy: Policy = self._template.nan_policy              # type: ignore[assignment]
        return policy

    @property
    def exact(self) -> bool:
        return self._template.exact

    @property
    def track(self) -> tuple[str, ...]:
        return self._template.track

    @property
    def names(self) -> tuple[str, ...] | None:
        return self._template.names

    @names.setter
    def names(self, names: Sequence[str] | None) -> None:
        found = Moments(names=names).names
        if found is not None and self.shape not in (None, (len(found),)):
            raise ValueError(f"names must fit channels of shape {self.shape}, got "
                             f"{counted(len(found), 'name', 'names')}")
        self._template.names = found

    def update(
        self,
        batch: ArrayLike,
        keys: Any,
        *,
        weights: ArrayLike | None = None,
        where: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> Self:
        """Add a batch to the statistics of the groups of its rows.

        Parameters
        ----------
        batch : array_like
            Real numbers or a table, as for `Moments.update`. Arrays are read in place if each row is contiguous.
        keys : array_like, or sequence or mapping of them
            The key of each row, along the first batch axis: integers, bools or strings in an array of NumPy, a list, an
            array of pyarrow, or a Series or Categorical of pandas or polars. Of arrays with a dictionary, the values
            are not read row by row. With several columns of keys, in a list, a mapping of names or a table, keys are
            tuples.
        weights, where : array_like, optional
            As for `Moments.update`. A mask that differs between channels costs some microseconds a group.
        n_threads : int, optional
            The maximum number of threads; by default `get_num_threads()`.

        Returns
        -------
        GroupedMoments
            The object itself.

        Raises
        ------
        TypeError
            As `Moments.update`; if keys are of other types, or not of those of the keys before.
        ValueError
            As `Moments.update`, with the group in the message; if there is not one key for each row, or some are
            missing under ``missing_keys="raise"``; if columns of keys have the names of those before in another order,
            or an integer has more than 64 bits.
        OverflowError
            As `Moments.update`.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> g = bnstream.GroupedMoments()
        >>> _ = g.update(np.array([1.0, 3.0, 5.0]), {"sensor": [7, 7, 9], "day": ["mo", "tu", "mo"]})
        >>> g.key_names, list(g)
        (('sensor', 'day'), [(7, 'mo'), (7, 'tu'), (9, 'mo')])
        """
        plain = weights is None and where is None and n_threads is None
        if plain and self._index.numbers is None and self._states.moments is None and update_few(
                self._index.integers, self, batch, keys):
            return self
        with self._lock, self._index.integers:
            self._update(batch, keys, weights, where, n_threads)
        return self

    def _update(self, batch: Any, keys: Any, weights: Any, where: Any, n_threads: int | None) -> None:
        require_threads(n_threads)
        require_names_in_order(self.names, batch)
        require_mask_in_order(where, batch)
        found = in_exact_form(batch)
        if not isinstance(found, Columns):
            found = array_of(found)
        axes = axes_in(self.axis, found.ndim)
        kept = tuple(n for i, n in enumerate(found.shape) if i not in axes)
        require_channels(self, kept, found.shape)
        place = f"a batch of shape {found.shape} with axis={self.axis!r}"
        if 0 in found.shape:
            self._template.copy().update(found, weights=weights, where=where)       # checks what else was given
            return
        of_batch = keys
        if not isinstance(keys, Keys):
            of_batch = keys_of(keys, found.shape[axes[0]], place, self.missing_keys, n_threads)
        elif len(of_batch.lookup.keys) != found.shape[axes[0]]:
            raise ValueError(f"expected one key for each of the {found.shape[axes[0]]:,} rows of {place}, got "
                             f"{len(of_batch.lookup.keys):,}")
        of_batch = with_kinds(self, of_batch)
        at = self._index.find(of_batch.distinct)
        states = self._states.some(at, kept, weights is not None, of_batch.omitted is not None)
        try:
            add_batch(Batch(found, axes, of_batch, weights, where), states, n_threads, self._scratch)
        except MemoryError:
            self._scratch.clear()       # It may hold places for which there was no memory.
            raise
        self._commit(of_batch, at, states, self._states)

    def _add_missing(self, keys: Keys, missing: NDArray[np.bool_], weights: NDArray[Any] | None) -> None:
        """Count values that the last update has not seen as missing."""
        with self._lock, self._index.integers:
            at = self._index.find(keys.distinct)
            of_rows = keys.lookup.places(0, len(missing))
            for g in np.unique(of_rows[missing.reshape(len(missing), -1).any(1)]):
                rows = of_rows == g
                if g != keys.omitted and self._states.moments is not None:
                    add_missing(self._states.moments[at[g]],
                                left_out(missing[rows], None if weights is None else weights[rows], self.exact))

    def _commit(self, of_batch: Keys, at: NDArray[np.int64], states: States, of_all: States, **more: Any) -> None:
        """Take over the states of a batch among those of all groups: its groups are at these places, or new. `more` are
        other attributes that change with them."""
        n = len(self._index)
        new = np.flatnonzero(at < 0)
        n_all = n + len(new)
        at[new] = np.arange(n, n_all)
        labels = of_batch.distinct
        fresh = labels[new] if isinstance(labels, np.ndarray) else [labels[i] for i in new]
        everything, places = of_all.with_room(at, states, n_all)
        attributes = {"_states": everything, "shape": states.shape, "kinds": of_batch.kinds,
                      "key_names": of_batch.names if self.key_names is None else self.key_names, **more}
        try:
            self._index.add(fresh)
            take_over(everything.table, everything.flags, places, states.table, states.flags, self, attributes)
        except BaseException:
            if self._states is not everything:
                self._index.cut(n)
            raise

    def __getitem__(self, key: Any) -> Moments:
        """The statistics of one group, a copy."""
        with self._lock, self._index.integers:
            place = self._place(key)
            if place < 0:
                raise KeyError(key)
            return self._states.get(place)

    def _place(self, key: Any) -> int:
        if isinstance(key, np.generic):
            key = key.item()
        return self._index.place(key)

    def __contains__(self, key: object) -> bool:
        return self._place(key) >= 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self._index.all())

    def __len__(self) -> int:
        return len(self._index)

    def _stacked(self) -> tuple[Moments, list[int]]:
        """A Moments of all groups, whose channels are (groups, \\*channels), and the places of those with weights."""
        with self._lock, self._index.integers:
            return self._states.stacked(len(self)), self._states.weighted(len(self))

    def _statistics(self) -> Moments:
        """A Moments of all groups, of shape (0, \\*channels) if there are none."""
        whole, _ = self._stacked()
        if whole.shape is None:
            shape = (0, *(self.shape or ()))
            nothing = {name: np.zeros(shape) for name in arrays_of(self.track)}
            whole = moments_from(np.zeros((len(ROWS), *shape)), tracked=nothing)
        return whole

    def total(self) -> Moments:
        """Merge the statistics of all groups: neighbors in the order of `keys`, then neighboring pairs, and so on.

        Returns
        -------
        Moments

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.GroupedMoments().update(np.array([1.0, 3.0, 5.0]), [0, 0, 1]).total().mean.tolist()
        3.0
        """
        with self._lock, self._index.integers:
            return self._states.total(len(self))

    def merge(self, other: GroupedMoments) -> Self:
        """Add the statistics of another object, group by group.

        Parameters
        ----------
        other : GroupedMoments
            With the same channels and keys of the same kind. It is not changed.

        Returns
        -------
        GroupedMoments
            The object itself.

        Raises
        ------
        TypeError
            If `other` is not a GroupedMoments, or its keys are of another kind.
        ValueError
            As `Moments.merge`, or if the columns of keys have other names. Nothing is changed then.
        OverflowError
            As `Moments.merge`.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> a, b = (bnstream.GroupedMoments().update(np.array([x]), [7]) for x in (1.0, 3.0))
        >>> a.merge(b)[7].mean.tolist()
        2.0
        """
        if not isinstance(other, GroupedMoments):
            raise TypeError(f"expected a GroupedMoments to merge, got {type(other).__name__}; update() takes arrays "
                            "and keys")
        them = other.copy()
        with self._lock, self._index.integers:
            one, of_them = (moments_of_shape(g) for g in (self, them))
            one.merge(of_them)          # checks shapes, names and exactness, and finds what is tracked from now on
            key_names = them.key_names if self.key_names is None else self.key_names
            if them.key_names not in (None, key_names):
                raise ValueError(f"expected keys named {list(key_names or ())} as here, got "
                                 f"{list(them.key_names or ())} in the other GroupedMoments")
            like = Moments(self.axis, nan_policy=self.nan_policy, names=one.names, exact=one.exact, track=one.track)
            self._merge(them, like, key_names)
        return self

    def _merge(self, them: GroupedMoments, like: Moments, key_names: tuple[str, ...] | None) -> None:
        """Merge the states, with the settings that the result has."""
        n = len(them)
        own, others = self._states.as_in(like, len(self)), them._states.as_in(like, n)
        if them.shape is None or them.kinds is None:
            self._states, self._template, self.key_names = own, like, key_names
            return
        of_them = with_kinds(self, Keys(None, them._index.whole(), None, them.kinds, None))   # type: ignore[arg-type]
        at = self._index.find(of_them.distinct)
        states = own.some(at, others.shape, bool(others.weighted(n)))
        states.merge(others, lambda i: f"group {them._index.all()[i]!r}: ")
        self._commit(of_them, at, states, own, _template=like, key_names=key_names)

    def __add__(self, other: GroupedMoments) -> GroupedMoments:
        if not isinstance(other, GroupedMoments):
            return NotImplemented
        return self.copy().merge(other)

    def __radd__(self, other: object) -> GroupedMoments:
        return self.copy() if isinstance(other, int) and other == 0 else NotImplemented     # sum(parts) starts from 0

    def _settings(self) -> dict[str, Any]:
        """The arguments that make such an object."""
        return {"axis": self.axis, "nan_policy": self.nan_policy, "missing_keys": self.missing_keys,
                "names": self.names, "key_names": self.key_names, "exact": self.exact, "track": self.track}

    def copy(self) -> GroupedMoments:
        """Return an independent object with the same state.

        Returns
        -------
        GroupedMoments

        Examples
        --------
        >>> import bnstream
        >>> g = bnstream.GroupedMoments()
        >>> g.copy() == g
        True
        """
        new = GroupedMoments(**self._settings())
        with self._lock, self._index.integers:
            n = len(self._index)
            new._index, new.kinds, new.shape = self._index.copy(), self.kinds, self.shape
            new._states = self._states.copy(n, new._template)
        return new

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupedMoments):
            return NotImplemented
        if (self.exact, self.shape, len(self)) != (other.exact, other.shape, len(other)):
            return False
        if self.shape is None:
            return True
        with other._lock, other._index.integers:
            at = other._index.find(self._index.whole())
            if (at < 0).any():
                return False
            them = other._states.some(at, self.shape, False)
        return self._stacked()[0] == them.stacked(len(at))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state as plain objects."""
        with self._lock, self._index.integers:
            n = len(self._index)
            return {
                **self._settings(), "kinds": self.kinds, "shape": self.shape, "keys": self._index.all(),
                "states": self._states.stacked(n), "weighted": self._states.weighted(n),
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        filled = ("kinds", "shape", "keys", "states", "weighted")
        GroupedMoments.__init__(self, **{name: value for name, value in state.items() if name not in filled})
        self._fill(state["states"], state["weighted"], state["keys"], state["kinds"])
        self.shape = state["shape"]

    def _fill(
        self, whole: Moments, weighted: Sequence[int], keys: Sequence[Any], kinds: tuple[str, ...] | None
    ) -> None:
        """Fill an empty object with what `_stacked` of another returned, and its keys."""
        self.kinds = kinds
        if whole.shape is not None:
            self._states = States.of_stack(whole, self._template, weighted)
            self.shape = self._states.shape
            self._index.add(as_labels(keys, kinds))

    def __reduce__(self) -> Any:
        return object.__new__, (type(self),), self.__getstate__()

    to_arrow = late("bnstream.core.groups.table", "to_arrow")
    to_pandas = late("bnstream.core.groups.table", "to_pandas")
    normalize = late("bnstream.core.groups.affine", "normalize")
    _repr_html_ = late("bnstream.core.groups.table", "html_table")

    def __repr__(self) -> str:
        settings = f"axis={self.axis!r}, nan_policy={self.nan_policy!r}" + ", exact=True" * self.exact
        settings += f", track={list(self.track)}" * bool(self.track)
        if self.shape is None:
            return f"GroupedMoments({settings}): empty"
        keys = listed([repr(key) for key in self._index.all()[:9]], most=8)
        return (f"GroupedMoments({settings}): {counted(len(self), 'group', 'groups')} of channels {self.shape}\n"
                f"  keys {keys}" + (f" ({len(self):,} in all)" if len(self) > 8 else ""))


def checked_key_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of columns of keys, which are str and differ, as those of channels do."""
    try:
        return Moments(names=names).names
    except (TypeError, ValueError) as error:
        raise type(error)(f"key_{error}") from None


def advice_on(state: object) -> str:
    """What to do where the statistics of one group are expected."""
    return "; take those of all groups by total(), or of one by its key" if isinstance(state, GroupedMoments) else ""


def as_labels(keys: Sequence[Any], kinds: tuple[str, ...] | None) -> Any:
    """Keys in the form of an `Index`."""
    if kinds == ("int",) and all(type(key) is int and -2**63 <= key < 2**63 for key in keys):
        return np.array(keys, np.int64)
    return list(keys)


def require_channels(g: GroupedMoments, kept: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a batch has the channels of those before."""
    if g.shape is not None and g.shape != kept:
        raise ValueError(f"expected channels of shape {g.shape} as in the batches before, got {kept} from a batch of "
                         f"shape {shape} with axis={g.axis!r}")
    if g.shape is None and g.names is not None and kept != (len(g.names),):
        raise ValueError(f"expected {len(g.names)} channels, one for each name, got channels of shape {kept} from a "
                         f"batch of shape {shape} with axis={g.axis!r}")


def with_kinds(g: GroupedMoments, of_batch: Keys) -> Keys:
    """Keys with the kinds of those before and theirs; raise an error if these differ, or columns of keys are in another
    order. Missing keys are of any kind."""
    require_order(g.key_names, of_batch.names, "columns of keys")
    before: Any = g.kinds or of_batch.kinds
    now = of_batch.kinds
    both: Any = tuple(b if a == "missing" else a for a, b in zip(before, now, strict=False))
    differ = len(before) != len(now) or any(b not in (a, "missing") for a, b in zip(both, now, strict=True))
    if differ and len(of_batch.distinct):
        raise TypeError(f"expected keys of {' and '.join(before)} as before, got {' and '.join(now)}; convert them")
    if g.key_names is not None and len(g.key_names) != len(now):
        raise ValueError(f"expected {counted(len(g.key_names), 'column', 'columns')} of keys, {listed(g.key_names)}, "
                         f"got {len(now)}")
    return of_batch._replace(kinds=before if differ else both)


def moments_of_shape(g: GroupedMoments) -> Moments:
    """A `Moments` of the channels of a `GroupedMoments`, to compare it with others."""
    m = Moments(nan_policy="propagate", names=g.names, exact=g.exact, track=g.track)
    return m if g.shape is None else empty_of_shape(g.shape, m)
