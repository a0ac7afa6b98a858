"""Differences between the versions of scikit-learn, from 1.4 on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from sklearn import preprocessing  # type: ignore[import-untyped]

try:
    from sklearn.utils.validation import validate_data  # type: ignore[import-untyped]

    ANY_VALUES = {"ensure_all_finite": False}
except ImportError:         # 1.4 and 1.5
    ANY_VALUES = {"force_all_finite": False}

    def validate_data(scaler: Any, X: Any, **options: Any) -> Any:
        return scaler._validate_data(X, **options)


@cache
def count_dtype() -> np.dtype[Any]:
    """The dtype of a count of samples without weights: int64 in older versions of scikit-learn, float64 in newer ones.

    It is read from a fitted scaler, at the first call.
    """
    dtype: np.dtype[Any] = preprocessing.StandardScaler().fit([[0.0]]).n_samples_seen_.dtype
    return dtype


@contextmanager
def fit_task(scaler: Any, X: Any, y: Any, sample_weight: Any) -> Iterator[None]:
    """Call the callbacks of a fit, which scikit-learn has from 1.9 on."""
    if not hasattr(scaler, "_init_callback_context"):
        yield
        return
    arguments = {"estimator": scaler, "X": X, "y": y, "metadata": {"sample_weight": sample_weight}}
    context = scaler._init_callback_context()
    context.call_on_fit_task_begin(**arguments)
    yield
    context.call_on_fit_task_end(**arguments, reconstruction_attributes={})
