"""Digests of results over awkward arrays that reach every kernel. As a script it prints them, in a process a level."""

import hashlib
import json
import sys

import ml_dtypes
import numpy as np
from support.arrays import every_other, of_dtype, swapped, unaligned

import bnstream
from bnstream.core.moments import rows_of


def awkward(x, seed=0):
    """Numbers made awkward: far from 0, with denormals, infinities, NaN, a wild first row, a constant channel."""
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


def cases():
    """(name, array, axes)"""
    shapes = [("columns", (2500, 96), 0), ("wide", (300, 1300), 0), ("fold", (20000, 3), 0), ("narrow", (9000, 17), 0),
              ("one column", (70000, 1), 0), ("rows", (5, 30011), 1), ("images", (4, 6, 50, 60), (0, 2, 3)),
              ("short runs", (90, 33, 7, 7), (0, 2, 3)), ("runs of 2", (500, 70, 2), (0, 2)), ("few", (7, 5), 0),
              ("planes", (50, 4, 300), (0, 2)),
              ("all", (331, 217), None)]
    for i, (name, shape, axis) in enumerate(shapes):
        x = awkward(np.random.default_rng(i).standard_normal(shape), i)
        with np.errstate(all="ignore"):
            for dtype in ("f8", "f4", "f2", ml_dtypes.bfloat16):
                yield f"{name} {np.dtype(dtype)}", x.astype(dtype), axis
        single = x.astype("f4")
        yield f"{name} sliced", every_other(single, single.ndim - 1), axis
        yield f"{name} swapped", swapped(single), axis
        yield f"{name} Fortran", np.asfortranarray(single), axis
        yield f"{name} unaligned", unaligned(single), axis
        for dtype in ("u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8", "?"):
            yield f"{name} {np.dtype(dtype)}", of_dtype(dtype, shape, i), axis


def layer_cases():
    """Those with channels, of some dtypes and layouts."""
    kinds = ("float32", "float64", "sliced", "uint8")
    for name, x, axis in cases():
        if axis is not None and name.endswith(kinds):
            yield name, x, axis


def digest(*arrays):
    """Of the bits, of NaN only that it is one."""
    h = hashlib.sha256()
    for a in arrays:
        a = np.asarray(a, np.float64)
        h.update(np.where(np.isnan(a), np.nan, a).tobytes())
    return h.hexdigest()[:16]


def weights_of(x, axis):
    """A mask and weights of the batch positions."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    generator = np.random.default_rng(x.size)
    weights = generator.random([x.shape[i] for i in axes])
    return generator.random(weights.shape) < (0.8 if weights.size > 10 else 1), weights


def normalized(x, axis):
    """Forward and backward of a layer: in training under two policies, in inference."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    channel_axis = next(a for a in range(x.ndim) if a not in axes)
    bn = bnstream.BatchNorm(x.shape[channel_axis], channel_axis=channel_axis, nan_policy="omit", dtype="f8")
    bn.gamma, bn.beta = bn.gamma + np.arange(len(bn.gamma)) % 3, bn.beta - np.arange(len(bn.beta)) % 2
    results = []
    mask = weights_of(x, axis)[0]
    for policy, training, where in (("omit", True, None), ("omit", False, None), ("propagate", True, None),
                                    ("omit", True, mask), ("propagate", True, mask)):
        bn.nan_policy = policy
        y = bn.train(training)(x, where=where)
        dy = y[::-1].copy()
        dx = bn.backward(dy)
        results += [y, dx, bn.grad_gamma, bn.grad_beta, bn.running_mean, bn.running_var]
    return results


def digests(n_threads=None):
    """name: digest of mean and var under both policies, and of a state after chunks and merges; of layers, too."""
    before = bnstream.get_num_threads()
    if n_threads is not None:       # layers have no argument for it
        bnstream.set_num_threads(n_threads)
    out = {f"layer {name}": digest(*normalized(x, axis)) for name, x, axis in layer_cases()}
    bnstream.set_num_threads(before)
    for name, x, axis in cases():
        results = [*bnstream.mean_var(x, axis, dtype="f8", n_threads=n_threads)]
        results += bnstream.mean_var(x, axis, dtype="f8", nan_policy="omit", n_threads=n_threads)
        mask, weights = weights_of(x, axis)
        results += bnstream.mean_var(x, axis, dtype="f8", where=mask, n_threads=n_threads)
        for policy in ("omit", "propagate"):
            m = bnstream.Moments(axis, nan_policy=policy).update(x, weights=weights, where=mask, n_threads=n_threads)
            results += [*rows_of(m)]
        m = bnstream.Moments(axis, nan_policy="propagate")
        for part in np.array_split(x, 3, axis if isinstance(axis, int) else 0):
            m.merge(bnstream.Moments(axis, nan_policy="omit").update(part))
        out[name] = digest(*results, *rows_of(m))
    return out


if __name__ == "__main__":
    json.dump(digests(int(sys.argv[1]) if len(sys.argv) > 1 else None), sys.stdout)
