"""What is shown of the results, by area: the lines of each picture, in its unit."""

from typing import NamedTuple

TABLE, IMAGES, NCHW = (32768, 256), (32, 224, 224, 3), (32, 64, 56, 56)


class Reading(NamedTuple):
    """A benchmark with its parameters."""

    benchmark: str
    parameters: tuple[object, ...]


class Line(NamedTuple):
    """The result of a benchmark, divided by that of another one of the same commit if there is one."""

    value: Reading
    over: Reading | None = None


class Area(NamedTuple):
    title: str
    unit: str
    more_is_better: bool
    lines: dict[str, Line]


def per(benchmark, value, over):
    """A line for two sets of parameters of one benchmark."""
    return Line(Reading(benchmark, value), Reading(benchmark, over))


def mean_var(shape, dtype):
    """NumPy's time divided by that of two threads."""
    return per("throughput.MeanVar.time_mean_var", (shape, dtype, "NumPy"), (shape, dtype, "bnstream, 2 threads"))


def layer(call, shape):
    return per(f"batchnorm.Layer.time_{call}", (shape, "NumPy"), (shape, "bnstream, 2 threads"))


def read(shape, dtype):
    return Line(Reading("bandwidth.Read.track_mean_var", (shape, dtype, 2)))


def copied(call, shape):
    return Line(Reading(f"bandwidth.Copy.track_{call}", (shape, 2)))


def floors(operation, shape):
    return Line(Reading("cache.Floors.track_floors", (operation, shape, "x86-64-v3")))


def error(data, way):
    return Line(Reading("accuracy.Error.track_var", (data, way)))


AREAS = [
    Area("Mean and variance of large arrays", "times as fast as NumPy", True, {
        "table, float32": mean_var(TABLE, "float32"),
        "table, float64": mean_var(TABLE, "float64"),
        "table, int16": mean_var(TABLE, "int16"),
        "images (N, C, H, W), float32": mean_var(NCHW, "float32"),
        "images, channels last, uint8": mean_var(IMAGES, "uint8"),
        "table, float16": mean_var(TABLE, "float16"),
    }),
    Area("Mean and variance beside a plain read of the array", "share of the bandwidth", True, {
        "table, float32": read((65536, 256), "float32"),
        "table, float64": read((65536, 256), "float64"),
        "table, uint8": read((65536, 256), "uint8"),
        "images (N, C, H, W), float32": read(NCHW, "float32"),
        "images, channels last, uint8": read((64, 224, 224, 3), "uint8"),
    }),
    Area("Batch normalization of large arrays", "times as fast as NumPy", True, {
        f"{call}, {what}": layer(call, shape) for call in ("training", "inference", "backward")
        for what, shape in (("images", NCHW), ("table", (65536, 256)))
    }),
    Area("Batch normalization beside a parallel copy of the array", "share of the bandwidth", True, {
        f"{call}, {what}": copied(call, shape) for call in ("training", "inference", "backward")
        for what, shape in (("images", NCHW), ("table", (65536, 256)))
    }),
    Area("In the cache, one thread, x86-64-v3", "times the arithmetic alone", False, {
        "moments, table": floors("moments", (256, 256)),
        "moments, images": floors("moments", (16, 64, 28, 28)),
        "training, table": floors("training", (256, 256)),
        "inference, table": floors("inference", (256, 256)),
        "backward, table": floors("backward", (256, 256)),
        "training, small images": floors("training", (8, 32, 14, 14)),
    }),
    Area("Calls on small arrays", "times np.add of the same array", False, {
        "mean_var of 8 x 17": per("latency.MeanVar.time_mean_var", ((8, 17), "mean_var"), ((8, 17), "np.add")),
        "NumPy's mean and var of 8 x 17": per(
            "latency.MeanVar.time_mean_var", ((8, 17), "mean and var of NumPy"), ((8, 17), "np.add")),
        "Moments.update by 8 x 17": per("latency.Update.time_update", ("Moments.update",), ("np.add",)),
        "BatchNorm, training, 8 x 17": per(
            "latency.Layer.time_layer", ("training", "to out"), ("np.add", "to out")),
        "BatchNorm, inference, 8 x 17": per(
            "latency.Layer.time_layer", ("inference", "to out"), ("np.add", "to out")),
    }),
    Area("Errors of the variance, hard data", "eps", False, {
        "offset 1e8": error("offset 1e8", "mean_var"),
        "wild first row": error("wild first row", "mean_var"),
        "drift, 8 rows a chunk": error("drift", "Moments, 8 rows a chunk"),
        "drift, NumPy": error("drift", "NumPy"),
        "wild first row, NumPy": error("wild first row", "NumPy"),
    }),
    Area("Import, in a process that has nothing imported", "times the import of NumPy", False, {
        "bnstream": per("package.Import.timeraw_import", ("bnstream",), ("NumPy",)),
    }),
]
