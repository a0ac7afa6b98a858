"""Per-channel mean and variance, and batch normalization, of NumPy arrays and of streams of them, at memory speed."""

from typing import TYPE_CHECKING, Any

from bnstream._kernels._runtime import get_num_threads, set_num_threads
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.channelnorms import GroupNorm, InstanceNorm
from bnstream.core.config import show_config
from bnstream.core.functional import batch_norm, batch_norm_vjp, mean_var, normalize
from bnstream.core.moments import Moments
from bnstream.core.norms import (
    group_norm,
    group_norm_vjp,
    instance_norm,
    instance_norm_vjp,
    layer_norm,
    layer_norm_vjp,
    rms_norm,
    rms_norm_vjp,
)
from bnstream.core.rownorms import LayerNorm, RMSNorm

if TYPE_CHECKING:
    from bnstream.core.groups.domainbatchnorm import DomainBatchNorm
    from bnstream.core.groups.grouped import GroupedMoments
    from bnstream.statefiles import StateError, load, save
    from bnstream.streams.applying import apply
    from bnstream.streams.fitting import fit
    from bnstream.streams.sources import SourceError

__version__: str
__all__ = [
    "BatchNorm",
    "DomainBatchNorm",
    "GroupNorm",
    "GroupedMoments",
    "InstanceNorm",
    "LayerNorm",
    "Moments",
    "RMSNorm",
    "SourceError",
    "StateError",
    "apply",
    "batch_norm",
    "batch_norm_vjp",
    "fit",
    "get_num_threads",
    "group_norm",
    "group_norm_vjp",
    "instance_norm",
    "instance_norm_vjp",
    "layer_norm",
    "layer_norm_vjp",
    "load",
    "mean_var",
    "normalize",
    "rms_norm",
    "rms_norm_vjp",
    "save",
    "set_num_threads",
    "show_config",
]

# The modules of the names that are imported on first use, as they take longer to import than all others together.
_LATER = {
    "DomainBatchNorm": "core.groups.domainbatchnorm", "GroupedMoments": "core.groups.grouped",
    "apply": "streams.applying", "fit": "streams.fitting", "SourceError": "streams.sources",
    "StateError": "statefiles", "load": "statefiles", "save": "statefiles",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from bnstream.core.config import version

        value: Any = version()
    elif name in _LATER:
        from importlib import import_module

        value = getattr(import_module(f"bnstream.{_LATER[name]}"), name)
    else:
        raise AttributeError(f"module 'bnstream' has no attribute {name!r}")
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("_"))})
