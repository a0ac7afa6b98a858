"""Moments by group beside those of all rows, by the number of groups and the dtype of their keys."""

import numpy as np

import bnstream

from .base import Timed, TimedShort, named, once, repeated
from .data import array, need
from .reductions import installed

ROWS, COLUMNS = 4_000_000, 8
GROUPS = [16, 1000, 10_000, 1_000_000]


def keys_of(n_groups, dtype):
    keys = np.random.default_rng(0).integers(0, n_groups, ROWS)
    return keys.astype(str) if dtype == "str" else keys.astype(dtype)


class Update(Timed):
    """float32; 0 groups: `Moments`, the yardstick."""

    params = ([0, *GROUPS], ["int32", "int64"])
    param_names = ("groups", "keys")

    @once
    def setup(self, n_groups, dtype):
        need("GroupedMoments")
        x = array((ROWS, COLUMNS), "float32")
        if n_groups:
            keys = keys_of(n_groups, dtype)
            self.call = lambda: bnstream.GroupedMoments().update(x, keys)
        else:
            self.call = lambda: bnstream.Moments().update(x)

    @named("GroupedMoments.update")
    def time_update(self, n_groups, dtype):
        self.call()


class Peers(Timed):
    """Mean and variance by group of float32 columns."""

    params = (GROUPS, ["polars", "DuckDB", "pandas"])
    param_names = ("groups", "by")

    @once
    def setup(self, n_groups, by):
        x, keys = array((ROWS, COLUMNS), "float32"), keys_of(n_groups, "int32")
        columns = {f"c{i}": np.ascontiguousarray(x[:, i]) for i in range(COLUMNS)}
        if by == "polars":
            pl = installed("polars")
            frame = pl.DataFrame({"k": keys, **columns})
            wanted = [f(pl.col(name)).alias(f"{name}{i}") for name in columns
                      for i, f in enumerate((pl.Expr.mean, pl.Expr.var))]
            self.call = lambda: frame.group_by("k").agg(wanted)
        elif by == "DuckDB":
            duckdb, pa = installed("duckdb"), installed("pyarrow")
            table = pa.table({"k": keys, **columns})
            connection = duckdb.connect()
            connection.register("t", table)
            wanted = ", ".join(f"avg({name}), var_samp({name})" for name in columns)
            self.call = lambda: connection.sql(f"select k, {wanted} from t group by k").arrow()
        else:
            frame = installed("pandas").DataFrame({"k": keys, **columns})
            self.call = lambda: frame.groupby("k").agg(["mean", "var"])

    @named("group_by of peers")
    def time_group_by(self, n_groups, by):
        self.call()


class Short(TimedShort):
    """(8, 17) float32, each row a group of its own; False: `Moments`."""

    params = ([True, False],)
    param_names = ("grouped",)

    @once
    def setup(self, grouped):
        need("GroupedMoments")
        x, keys = array((8, 17), "float32"), np.arange(8)
        g, m = bnstream.GroupedMoments().update(x, keys), bnstream.Moments()
        self.call = (lambda: g.update(x, keys)) if grouped else (lambda: m.update(x))

    @named("GroupedMoments.update of 8 rows")
    def time_update(self, grouped):
        repeated(self.call)
