"""The rows of states and of running estimates stand where their names say, for Python and for the kernels."""

import numpy as np

from bnstream import BatchNorm, Moments
from bnstream.core import rows, running
from bnstream.core.batchnorm import running_of
from bnstream.core.moments import rows_of
from bnstream.statefiles import description

X = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0]])


def test_rows_of_a_state():
    plain = rows_of(Moments().update(X))
    assert plain.shape == (len(rows.ROWS), 2)
    assert plain[[rows.N, rows.MEAN, rows.M2]].tolist() == [[3, 3], [3, 20], [8, 600]]
    weighted = rows_of(Moments().update(X, weights=[1, 2, 1]))
    assert weighted.shape == (len(rows.WEIGHTED_ROWS), 2)
    assert weighted[[rows.N, rows.MEAN, rows.M2, rows.SQUARES]].tolist() == [[4, 4], [3, 17.5], [8, 675], [6, 6]]
    assert not weighted[[rows.MEAN_LO, rows.M2_LO, rows.N_LO]].any()


def test_rows_of_running_estimates():
    bn = BatchNorm(2, momentum=0.25, running_ddof=0)
    bn(X)
    wanted = {"running_mean": [0.75, 5], "running_var": [0.75 + 2 / 3, 50.75], "running_spread": [1 / 48] * 2,
              "initial_weight": [0.75] * 2, "batch_mean": [3, 20], "batch_var": [8 / 3, 200]}
    assert tuple(wanted) == running.RUNNING_ROWS
    np.testing.assert_allclose(running_of(bn).rows, list(wanted.values()), rtol=1e-15)


def test_settings_in_state_files_are_those_of_a_layer():
    assert tuple(description.SETTINGS) == BatchNorm._settings
