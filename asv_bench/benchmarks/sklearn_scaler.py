"""bnstream.sklearn's StandardScaler beside scikit-learn's own, on the same data. What is not installed is skipped."""

from functools import partial

import numpy as np

from .base import Timed, named, once
from .data import array, set_num_threads
from .reductions import installed
from .timing import set_pages

MODULES = {"bnstream": "bnstream.sklearn", "scikit-learn": "sklearn.preprocessing"}
SHAPE = (65536, 256)


def scaler(by, **parameters):
    """A new one; bnstream's has two threads."""
    set_num_threads(2)
    return installed(MODULES[by]).StandardScaler(**parameters)


def table(holes):
    """float32, of SHAPE; one element of a hundred is NaN, or none."""
    x = array(SHAPE, "float32")
    if holes:
        x[np.random.default_rng(1).random(x.shape) < 0.01] = np.nan
    return x


class PartialFit(Timed):
    """Of (65536, 256) float32, by a new scaler each time."""

    params = (["whole", "with NaN"], list(MODULES))
    param_names = ("data", "by")

    @once
    def setup(self, data, by):
        x = table(data == "with NaN")
        self.call = lambda: scaler(by).partial_fit(x)

    @named("StandardScaler, partial_fit")
    def time_partial_fit(self, data, by):
        self.call()


class PartialFitOfFew(Timed):
    """Of (8, 17) float64, by one scaler: what validation takes."""

    params = (list(MODULES),)
    param_names = ("by",)

    @once
    def setup(self, by):
        self.call = partial(scaler(by).partial_fit, array((8, 17), "float64"))

    @named("StandardScaler, partial_fit of 8 x 17")
    def time_partial_fit(self, by):
        self.call()


class Transform(Timed):
    """Of (65536, 256) float32. New results lie on pages new to the process, on both sides."""

    params = (["whole", "with NaN"], ["fresh", "in place"], list(MODULES))
    param_names = ("data", "result", "by")

    @once
    def setup(self, data, result, by):
        set_pages("new")
        x = table(data == "with NaN")
        fitted = scaler(by).fit(x)
        fitted.mean_[:], fitted.scale_[:] = 0, 1        # which leaves x as it is, however often
        self.call = partial(fitted.transform, x, copy=result == "fresh")

    @named("StandardScaler, transform")
    def time_transform(self, data, result, by):
        self.call()


class Merge(Timed):
    """Of two scalers of 100,000 features; scikit-learn's cannot."""

    @once
    def setup(self):
        x = array((4, 100_000), "float64")
        self.call = partial(scaler("bnstream").fit(x).merge, scaler("bnstream").fit(x))

    @named("StandardScaler, merge of 100,000 features")
    def time_merge(self):
        self.call()


class FitSparse(Timed):
    """Of (100000, 1000) float64, one value of a hundred stored."""

    params = (["csr", "csc"], list(MODULES))
    param_names = ("form", "by")

    @once
    def setup(self, form, by):
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
