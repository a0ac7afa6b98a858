"""Mappings in a stream: arrays with weights or a mask, as the arguments of Moments.update."""

from pathlib import Path

import numpy as np
import pytest
from support.arrays import of_dtype, rng
from support.cases import thorough
from support.oracle import assert_within, exact_weighted
from support.passes import Stop, stop_after
from support.states import bits

from bnstream import Moments, SourceError, apply, fit

pa = pytest.importorskip("pyarrow", minversion="17")

N = 200
X = of_dtype("f8", (N, 3)) * [1, 10, 0.1] + [1e6, 0, 5]
W = np.where(rng(1).random(N) < 0.1, 0, rng(2).random(N) * 3)


def check(m, x=X, weights=W):
    """Check the moments of rows with weights."""
    some = weights > 0
    assert_within(m.mean, m.var(), np.array([exact_weighted(column[some], weights[some]) for column in x.T], object))
    np.testing.assert_allclose(m.n, weights.sum(), rtol=1e-14)
    np.testing.assert_allclose(m.effective_n, weights.sum() ** 2 / (weights**2).sum(), rtol=1e-14)


IMAGES = of_dtype("f4", (12, 3, 5, 4)) + 100
SHAPES = {
    "each": (12, 5, 4), "rows": (12, 1, 1), "columns": (1, 1, 4), "one": (1, 1, 1), "with the channels": (12, 1, 5, 4),
}


