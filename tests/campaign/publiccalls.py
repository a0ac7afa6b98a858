"""Public calls by name, for the campaign: objects that a call gets, made anew each time, and the call."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import bnstream
from bnstream import BatchNorm, GroupedMoments, GroupNorm, InstanceNorm, LayerNorm, Moments, RMSNorm
from bnstream.runningmeanstd import RunningMeanStd

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (8, 3))
F4 = X.astype("f4")
WIDE = RNG.normal(3, 2, (4, 200))
HOLED = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
IMAGES = RNG.normal(3, 2, (2, 4, 3, 3)).astype("f4")
KEYS = np.arange(8) % 3
NAMES = ["a", "b", "c", "a", "b", "c", "a", "a"]
WEIGHTS = np.arange(8.0) + 1
MASK = RNG.random(X.shape) < 0.8
ONES, ZEROS = np.ones(4, "f4"), np.zeros(4, "f4")
TRACKS = ("min", "missing", "kurtosis")

STATES: dict[str, Callable[[], Any]] = {
    "plain": lambda: Moments().update(F4), "exact": lambda: Moments(exact=True, names=["a", "b", "c"]).update(X),
    "tracked": lambda: Moments(track=TRACKS).update(F4), "layer": lambda: BatchNorm(3, track_pooled=True),
    "groups": lambda: GroupedMoments().update(X, NAMES),
}
FILES: dict[Any, bytes] = {}        # the contents of state files

Case = tuple[Callable[[], tuple[Any, ...]], Callable[..., Any]]


def nothing() -> tuple[Any, ...]:
    return ()


def estimates() -> tuple[Any, ...]:
    return ZEROS.copy(), ONES.copy()


def trained(**options: Any) -> tuple[BatchNorm, ...]:
    bn = BatchNorm(3, **options)
    bn(F4)
    return (bn,)


def forwarded(layer: Any, x: Any) -> tuple[Any, ...]:
    layer(x)
    return (layer,)


def pairs(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result of a forward pass, and that of its backward pass."""
    y, backward = function(*arguments, **options)
    return y, backward(np.ones_like(y))


