"""How pandas, NumPy, Pillow and xarray read data files with their defaults: the numbers that `fit` must find."""

import json
import warnings
from typing import Any, NamedTuple

import numpy as np
from support.corpus import FRAMES, HDF5, IMAGES, TEXTS, suffix_of


class Selection(NamedTuple):
    """Channels that a peer read: how `fit` is asked for them, and the finite values of each."""

    options: dict[str, Any]
    values: list[np.ndarray]


def read_by_peer(path, options):
    """Read a file as its peer does, with its defaults or with what `options` of `fit` mean there; [] if it cannot.

    The selections have at least one channel, and every channel has a finite value.
    """
    suffix = suffix_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = list(reader_of(suffix)(path, suffix, options))
        except Exception:       # whatever a library raises for a file that is not what its name says
            return []
    return [selection for selection in found if selection.values]


def reader_of(suffix):
    readers = {TEXTS: read_text, FRAMES: read_frame, IMAGES: read_image, HDF5: read_hdf5, (".nc",): read_netcdf,
               (".npy",): read_npy, (".npz",): read_npz}
    return next(reader for suffixes, reader in readers.items() if suffix in suffixes)


PANDAS = {"delimiter": "sep", "skip_rows": "skiprows"}      # options that pandas calls otherwise


def read_text(path, suffix, options):
    import pandas as pd

    options = {PANDAS.get(name, name): value for name, value in options.items() if name not in ("format", "short_rows")}
    options.setdefault("sep", "\t" if suffix.startswith((".tsv", ".tab")) else ",")
    if isinstance(options.get("header"), bool):
        options["header"] = 0 if options["header"] else None
    frame = pd.read_csv(path, float_precision="round_trip", **options)      # by default it errs in the last digit
    names = list(map(str, frame.columns))
    if "names" not in options and options.get("header", 0) is not None:
        as_text = {"header": None, "nrows": 1, "dtype": str, "keep_default_na": False}
        written = list(pd.read_csv(path, **{**options, **as_text}).iloc[0])
        names = [name if text in ("", name) else ""      # renamed, as another column has its name
                 for text, name in zip(written, names, strict=True)]
    return selection_of(frame, [name.strip() for name in names])


def read_frame(path, suffix, options):
    import pandas as pd

    if suffix == ".avro":
        import fastavro

        with path.open("rb") as file:
            rows = list(fastavro.reader(file))
        frame = pd.DataFrame.from_records([row if isinstance(row, dict) else {"value": row} for row in rows])
    elif suffix == ".json":
        assert isinstance(json.loads(path.read_text()), list)       # others are no tables
        frame = pd.read_json(path, dtype=False, convert_dates=False)     # by default it makes numbers of texts
    elif suffix in (".jsonl", ".ndjson"):
        frame = pd.read_json(path, lines=True)
    else:
        frame = getattr(pd, {".xlsx": "read_excel"}.get(suffix, f"read_{suffix[1:]}"))(path)
    return selection_of(frame, list(map(str, frame.columns)))


def selection_of(frame, names):
    """The numeric columns: all if there are no others, else those that have a name."""
    values = [finite(frame.iloc[:, i].dropna().to_numpy()) if dtype.kind in "biuf" else np.empty(0)
              for i, dtype in enumerate(frame.dtypes)]
    if all(x.size for x in values):
        return [Selection({}, values)]
    usable = [i for i, x in enumerate(values) if x.size and names[i]]
    return [Selection({"columns": [names[i] for i in usable]}, [values[i] for i in usable])]


def read_image(path, suffix, options):
    from PIL import Image

    with Image.open(path) as image:
        x = np.asarray(image.convert(options["mode"]) if "mode" in options else image)
    return [Selection({}, channels(x.reshape(*x.shape[:2], -1)))]


def read_npy(path, suffix, options):
    return [Selection({}, channels(np.load(path)))]


def read_npz(path, suffix, options):
    with np.load(path, allow_pickle=True) as arrays:
        return [Selection({"columns": [name]}, channels(arrays[name])) for name in arrays.files]


def read_netcdf(path, suffix, options):
    import xarray

    with xarray.open_dataset(path) as dataset:
        found = {name: channels(variable.values.reshape(-1, 1)) for name, variable in dataset.data_vars.items()}
    numeric = [name for name, values in found.items() if values]
    options = {} if len(numeric) == len(found) else {"variables": numeric}
    return [Selection(options, [found[name][0] for name in numeric])]


def read_hdf5(path, suffix, options):
    import h5py

    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append((name, item[()])) if isinstance(item, h5py.Dataset) else None)
    return [Selection({"variables": name}, channels(np.asarray(x))) for name, x in found]


def channels(x):
    """The finite values of each channel, along the last axis; [] if these are not real numbers of at most 64 bits."""
    if x.dtype.kind not in "biuf" or x.dtype.itemsize > 8 or not x.ndim or not x.size:
        return []
    values = [finite(column) for column in x.reshape(-1, x.shape[-1] if x.ndim > 1 else 1).T]
    return values if all(column.size for column in values) else []


def finite(values):
    return values[np.isfinite(values)]
