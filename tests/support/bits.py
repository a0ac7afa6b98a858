"""Digests of the results for awkward arrays that reach every kernel.

As a script it takes a number of threads, and prints the level of the kernels and the digests.
"""

import functools
import hashlib
import json
import sys

import ml_dtypes
import numpy as np
from support.arrays import every_other, of_dtype, swapped, unaligned
from support.cases import CAMPAIGN
from support.norm_oracle import Kind

import bnstream
from bnstream.core.moments import rows_of, tracked_of
from bnstream.core.tracking import OF_KERNELS as NAMES


def awkward(x, seed=0):
    """Make numbers awkward: an offset, denormals, inf, NaN, an outlier in the first row, a constant channel."""
    generator = np.random.default_rng(seed)
    x = x * 10.0 ** generator.integers(-3, 4, x.shape[-1]) + 1e4
    flat = x.reshape(-1, x.shape[-1])
    flat[:, -1] = 0.1
    flat[:, 0] *= 1e-39
    flat[0, 1 % flat.shape[1]] = 1e30
    if flat.shape[1] > 3:
        flat[generator.integers(len(flat), size=3), 2] = [np.nan, np.inf, 5]
        flat[generator.integers(len(flat)), 3] = -np.inf
    return x


SHAPES = [("columns", (2500, 96), 0), ("wide", (300, 1300), 0), ("fold", (20000, 3), 0), ("narrow", (9000, 17), 0),
          ("one column", (70000, 1), 0), ("rows", (5, 30011), 1), ("images", (4, 6, 50, 60), (0, 2, 3)),
          ("short runs", (90, 33, 7, 7), (0, 2, 3)), ("runs of 2", (500, 70, 2), (0, 2)), ("few", (7, 5), 0),
          ("planes", (50, 4, 300), (0, 2)), ("all", (331, 217), None)]
IN_PLACE = ["float64", "float32", "Fortran", "uint8", "int8", "uint16", "int16", "float16", "bfloat16", "int32",
            "uint32", "int64", "uint64"]
THROUGH_SCRATCH = ["sliced", "swapped", "unaligned", "bool"]


@functools.cache
def cases():
    """Return all (name, array, axes). Without the campaign each shape has a third of the kinds read through scratch."""
    found = []
    for i, (name, shape, axis) in enumerate(SHAPES):
        numbers = awkward(np.random.default_rng(i).standard_normal(shape), i)
        for kind in [*IN_PLACE, *THROUGH_SCRATCH[(0 if CAMPAIGN else i % 3)::(1 if CAMPAIGN else 3)]]:
            with np.errstate(all="ignore"):
                found.append((f"{name} {kind}", made(kind, numbers, i), axis))
    return found


def made(kind, numbers, seed):
    """Return an array of a dtype, or of float32 in a layout."""
    if kind.startswith(("float", "bfloat")):
        return numbers.astype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    layouts = {"sliced": lambda x: every_other(x, x.ndim - 1), "swapped": swapped, "Fortran": np.asfortranarray,
               "unaligned": unaligned}
    return layouts[kind](numbers.astype("f4")) if kind in layouts else of_dtype(kind, numbers.shape, seed)


def layer_cases():
    """Yield the cases with channels, for some dtypes and layouts."""
    kinds = ("float32", "float64", "sliced", "uint8")
    for name, x, axis in cases():
        if axis is not None and name.endswith(kinds):
            yield name, x, axis


def digest(*arrays):
    """Return a hash of the bits; all NaN are equal."""
    h = hashlib.blake2b(digest_size=8)
    for a in arrays:
        a = np.asarray(a)
        nan = np.isnan(a)
        h.update(np.where(nan, np.array(np.nan, a.dtype), a) if nan.any() else np.ascontiguousarray(a))
    return h.hexdigest()


