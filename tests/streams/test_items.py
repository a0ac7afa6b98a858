"""Iterables whose items are rows, mappings or pairs: what an item is, is decided and never guessed."""

import sqlite3
from decimal import Decimal

import numpy as np
import pytest

from bnstream import SourceError, apply, fit
from bnstream.streams.sources import items

ROWS = [[1.0, 100.0], [2.0, 200.0], [3.0, 600.0]]
MEANS = [2.0, 300.0]
N_MANY = 2 * items.MOST_ROWS + 3
CONNECTIONS = []


class Samples:
    """A map-style data set, as torch.utils.data has them: a length and indices, which never raise IndexError."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index % len(self.samples)]


def arrays(rows=ROWS):
    return [np.array(row) for row in rows]


@pytest.fixture(autouse=True)
def _closed():
    yield
    while CONNECTIONS:
        CONNECTIONS.pop().close()


def connected():
    """A connection that is closed after the test, as Python 3.13 asks for."""
    CONNECTIONS.append(sqlite3.connect(":memory:"))
    return CONNECTIONS[-1]


def cursor(rows=ROWS):
    connection = connected()
    connection.execute("create table t(a real, b real)")
    connection.executemany("insert into t values(?, ?)", rows)
    return connection.execute("select * from t")


@pytest.mark.parametrize("make", [
    lambda: arrays(), lambda: iter(np.array(ROWS)), lambda: Samples(arrays()), lambda: iter(ROWS),
    lambda: map(tuple, ROWS),
], ids=["arrays", "iterator of an array", "map-style data set", "lists", "tuples"])
def test_items_of_one_axis(make, folder):
    for call in (fit, lambda source: apply(fit(np.array(ROWS)), source, "y.npy")):
        with pytest.raises(SourceError, match=r"^item 0 of the \w+ has one axis, of 2 values; say item='row' if "
                                              r"each is of a channel of its own, or item='batch' if all are of one "
                                              r"channel$"):
            call(make())
    rows = fit(make(), item="row")
    assert (rows.n.tolist(), rows.mean.tolist()) == ([3, 3], MEANS)
    batches = fit(make(), item="batch")
    assert (batches.n.tolist(), batches.mean.tolist()) == ([6], [151.0])
    assert apply(rows, make(), "y.npy", item="row") == 3
    np.testing.assert_allclose(np.load("y.npy"), (np.array(ROWS) - MEANS) / rows.std())


def test_the_rows_of_a_cursor(folder):
    m = fit(cursor())
    assert (m.names, m.n.tolist(), m.mean.tolist()) == (("a", "b"), [3, 3], MEANS)
    assert fit(cursor(), columns=["b"]).mean.tolist() == [300.0]
    with pytest.raises(SourceError, match=r"^the Cursor yields rows; leave out item='batch'$"):
        fit(cursor(), item="batch")
    assert apply(m, cursor(), "y.csv") == 3
    np.testing.assert_allclose(fit("y.csv").mean, [0, 0], atol=1e-15)


def test_missing_values_and_decimals_of_a_cursor():
    rows = [(1.0, None), (2.0, 4.0), (None, 8.0)]
    m = fit(cursor(rows), nan_policy="omit")
    assert (m.n.tolist(), m.mean.tolist()) == ([2, 2], [1.5, 6.0])
    with pytest.raises(SourceError, match=r"^the Cursor, items 0 to 3, rows 0 to 3: column 'a' has 1 missing values"):
        fit(cursor(rows))
    decimals = [{"a": Decimal("0.10")}, {"a": Decimal("0.30")}]
    assert fit(decimals).mean.tolist() == [(0.1 + 0.3) / 2]


def test_a_cursor_without_a_query():
    with pytest.raises(SourceError, match=r"^the Cursor has no rows; execute a query first$"):
        fit(connected().cursor())


def test_text_in_a_row():
    named = [{"x": 1.0, "name": "a"}, {"x": 3.0, "name": "b"}]
    with pytest.raises(SourceError, match=r"'name' is of type string; select numeric columns with .* --columns: x$"):
        fit(named)
    assert fit(named, columns=["x"]).mean.tolist() == [2.0]
    with pytest.raises(SourceError, match=r"dtype <U"):
        fit(iter([(1.0, "a")]), item="row")


@pytest.mark.parametrize("n", [1, items.MOST_ROWS, items.MOST_ROWS + 1, N_MANY])
@pytest.mark.parametrize("names", [False, True])
def test_as_many_rows_as_come(n, names):
    x = np.random.default_rng(n).normal(size=(n, 3))
    rows = (dict(zip("abc", row.tolist(), strict=True)) for row in x) if names else iter(x)
    m = fit(rows, item="row", exact=True)
    assert m == fit(x, exact=True)
    assert m.names == (("a", "b", "c") if names else None)


def test_many_large_rows(monkeypatch):
    monkeypatch.setattr(items, "MOST_BYTES", 100)
    x = np.random.default_rng(0).normal(size=(7, 3, 4))
    seen = []
    m = fit(iter(x), item="row", channel_axis=1, exact=True, progress=seen.append)
    assert m == fit(x, channel_axis=1, exact=True)
    assert [now.n_rows for now in seen] == [2, 4, 6, 7]


def test_where_a_row_is():
    x = np.ones((N_MANY, 2))
    x[-1, 1] = np.nan
    with pytest.raises(SourceError, match=f"^the generator, items {N_MANY - 3} to {N_MANY}, rows 0 to 3: "):
        fit((row for row in x), item="row")


def test_rows_in_one_buffer():
    def rows():
        row = np.empty(2)
        for values in ROWS:
            row[:] = values
            yield row

    assert fit(rows(), item="row").mean.tolist() == MEANS


def test_rows_keep_their_integers():
    rows = [(2**60 + 1, 0.5), (2**60 + 3, 1.5)]
    with pytest.raises(SourceError, match=r"^items 0 to 2 of the list_iterator: the list holds integers beyond 2\*\*53 "
                                          r"beside floating-point numbers, and no array holds both; make it a table"):
        fit(iter(rows), item="row")
    m = fit(({"t": t, "x": x} for t, x in rows), exact=True)
    assert (m.mean.tolist(), m.var().tolist()) == ([float(2**60 + 2), 1.0], [1.0, 0.25])


def test_numbers():
    m = fit(iter([1.0, 2.0, 6.0]))
    assert (m.n.tolist(), m.mean.tolist()) == ([3], [3.0])


@pytest.mark.parametrize(("rows", "message"), [
    ([np.ones(2), np.ones(2), np.ones(3)], r"^item 2 of the list: it has the shape \(3,\), but the first row has "
                                           r"\(2,\); all rows must have the same shape$"),
    ([{"a": 1}, {"a": 1, "b": 2}], "^item 1 of the list: it is a dict with the keys 'a', 'b', but the first row is a "
                                   "dict with the keys 'a'; all rows must have the same keys$"),
    ([{"a": 1, "b": 2}, {"a": 1}], "all rows must have the same keys$"),
    ([{"a": 1}, {"a": "x"}], "^items 0 to 2 of the list: Could not convert 'x'|^item 0 of the list: Could not convert"),
])
def test_rows_that_differ(rows, message):
    with pytest.raises((SourceError, TypeError), match=message):
        fit(rows, item="row")


X, Y = np.arange(8.0).reshape(4, 2), np.zeros((4, 2))


@pytest.mark.parametrize("pair", [(X, Y), [X, Y], (X, 1), (X, [1, 2, 3, 4])], ids=lambda pair: type(pair[1]).__name__)
def test_pairs(pair, folder):
    with pytest.raises(SourceError, match=r"^item 0 of the generator is a \w+ of ndarray, \w+; choose one of these "
                                          r"with key=, as in key=0$"):
        fit(pair for _ in range(3))
    m = fit((pair for _ in range(3)), key=0)
    assert (m.n.tolist(), m.mean.tolist()) == ([12, 12], [3.0, 4.0])
    assert apply(m, [pair], "y.npy", key=0) == 4
    with pytest.raises(SourceError, match=r"^item 0 of the list is a \w+ of ndarray, \w+, which has no 2; choose with "
                                          "key= what every item has$"):
        fit([pair], key=2)


def test_a_batch_in_a_list_of_its_own():
    assert fit([X] for _ in range(3)).n.tolist() == [12, 12]        # as a loader of a TensorDataset yields it


def test_samples_by_key():
    samples = [{"__key__": "a", "jpg": np.ones((4, 4, 3)), "cls": 1},
               {"__key__": "b", "jpg": np.zeros((2, 4, 3)), "cls": 0}]
    with pytest.raises(SourceError, match=r"^item 0 of the list is a dict with the keys '__key__', 'jpg', 'cls'; "
                                          "choose one of these with key=, or say item='row' or item='batch' if they "
                                          "are the columns of a row or of a batch$"):
        fit(samples)
    assert fit(samples, key="jpg").mean.tolist() == [2 / 3] * 3
    nested = [({"image": X}, 1), ({"image": X}, 0)]
    assert fit(nested, key=(0, "image")).n.tolist() == [8, 8]


def test_batches_of_columns():
    batches = [{"a": [1.0, 2.0], "b": np.array([3, 5])}, {"a": [6.0], "b": np.array([7])}]
    m = fit(batches, item="batch")
    assert (m.names, m.n.tolist(), m.mean.tolist()) == (("a", "b"), [3, 3], [3.0, 5.0])


def test_what_item_may_be():
    with pytest.raises(ValueError, match=r"^item must be 'row' or 'batch', got 'rows'$"):
        fit(arrays(), item="rows")
    with pytest.raises(SourceError, match=r"^the array of shape \(3, 2\) takes no item, got item='row'; leave it out"):
        fit(np.array(ROWS), item="row")
    with pytest.raises(TypeError, match=r"^fit\(\) got an unexpected keyword argument 'items'$"):
        fit(np.array(ROWS), items="row")


def test_a_sparse_matrix():
    sparse = pytest.importorskip("scipy.sparse")
    for source in (sparse.eye(3, format="csr"), [sparse.eye(3, format="csr")]):
        with pytest.raises(TypeError, match=r"got the sparse csr_matrix; .* toarray\(\)$"):
            fit(source)


def test_a_cursor_with_two_columns_of_one_name():
    """The second would take the place of the first."""
    rows = connected().execute("select 1.0 as a, 2.0 as b, 3.0 as a")
    with pytest.raises(SourceError, match=r"^the Cursor has more than one column 'a'; its columns are a, b, a; give "
                                          r"each a name of its own in the query, with AS$"):
        fit(rows)
