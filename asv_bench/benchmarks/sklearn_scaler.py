"""StandardScaler of bnstream.sklearn and of scikit-learn on the same data. Without scikit-learn, both are skipped."""

from functools import partial

import numpy as np

from .base import Timed, named, once
from .data import array, set_num_threads
from .reductions import installed
from .timing import set_pages

MODULES = {"bnstream": "bnstream.sklearn", "scikit-learn": "sklearn.preprocessing"}
SHAPE = (65536, 256)


def scaler(by, **parameters):
    """A new scaler; that of bnstream has two threads."""
    set_num_threads(2)
    return installed(MODULES[by]).StandardScaler(**parameters)


def table(holes):
    """float32 of SHAPE; with holes, one element in a hundred is NaN."""
    x = array(SHAPE, "float32")
    if holes:
        x[np.random.default_rng(1).random(x.shape) < 0.01] = np.nan
    return x


class PartialFit(Timed):
    """(65536, 256) float32, by a new scaler each time."""

    params = (["whole", "with NaN"], list(MODULES))
    param_names = ("data", "by")

    @once
    def setup(self, data, by):
        scaler(by)      # It skips the benchmark here, before the first call.
        x = table(data == "with NaN")
        self.call = lambda: scaler(by).partial_fit(x)

    @named("StandardScaler, partial_fit")
    def time_partial_fit(self, data, by):
        self.call()


class PartialFitOfFew(Timed):
    """(8, 17) float64, by one scaler: most of it is the time of validation."""

    params = (list(MODULES),)
    param_names = ("by",)

    @once
    def setup(self, by):
        self.call = partial(scaler(by).partial_fit, array((8, 17), "float64"))

    @named("StandardScaler, partial_fit of 8 x 17")
    def time_partial_fit(self, by):
        self.call()


class Transform(Timed):
    """(65536, 256) float32. New results of both are on pages that are new to the process."""

    params = (["whole", "with NaN"], ["fresh", "in place"], list(MODULES))
    param_names = ("data", "result", "by")

    @once
    def setup(self, data, result, by):
        set_pages("new")
        x = table(data == "with NaN")
        fitted = scaler(by).fit(x)
        fitted.mean_[:], fitted.scale_[:] = 0, 1        # In place, x then keeps its values in every call.
        self.call = partial(fitted.transform, x, copy=result == "fresh")

    @named("StandardScaler, transform")
    def time_transform(self, data, result, by):
        self.call()


class Merge(Timed):
    """Two scalers of 100,000 features. scikit-learn has no merge."""

    @once
    def setup(self):
        x = array((4, 100_000), "float64")
        self.call = partial(scaler("bnstream").fit(x).merge, scaler("bnstream").fit(x))

    @named("StandardScaler, merge of 100,000 features")
    def time_merge(self):
        self.call()


class FitSparse(Timed):
    """(100000, 1000) float64, one value in a hundred stored."""

    params = (["csr", "csc"], list(MODULES))
    param_names = ("form", "by")

    @once
    def setup(self, form, by):
        scaler(by)      # It skips the benchmark here, before the first call.
        n_rows, n_columns, n_stored = 100_000, 1000, 10
        columns = np.random.default_rng(2).integers(0, n_columns // n_stored, (n_rows, n_stored))
        columns += np.arange(0, n_columns, n_columns // n_stored)
        indptr = np.arange(0, columns.size + 1, n_stored)
        values = array((columns.size,), "float64")
        x = installed("scipy.sparse").csr_array((values, columns.ravel(), indptr), shape=(n_rows, n_columns))
        x = x.asformat(form)
        self.call = lambda: scaler(by, with_mean=False).fit(x)

    @named("StandardScaler, fit of a sparse matrix")
    def time_fit(self, form, by):
        self.call()
