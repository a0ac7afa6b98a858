"""Tables of errors against exact arithmetic: of the variance, and of batch normalization with its gradients."""

from fractions import Fraction

from benchmarks import batchnorm_accuracy
from benchmarks.data import array

import bnstream

from . import peers
from .table import Table

N_ROWS = 20000
RATIOS = {      # mean / sd by dtype; float32 cannot represent 1e8 + 1
    "float32": [10**k for k in range(8)],
    "float64": [10**k for k in range(9)],
}
IN_DOUBLE = ', dtype="float64"'


def exact_var(column):
    """The variance of a column in rational arithmetic, its numbers as integers over one power of two."""
    parts = [value.as_integer_ratio() for value in column.tolist()]
    scale, n = max(part[1] for part in parts), len(parts)
    values = [numerator * (scale // denominator) for numerator, denominator in parts]
    return Fraction(n * sum(v * v for v in values) - sum(values) ** 2, (n * scale) ** 2)


def found_variances(x, run):
    """The variances of bnstream and its peers, by name; for float32 also those computed in float64."""
    found = {"bnstream": bnstream.mean_var(x)[1]}
    found |= {who: peers.VARIANCE[who](call(), len(x)) for who, call in peers.mean_var(x, 0, run.threads).items()}
    if x.dtype == "float32":
        found[f"bnstream{IN_DOUBLE}"] = bnstream.mean_var(x, dtype="float64")[1]
        found[f"NumPy{IN_DOUBLE}"] = x.var(0, dtype="float64")
    return found


def variances(run):
    """The relative error of the variance, the largest of all columns."""
    names = ["bnstream", *peers.installed("NumPy", "PyTorch", "oneDAL", "scikit-learn")]
    names += [who + IN_DOUBLE for who in ("bnstream", "NumPy")]
    table = Table(run.only, f"mean / sd, ({N_ROWS}, 4)", dict.fromkeys(names, "{:.1e}"))
    for dtype, ratios in RATIOS.items():
        for ratio in ratios:
            name = f"{ratio:,}, {dtype}"
            if not table.wants(name):
                continue
            x = (array((N_ROWS, 4), "float64") + ratio).astype(dtype)
            exact = [exact_var(column) for column in x.T]
            table.row(name, {who: float(max(abs(Fraction(float(v)) / e - 1) for v, e in zip(var, exact, strict=True)))
                             for who, var in found_variances(x, run).items()})
    return table


def layer(run):
    """The errors of batch normalization in training, in ulp, the largest of four channels."""
    ways = {"bnstream": "bnstream"} | ({"torch": "PyTorch"} if peers.installed("PyTorch") else {})
    shape = (batchnorm_accuracy.N, batchnorm_accuracy.CHANNELS)
    columns = [f"{what}, {who}" for what in ("y", "dx", "grad_gamma") for who in ways.values()]
    table = Table(run.only, f"mean / sd, {shape} float32", dict.fromkeys(columns, "{:.3g}"))
    for ratio in batchnorm_accuracy.RATIOS:
        if table.wants(f"{ratio:,}"):
            found = [batchnorm_accuracy.errors(way, ratio) for way in ways]
            errors = (error for of_one in zip(*found, strict=True) for error in of_one)
            table.row(f"{ratio:,}", dict(zip(columns, errors, strict=True)))
    return table