def weights_of(x, axis):
    """Return a mask and weights of the batch positions."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    generator = np.random.default_rng(x.size)
    weights = generator.random([x.shape[i] for i in axes])
    return generator.random(weights.shape) < (0.8 if weights.size > 10 else 1), weights


def elements_of(x):
    """Return a mask of elements."""
    return np.random.default_rng(x.size).random(x.shape) < (0.8 if x.size > 50 else 1)


def normalized(x, axis, n_threads):
    """Return results of forward and backward: in training under two policies, and in inference."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    channel_axis = next(a for a in range(x.ndim) if a not in axes)
    bn = bnstream.BatchNorm(x.shape[channel_axis], channel_axis=channel_axis, nan_policy="omit", dtype="f8")
    bn.gamma, bn.beta = bn.gamma + np.arange(len(bn.gamma)) % 3, bn.beta - np.arange(len(bn.beta)) % 2
    results = []
    mask = weights_of(x, axis)[0]
    for policy, training, where in (("omit", True, None), ("omit", False, None), ("propagate", True, None),
                                    ("omit", True, mask), ("propagate", True, mask), ("omit", True, elements_of(x)),
                                    ("propagate", True, elements_of(x)), ("omit", False, elements_of(x))):
        bn.nan_policy = policy
        y, backward = bn.train(training).vjp(x, where=where, n_threads=n_threads)
        results += [y, *backward(y[::-1].copy(), n_threads=n_threads), bn.running_mean, bn.running_var]
    return results


def digests(n_threads=None):
    """Return digests by name: of mean and var under two policies, of a state after merges, of exact statistics, and of
    layers."""
    out = {f"layer {name}": digest(*normalized(x, axis, n_threads)) for name, x, axis in layer_cases()}
    for name, x, axis in cases():
        results = [*bnstream.mean_var(x, axis, dtype="f8", n_threads=n_threads)]
        results += bnstream.mean_var(x, axis, dtype="f8", nan_policy="omit", n_threads=n_threads)
        mask, weights = weights_of(x, axis)
        for where in (mask, elements_of(x)):
            results += bnstream.mean_var(x, axis, dtype="f8", where=where, n_threads=n_threads)
        for policy, where in (("omit", mask), ("propagate", mask), ("omit", elements_of(x))):
            m = bnstream.Moments(axis, nan_policy=policy).update(x, weights=weights, where=where, n_threads=n_threads)
            results += [*rows_of(m)]
        tracked = []
        for policy, where, some in (("omit", None, None), ("propagate", None, None), ("omit", mask, None),
                                    ("propagate", elements_of(x), None), ("omit", elements_of(x), weights)):
            m = bnstream.Moments(axis, nan_policy=policy, track=NAMES)
            m.update(x, weights=some, where=where, n_threads=n_threads).update(x, n_threads=n_threads)
            tracked += [*rows_of(m), *tracked_of(m).values()]
        out[f"tracked {name}"] = digest(*tracked)
        m = bnstream.Moments(axis, nan_policy="propagate")
        for part in np.array_split(x, 3, axis if isinstance(axis, int) else 0):
            m.merge(bnstream.Moments(axis, nan_policy="omit").update(part))
        out[name] = digest(*results, *rows_of(m))
        for where in (None, mask, elements_of(x)):
            m = bnstream.Moments(axis, nan_policy="propagate", exact=True).update(x, where=where, n_threads=n_threads)
            out[f"exact {name}"] = [*out.get(f"exact {name}", []), m.digest(), digest(m.mean, m.std(1))]
    return out | {f"{kind.name} {kind.dims} {dtype}": digest(*of_norm(kind, dtype, n_threads)) for kind in NORMS
                  for dtype in ("f4", "f8", ml_dtypes.bfloat16, "u1")}


NORMS = [Kind("layer_norm", (90, 1030)), Kind("layer_norm", (700, 17)), Kind("rms_norm", (5, 40, 64)),
         Kind("layer_norm", (2, 500_000)), Kind("group_norm", (7, 12, 9, 11), groups=3),
         Kind("group_norm", (7, 9, 11, 32), groups=4, channel_axis=3), Kind("instance_norm", (3, 5, 13, 17))]


def of_norm(kind, dtype, n_threads):
    """Return results of forward and backward of a norm."""
    x = (np.random.default_rng(0).standard_normal(kind.dims) * 20 + 100).astype(dtype)
    y, backward = kind(x, vjp=True, n_threads=n_threads, **kind.parameters())
    return [y, *(part for part in backward(y[::-1].copy(), n_threads=n_threads) if part is not None)]


if __name__ == "__main__":
    json.dump((bnstream.show_config("dicts")["level"], digests(int(sys.argv[1]))), sys.stdout)
