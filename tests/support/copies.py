"""All ways to copy an object, by its name: each returns an independent twin."""

import copy
import io
import pickle
from functools import partial

import numpy as np

ATOMS = (str, int, float, bool, type(None))
LISTS = (list, tuple)


def rebuilt(value):
    """A twin made as skops makes it: by ``cls.__new__(cls)`` and the state, down to plain values and .npy files."""
    if type(value) in ATOMS:
        return value
    if type(value) in LISTS:
        return type(value)(rebuilt(entry) for entry in value)
    if type(value) is dict:
        return {rebuilt(key): rebuilt(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.array([rebuilt(entry) for entry in value], dtype=object)
    if isinstance(value, np.ndarray | np.generic):
        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        file.seek(0)
        return np.load(file)[() if value.ndim == 0 else ...]
    twin = type(value).__new__(type(value))
    state = rebuilt(value.__getstate__())
    twin.__setstate__(state) if hasattr(twin, "__setstate__") else twin.__dict__.update(state)
    return twin


def by_joblib(value):
    import joblib

    file = io.BytesIO()
    joblib.dump(value, file)
    file.seek(0)
    return joblib.load(file)


def by_cloudpickle(value):
    import cloudpickle

    return pickle.loads(cloudpickle.dumps(value))


def by_skops(value):
    import skops.io

    data = skops.io.dumps(value)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def by_pickle(value, protocol):
    return pickle.loads(pickle.dumps(value, protocol))


COPIES = {
    "copy.copy": copy.copy, "copy.deepcopy": copy.deepcopy, "__new__ and the state": rebuilt,
    **{f"pickle {protocol}": partial(by_pickle, protocol=protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "joblib": by_joblib, "cloudpickle": by_cloudpickle, "skops": by_skops,
}
