"""The pooled statistics of a layer, those of all batches in training: plain or exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from bnstream.core.checks import require_axis
from bnstream.core.dlpack import as_numpy
from bnstream.core.labels import counted
from bnstream.core.moments import Moments, moments_from, rows_of


def tracking_of(value: Any) -> bool | Literal["exact"]:
    """The argument `track_pooled`, checked."""
    if isinstance(value, str) and value != "exact":
        raise ValueError(f"track_pooled must be False, True or 'exact', got {value!r:.60}")
    return "exact" if isinstance(value, str) else bool(value)


def as_pooled(moments: Moments, nan_policy: Any, exact: bool) -> Moments:
    """These statistics as those of a layer of this policy: themselves, or a copy if they are of another kind.

    Raises
    ------
    ValueError
        If they are not exact and `exact` asks for it, or hold NaN or inf that the policy does not let through.
    """
    if moments.axis == 0 and moments.nan_policy == nan_policy and moments.exact == exact:
        return moments
    require_finite(moments, nan_policy)
    if exact and not moments.exact and moments.shape is not None:
        raise ValueError("expected exact statistics, as track_pooled='exact' keeps, got plain ones; make them with "
                         "Moments(exact=True)")
    if moments.exact and not exact:
        moments = moments_from(rows_of(moments), nan_policy="propagate", names=moments.names)
    return Moments(nan_policy=nan_policy, exact=exact).merge(moments)


def require_finite(moments: Moments, nan_policy: Any) -> None:
    """Raise ValueError if there is NaN or inf in statistics that a policy keeps from it."""
    if nan_policy != "propagate" and not np.isfinite(moments.mean[moments.n > 0]).all():
        raise ValueError("there is NaN or inf in the statistics; leave such data out, or make the layer with "
                         "nan_policy='propagate'")


def batch_moments(
    x: ArrayLike, channel_axis: int, n_channels: int, n_threads: int | None, positions: Mapping[str, Any],
    **options: Any,
) -> Moments:
    """The statistics of a batch with any number of values; `positions` are its weights and its mask.

    Raises
    ------
    TypeError, ValueError
        As `Moments.update`; also if there are other channels.
    """
    try:
        x = as_numpy(x)
    except ValueError as error:
        if not isinstance(x, (list, tuple)):
            raise
        raise ValueError(f"got a batch that is a {type(x).__name__} of no regular shape; expected an array or nested "
                         f'sequences of equal lengths, with weights as in {{"batch": x, "weights": weights}}: {error}'
                         ) from None
    if x.ndim < 2:
        raise ValueError("expected batches of at least 2 dimensions, with the channels along "
                         f"channel_axis={channel_axis}, got one of shape {x.shape}")
    require_axis("channel_axis", channel_axis, "a batch", x.shape)
    if x.shape[channel_axis] != n_channels:
        raise ValueError(f"expected {counted(n_channels)} along channel_axis={channel_axis}, got "
                         f"{x.shape[channel_axis]} from a batch of shape {x.shape}")
    batch_axes = tuple(i for i in range(x.ndim) if i != channel_axis % x.ndim)
    return Moments(batch_axes, **options).update(x, **positions, n_threads=n_threads)