@pytest.mark.parametrize("chunk_rows", [None, 1, 5])
@pytest.mark.parametrize("largest", [1, 1 << 22])       # values in a row: where one has more, it is itself sliced
@pytest.mark.parametrize("shape", SHAPES)
def test_mappings_of_images(shape, largest, chunk_rows, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.arrays.slicing.LARGEST_ROW", largest)
    weights = rng(6).random(SHAPES[shape])
    mask = rng(7).random(SHAPES[shape]) < 0.8
    mask.flat[0] = True
    m = fit([{"batch": IMAGES, "weights": weights, "where": mask}], channel_axis=1, chunk_rows=chunk_rows)
    times = (weights * mask).reshape(np.array(SHAPES[shape])[[0, -2, -1]])
    rows = np.moveaxis(IMAGES, 1, -1).reshape(-1, 3)
    check(m, rows, np.broadcast_to(times, (12, 5, 4)).ravel())
    m = fit([{"batch": IMAGES, "weights": weights}], channel_axis=1, columns=[2, 0], chunk_rows=chunk_rows)
    times = weights.reshape(np.array(SHAPES[shape])[[0, -2, -1]])
    check(m, rows[:, [2, 0]], np.broadcast_to(times, (12, 5, 4)).ravel())


@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_mappings_of_channels_first(chunk_rows):
    check(fit([{"batch": X.T, "weights": W}], channel_axis=0, chunk_rows=chunk_rows))


@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_mappings_of_one_axis_or_of_lists(chunk_rows):
    check(fit([{"batch": X[:, 0], "weights": W}], chunk_rows=chunk_rows), X[:, :1])
    check(fit([{"batch": X.tolist(), "weights": W.tolist()}], chunk_rows=chunk_rows))
    check(fit([{"batch": list(X), "weights": W}], chunk_rows=chunk_rows))


@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_a_mapping_of_a_batch_alone_is_the_batch(chunk_rows):
    m = fit([X[:90], X[90:]], chunk_rows=chunk_rows)
    assert m.n.dtype == np.int64
    assert bits(fit([{"batch": X[:90]}, X[90:]], chunk_rows=chunk_rows)) == bits(m)
    assert bits(fit(({"batch": x, "where": None} for x in (X[:90], X[90:])), chunk_rows=chunk_rows)) == bits(m)


@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_iterables_of_mappings_may_reuse_their_buffers(chunk_rows):
    def elements(batch, weights, where):
        for i in range(0, N, 20):
            batch[:], weights[:], where[:] = X[i:i + 20], W[i:i + 20], W[i:i + 20] < 2
            yield {"batch": batch, "weights": weights, "where": where}

    buffers = np.empty((20, 3)), np.empty(20), np.empty(20, bool)
    check(fit(elements(*buffers), chunk_rows=chunk_rows), weights=np.where(W < 2, W, 0))
    check(fit(([element] for element in elements(*buffers)), chunk_rows=chunk_rows), weights=np.where(W < 2, W, 0))


def test_rows_are_counted_whatever_their_weight(folder):
    seen = []
    fit([{"batch": X, "where": W > 2}], chunk_rows=50, progress=seen.append)
    assert [now.n_rows for now in seen] == [50, 100, 150, 200]


@pytest.mark.parametrize(("element", "error", "message"), [
    ({"batch": X, "weight": W}, SourceError, "item 1 of the list: got a mapping with the unknown key 'weight'"),
    ({"x": X, "y": W}, SourceError, "got a mapping with the unknown keys 'x', 'y'; expected 'batch'"),
    ({"weights": W}, SourceError, "item 1 of the list: got a mapping without 'batch'"),
    ({"batch": X, "weights": W[1:]}, SourceError,
     r"item 1 of the list: weights must have the shape of the batch positions, \(200,\), or 1 .*, got \(199,\)"),
    ({"batch": X, "where": np.ones((200, 4), bool)}, SourceError, r"item 1 of the list: where must .* got \(200, 4\)"),
    ({"batch": X, "weights": -W}, SourceError, "the list, item 1, rows 0 to 200: weights must be finite and not neg"),
    ({"batch": X * np.nan, "weights": W}, SourceError, "the list, item 1, rows 0 to 200: NaN or inf in 3 of 3"),
    ({"batch": X, "where": W}, TypeError, "^the list, item 1, rows 0 to 200: where must be a mask of bool"),
    ({"batch": X, "weights": np.ma.array(W)}, TypeError,
     "^the list, item 1, rows 0 to 200: weights must be a plain array, got a masked array"),
    ({"batch": X, "weights": W + 1j}, TypeError, "^the list, item 1, rows 0 to 200: .*complex128"),
    ({"batch": pa.table({"a": W}), "weights": W}, SourceError,
     "item 1 of the list: the batch in a mapping must be an array, got Table; put the weights of a table into a col"),
    ({"batch": Path("x.npy")}, SourceError, r"item 1 of the list: the batch .* must be an array, got \w*Path"),
    ({"batch": X[:, :2]}, SourceError, "item 1 of the list has 2 channels, but item 0 of the list has 3"),
])
def test_mappings_that_are_refused(element, error, message):
    with pytest.raises(error, match=message):
        fit([X, element])


def test_nothing_is_left():
    with pytest.raises(SourceError, match=r"^the list: every value is missing or left out in channel 0, 1, 2; give "
                                          r"data, a mask or weights that leave some values$"):
        fit([{"batch": X, "where": np.zeros(N, bool)}])
    with pytest.warns(RuntimeWarning, match="^the list: every value is missing or left out in channel 1: n is 0 there"):
        m = fit([{"batch": X, "where": np.broadcast_to([True, False, True], X.shape)}])
    assert m.n.tolist() == [N, 0, N]


def test_one_mapping_is_no_stream(folder):
    with pytest.raises(TypeError, match=r"got a mapping; .* or put a mapping with a batch into a list"):
        fit({"batch": X, "weights": W})


def elements():
    """Arrays and mappings; the first weights are all 0."""
    for i in range(0, N, 20):
        mapping = {"batch": X[i:i + 20], "weights": W[i:i + 20] * (i > 20), "where": W[i:i + 20] < 2}
        yield mapping if i != 60 else X[i:i + 20]


def test_resume_gives_the_same_bytes(folder):
    seen = []
    m = fit(elements(), "whole", progress=seen.append, chunk_rows=7)
    for k in thorough(range(1, len(seen)), sorted({1, 2, len(seen) // 2, len(seen) - 1})):
        with pytest.raises(Stop):
            fit(elements(), "out", progress=stop_after(k), chunk_rows=7)
        assert bits(fit(elements(), "out", resume=True, chunk_rows=7)) == bits(m)
        assert Path("out").read_bytes() == Path("whole").read_bytes()
        Path("out").unlink()


def test_apply_takes_no_mappings(folder):
    with pytest.raises(TypeError, match="expected arrays or tables to normalize, got a mapping; give its batch alone"):
        apply(Moments().update(X), [{"batch": X}], "y.npy")
    assert not Path("y.npy").exists()