def cases(folder: Path) -> dict[str, Case]:
    """What is called, by names: what makes the objects, and the call. Files are those of a folder."""
    def file(state: str = "plain") -> tuple[Path]:
        """A state file, the only file in the folder."""
        for path in folder.iterdir():
            path.unlink()
        path = folder / "state.npz"
        if state not in FILES:
            bnstream.save(path, STATES[state]())
            FILES[state] = path.read_bytes()
        path.write_bytes(FILES[state])
        return (path,)

    found: dict[str, Case] = {
        "mean_var": (nothing, lambda: bnstream.mean_var(X)),
        "mean_var weights": (nothing, lambda: bnstream.mean_var(X, weights=WEIGHTS, where=MASK, nan_policy="omit")),
        "mean_var exact": (nothing, lambda: bnstream.mean_var(F4, exact=True)),
        "normalize": (nothing, lambda: bnstream.normalize(X, X[0], np.abs(X[1]))),
        "normalize broadcast": (nothing, lambda: bnstream.normalize(IMAGES, ONES, ONES, ONES, ZEROS, channel_axis=1)),
        "batch_norm": (nothing, lambda: bnstream.batch_norm(IMAGES, ZEROS, ONES, ONES, ZEROS)),
        "batch_norm training": (estimates, lambda mean, var: bnstream.batch_norm(IMAGES, mean, var, ONES, ZEROS,
                                                                                 training=True)),
        "batch_norm_vjp": (estimates, lambda mean, var: bnstream.batch_norm_vjp(IMAGES, mean, var, ONES, ZEROS,
                                                                                training=True)[0]),
        "batch_norm_vjp backward": (lambda: bnstream.batch_norm_vjp(IMAGES, *estimates(), ONES, ZEROS,
                                                                    training=True)[1:],
                                    lambda backward: backward(IMAGES)),
        "layer_norm": (nothing, lambda: bnstream.layer_norm(F4, 3, F4[0], F4[1])),
        "layer_norm_vjp": (nothing, lambda: pairs(bnstream.layer_norm_vjp, F4, 3, F4[0], F4[1])),
        "rms_norm": (nothing, lambda: bnstream.rms_norm(F4, 3, F4[0])),
        "rms_norm_vjp": (nothing, lambda: pairs(bnstream.rms_norm_vjp, F4, 3, F4[0])),
        "group_norm": (nothing, lambda: bnstream.group_norm(IMAGES, 2, ONES, ZEROS)),
        "group_norm_vjp": (nothing, lambda: pairs(bnstream.group_norm_vjp, IMAGES, 2, ONES, ZEROS)),
        "instance_norm": (nothing, lambda: bnstream.instance_norm(IMAGES)),
        "instance_norm_vjp": (nothing, lambda: pairs(bnstream.instance_norm_vjp, IMAGES)),
        "fit": (nothing, lambda: bnstream.fit(F4, n_threads=1)),
        **{f"save {name}": (lambda name=name: (*file(), STATES[name]()), bnstream.save) for name in STATES},
        **{f"load {name}": (lambda name=name: file(name), bnstream.load) for name in STATES},
        "normalize layer": (lambda: (BatchNorm(4).eval(),), lambda bn: bn(IMAGES)),
        "recalibrate": (trained, lambda bn: bn.recalibrate([F4, F4[:5]])),
        "load_state_dict": (trained, lambda bn: bn.load_state_dict(BatchNorm(3).state_dict())),
        "copy layer": (trained, lambda bn: bn.copy()),
        "pickle layer": (trained, lambda bn: pickle.loads(pickle.dumps(bn))),
        "fold": (trained, lambda bn: bn.fold(X[:3])),
        "diagnose": (trained, lambda bn: list(bn.diagnose().findings)),
        "reset_running_stats": (lambda: trained(track_pooled=True), lambda bn: bn.reset_running_stats()),
        "accumulate gradients": (lambda: (lambda bn: (bn, bn.vjp(F4)[1]))(*trained()),
                                 lambda bn, backward: backward(F4, accumulate=True)),
        "LayerNorm": (lambda: (LayerNorm(3),), lambda layer: layer(F4)),
        "RMSNorm": (lambda: (RMSNorm(3),), lambda layer: layer(F4)),
        "GroupNorm": (lambda: (GroupNorm(2, 4),), lambda layer: layer(IMAGES)),
        "InstanceNorm": (lambda: (InstanceNorm(4, track_running_stats=True),), lambda layer: layer(IMAGES)),
        "InstanceNorm averages": (lambda: (InstanceNorm(4, momentum=None, track_running_stats=True),),
                                  lambda layer: layer(IMAGES)),
        "LayerNorm backward": (lambda: forwarded(LayerNorm(3), F4), lambda layer: layer.backward(F4)),
        "GroupNorm backward": (lambda: forwarded(GroupNorm(2, 4), IMAGES), lambda layer: layer.backward(IMAGES)),
        "RunningMeanStd": (lambda: (RunningMeanStd((3,)),), lambda rms: rms.update(X)),
        "RunningMeanStd again": (lambda: (RunningMeanStd((3,)).update(X),), lambda rms: rms.update(X)),
        "RunningMeanStd read": (lambda: (RunningMeanStd((3,)).update(X),), lambda rms: (rms.mean, rms.var, rms.count)),
        "RunningMeanStd moments": (lambda: (RunningMeanStd((3,)).update(X),),
                                   lambda rms: rms.update_from_moments(X[0], np.abs(X[1]), 3)),
        "RunningMeanStd merge": (lambda: (RunningMeanStd((3,)).update(X), RunningMeanStd((3,)).update(X[:4])),
                                 lambda a, b: a.merge(b)),
        "RunningMeanStd set": (lambda: (RunningMeanStd((3,)).update(X),), lambda rms: setattr(rms, "count", 3)),
    }
    for name, options in {"": {}, " pooled": {"track_pooled": True}, " exact": {"track_pooled": "exact"},
                          " average": {"momentum": None}, " renorm": {"renorm": True},
                          " virtual": {"virtual_batch": 4}, " omit": {"nan_policy": "omit"}}.items():
        x = HOLED.astype("f4") if name == " omit" else F4
        found[f"training{name}"] = (lambda options=options: (BatchNorm(3, **options),), lambda bn, x=x: bn(x))
        found[f"training again{name}"] = (lambda options=options: trained(**options), lambda bn, x=x: bn(x))
        found[f"backward{name}"] = (lambda options=options: trained(**options), lambda bn: bn.backward(F4))
    for name, options in {"": {}, " exact": {"exact": True}, " tracked": {"track": TRACKS},
                          " exact, tracked": {"exact": True, "track": ("min", "missing")},
                          " quantiles": {"track": "quantiles"}}.items():
        omit = {"nan_policy": "omit", **options}

        def made(options: dict[str, Any] = options) -> tuple[Any, ...]:
            return (Moments(**options).update(F4),)

        def by_key(options: dict[str, Any] = options) -> tuple[Any, ...]:
            return (GroupedMoments(**options).update(F4, KEYS),)

        def by_name(options: dict[str, Any] = options) -> tuple[Any, ...]:
            return (GroupedMoments(**options).update(F4, NAMES),)

        found[f"update{name}"] = (lambda options=options: (Moments(**options),), lambda m: m.update(F4))
        found[f"update again{name}"] = (made, lambda m: m.update(F4))
        found[f"update omit{name}"] = (lambda omit=omit: (Moments(**omit),), lambda m: m.update(HOLED, where=MASK))
        found[f"update wide{name}"] = (lambda options=options: (Moments(**options).update(WIDE),),
                                       lambda m: m.update(WIDE))
        found[f"update large{name}"] = (made, lambda m: m.update(X * 1e200))
        found[f"merge{name}"] = (lambda options=options: (Moments(**options), Moments(**options).update(F4)),
                                 lambda a, b: a.merge(b))
        found[f"merge again{name}"] = (lambda options=options: (Moments(**options).update(X * 1e-3),
                                                                Moments(**options).update(F4)), lambda a, b: a.merge(b))
        found[f"copy{name}"] = (made, lambda m: m.copy())
        found[f"pickle{name}"] = (made, lambda m: pickle.loads(pickle.dumps(m)))
        found[f"statistics{name}"] = (made, lambda m: (m.n, m.mean, m.m2, m.var(), m.std(), m.effective_n))
        found[f"print{name}"] = (made, repr)
        if name != " quantiles":        # which take no weights
            found[f"update weights{name}"] = (made, lambda m: m.update(F4, weights=WEIGHTS))
            found[f"groups weights{name}"] = (by_key, lambda g: g.update(F4, KEYS, weights=WEIGHTS))
        found[f"groups{name}"] = (lambda options=options: (GroupedMoments(**options),), lambda g: g.update(F4, KEYS))
        found[f"groups again{name}"] = (by_key, lambda g: g.update(F4, KEYS))
        found[f"groups new{name}"] = (by_key, lambda g: g.update(F4, KEYS + 2))
        found[f"groups merge{name}"] = (lambda options=options: (
            GroupedMoments(**options).update(F4, KEYS), GroupedMoments(**options).update(F4, KEYS + 1)),
            lambda a, b: a.merge(b))
        found[f"groups copy{name}"] = (by_key, lambda g: (g.copy(), g.total(), g[1], g.mean))
        if "exact" in options:
            found[f"unmerge{name}"] = (lambda: (Moments(exact=True).update(X), Moments(exact=True).update(X[:3])),
                                       lambda a, b: a.unmerge(b))
            found[f"digest{name}"] = (made, lambda m: m.digest())
        else:
            found[f"groups names{name}"] = (by_name, lambda g: g.update(F4, [name + "b" for name in NAMES]))
            found[f"groups names again{name}"] = (by_name, lambda g: g.update(F4, NAMES))
    found["skewness"] = (lambda: (Moments(track=TRACKS).update(F4),), lambda m: (m.skewness(), m.kurtosis(), m.min))
    found["quantile"] = (lambda: (Moments(track="quantiles").update(F4),), lambda m: m.quantile([0.1, 0.5]))
    return found


def frozen(value: Any) -> Any:
    """What an object is, to the last bit, in values that compare and do not change with it."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return frozen(value.tolist())
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, Path):
        return value.read_bytes(), sorted(path.name for path in value.parent.iterdir())
    if isinstance(value, dict):
        return {key: frozen(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [frozen(one) for one in value]
    if isinstance(value, GroupedMoments):
        return [list(value), frozen(value._stacked()[0]), value.names, value.key_names, value.shape]
    if type(value).__module__.startswith("bnstream"):
        state = frozen(value.__getstate__())
        if hasattr(value, "_pending"):
            state["_pending"] = type(value._pending).__name__
        return state
    if isinstance(value, str | bytes | int | float | type(None) | np.dtype):
        return value
    return repr(value)
