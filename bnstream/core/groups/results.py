"""What is asked of the statistics of all groups at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.moments import Moments


class Results:
    """Arrays of shape (groups, \\*channels), with the groups in the order of the keys: the results of one `Moments`.

    A subclass makes that `Moments`, whose channels are those of all groups.
    """

    def _statistics(self) -> Moments:
        raise NotImplementedError

    @property
    def n(self) -> NDArray[Any]:
        return self._statistics().n

    @property
    def mean(self) -> NDArray[np.float64]:
        return self._statistics().mean

    @property
    def min(self) -> NDArray[np.float64]:
        return self._statistics().min

    @property
    def max(self) -> NDArray[np.float64]:
        return self._statistics().max

    @property
    def missing(self) -> NDArray[np.int64]:
        return self._statistics().missing

    def var(self, ddof: float = 0) -> NDArray[np.float64]:
        """Compute the variances, as `Moments.var` does.

        Parameters
        ----------
        ddof : float, default 0

        Returns
        -------
        ndarray of float64
            Of shape (groups, \\*channels), with the groups in the order of `keys`.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.GroupedMoments().update(np.array([1.0, 3.0, 5.0]), [0, 0, 1]).var().tolist()
        [1.0, 0.0]
        """
        return self._statistics().var(ddof)

    def std(self, ddof: float = 0) -> NDArray[np.float64]:
        """Compute the standard deviations, as `Moments.std` does.

        Parameters
        ----------
        ddof : float, default 0

        Returns
        -------
        ndarray of float64
            Of shape (groups, \\*channels), with the groups in the order of `keys`.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> bnstream.GroupedMoments().update(np.array([1.0, 3.0, 5.0]), [0, 0, 1]).std().tolist()
        [1.0, 0.0]
        """
        return self._statistics().std(ddof)

    def skewness(self, *, bias: bool = True) -> NDArray[np.float64]:
        """Compute the skewness, as `Moments.skewness` does.

        Parameters
        ----------
        bias : bool, default True

        Returns
        -------
        ndarray of float64
            Of shape (groups, \\*channels), with the groups in the order of `keys`.

        Raises
        ------
        AttributeError
            If it is not tracked.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> g = bnstream.GroupedMoments(track="skewness").update(np.array([1.0, 3.0, 0.0, 0.0, 3.0]), [0, 0, 1, 1, 1])
        >>> g.skewness().round(4).tolist()
        [0.0, 0.7071]
        """
        return self._statistics().skewness(bias=bias)

    def kurtosis(self, *, fisher: bool = True, bias: bool = True) -> NDArray[np.float64]:
        """Compute the kurtosis, as `Moments.kurtosis` does.

        Parameters
        ----------
        fisher, bias : bool, default True

        Returns
        -------
        ndarray of float64
            Of shape (groups, \\*channels), with the groups in the order of `keys`.

        Raises
        ------
        AttributeError
            If it is not tracked.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> g = bnstream.GroupedMoments(track="kurtosis").update(np.array([1.0, 3.0, 0.0, 0.0, 3.0]), [0, 0, 1, 1, 1])
        >>> g.kurtosis().round(4).tolist()
        [-2.0, -1.5]
        """
        return self._statistics().kurtosis(fisher=fisher, bias=bias)

    def quantile(self, q: ArrayLike) -> NDArray[np.float64]:
        """Estimate quantiles, as `Moments.quantile` does.

        Parameters
        ----------
        q : array_like
            Probabilities.

        Returns
        -------
        ndarray of float64
            Of the shape of `q` followed by (groups, \\*channels), with the groups in the order of `keys`.

        Raises
        ------
        AttributeError
            If quantiles are not tracked.
        TypeError, ValueError
            As `Moments.quantile`.

        Examples
        --------
        >>> import numpy as np, bnstream
        >>> g = bnstream.GroupedMoments(track="quantiles").update(np.array([1.0, 3.0, 4.0, 7.0]), [0, 1, 1, 1])
        >>> g.quantile([0, 0.5]).tolist()
        [[1.0, 3.0], [1.0, 4.0]]
        """
        return self._statistics().quantile(q)
