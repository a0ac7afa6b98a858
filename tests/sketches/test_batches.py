"""Batches with any batch axes: as if the channels were put last and the batch axes made one."""

import itertools

import numpy as np
import pytest

from bnstream.sketches import Quantiles, batches
from bnstream.sketches.batches import update_with

pytest.importorskip("datasketches")

SHAPE = (3, 4, 2, 5)
AXES = [axes for n in range(len(SHAPE) + 1) for axes in itertools.combinations(range(len(SHAPE)), n)]


def by_hand(x, axes):
    """The rows of the channels."""
    others = tuple(i for i in range(x.ndim) if i not in axes)
    return x.transpose(*axes, *others).reshape(int(np.prod([x.shape[i] for i in axes])), -1)


@pytest.mark.parametrize("most", [1, 7, 40, 1 << 20])
@pytest.mark.parametrize("axes", AXES)
def test_axes(axes, most, monkeypatch):
    monkeypatch.setattr(batches, "SLICE_VALUES", most)
    x = np.random.default_rng(0).normal(size=SHAPE)
    rows = by_hand(x, axes)
    assert update_with(Quantiles(rows.shape[1]), x, axes) == Quantiles(rows.shape[1]).update(rows)


@pytest.mark.parametrize("shape", [SHAPE, (3, 1, 1, 5), (1, 4, 2, 1)])
@pytest.mark.parametrize("axes", [(0,), (0, 2, 3), (1, 3)])
def test_masks_broadcast(axes, shape):
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=SHAPE), rng.random(shape) < 0.5
    rows, used = by_hand(x, axes), by_hand(np.broadcast_to(mask, SHAPE), axes)
    assert update_with(Quantiles(rows.shape[1]), x, axes, mask) == Quantiles(rows.shape[1]).update(rows, where=used)


@pytest.mark.parametrize("mask", [None, np.array([[True], [True], [False]])])
def test_omit(mask):
    x = np.array([[1.0, np.nan], [np.inf, 2.0], [3.0, 4.0]])
    found = update_with(Quantiles(2), x, (0,), mask, omit=True)
    assert found.n.tolist() == ([2, 2] if mask is None else [1, 1])
    assert found.max.tolist() == ([3, 4] if mask is None else [1, 2])
    let_through = update_with(Quantiles(2), x, (0,), mask)
    assert let_through.max[0] == np.inf
    assert np.isnan(let_through.max[1])


def test_of_nothing():
    assert update_with(Quantiles(3), np.empty((0, 3)), (0,)).n.tolist() == [0, 0, 0]
    assert update_with(Quantiles(0), np.empty((4, 0)), (0,)).n_channels == 0
    assert update_with(Quantiles(1), np.array(5.0), ()).n.tolist() == [1]
