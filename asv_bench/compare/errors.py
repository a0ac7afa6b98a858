"""The tables of compare.py about errors, of results and of gradients, against exact arithmetic."""

from fractions import Fraction

import peers
from benchmarks import batchnorm_accuracy
from benchmarks.data import array
from table import Table

import bnstream

ROWS = 20000
RATIOS = {"float32": [10**k for k in range(8)], "float64": [10**k for k in range(9)]}   # float32 holds no 1e8 + 1
IN_DOUBLE = ', dtype="float64"'


def exact_var(column):
    """The variance of a column in rational arithmetic; the numbers are integers over one power of two."""
    parts = [value.as_integer_ratio() for value in column.tolist()]
    scale, n = max(part[1] for part in parts), len(parts)
    values = [numerator * (scale // denominator) for numerator, denominator in parts]
    return Fraction(n * sum(v * v for v in values) - sum(values) ** 2, (n * scale) ** 2)


def found_variances(x, run):
    """By whose they are, and of float32 those that were asked for in float64, too."""
    found = {"bnstream": bnstream.mean_var(x)[1]}
    found |= {who: peers.VARIANCE[who](call(), len(x)) for who, call in peers.mean_var(x, 0, run.threads).items()}
    if x.dtype == "float32":
        found[f"bnstream{IN_DOUBLE}"] = bnstream.mean_var(x, dtype="float64")[1]
        found[f"NumPy{IN_DOUBLE}"] = x.var(0, dtype="float64")
    return found


def variances(run):
    """Relative errors: the worst of all columns."""
    names = ["bnstream", *peers.installed("NumPy", "PyTorch", "oneDAL", "scikit-learn")]
    names += [who + IN_DOUBLE for who in ("bnstream", "NumPy")]
    table = Table(run.only, f"mean / sd, ({ROWS}, 4)", dict.fromkeys(names, "{:.1e}"))
    for dtype, ratios in RATIOS.items():
        for ratio in ratios:
            name = f"{ratio:,}, {dtype}"
            if not table.wants(name):
                continue
            x = (array((ROWS, 4), "float64") + ratio).astype(dtype)
            exact = [exact_var(column) for column in x.T]
            table.row(name, {who: float(max(abs(Fraction(float(v)) / e - 1) for v, e in zip(var, exact, strict=True)))
                             for who, var in found_variances(x, run).items()})
    return table


def layer(run):
    """In training, in ulp: the worst of four channels."""
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
