"""Layer, RMS, group and instance norm beside PyTorch, ONNX Runtime and a copy of the same bytes, on two threads."""

from functools import partial

import numpy as np

import bnstream

from . import layers
from .base import Timed, TimedShort, named, once, repeated
from .data import array, need, set_num_threads
from .floor import copy
from .reductions import installed
from .timing import set_pages

# Name: shape, function, arguments, channel axis.
CASES = {
    "layer (8192, 1024)": ((8192, 1024), "layer_norm", (1024,), -1),
    "layer (4096, 4096)": ((4096, 4096), "layer_norm", (4096,), -1),
    "layer (65536, 64)": ((65536, 64), "layer_norm", (64,), -1),
    "layer (256, 256)": ((256, 256), "layer_norm", (256,), -1),
    "rms (8192, 1024)": ((8192, 1024), "rms_norm", (1024,), -1),
    "rms (4096, 4096)": ((4096, 4096), "rms_norm", (4096,), -1),
    "rms (65536, 64)": ((65536, 64), "rms_norm", (64,), -1),
    "group (32, 256, 28, 28)": ((32, 256, 28, 28), "group_norm", (32,), 1),
    "group (32, 28, 28, 256)": ((32, 28, 28, 256), "group_norm", (32,), -1),
    "instance (16, 64, 128, 128)": ((16, 64, 128, 128), "instance_norm", (), 1),
}
SMALL = {"layer (8, 17)": ((8, 17), "layer_norm", (17,), -1), "layer (1, 4096)": ((1, 4096), "layer_norm", (4096,), -1)}
CALLS = ["forward", "backward"]


def of_bnstream(shape, function, arguments, channel_axis, dtype="float32"):
    """Calls that write to `out`."""
    need(function)
    x, dy = array(shape, dtype), array(shape, dtype, 1)
    out, n = np.ones_like(x), shape[channel_axis]
    options = {} if function in ("layer_norm", "rms_norm") else {"channel_axis": channel_axis}
    options |= {"gamma": np.ones(n, dtype)} | ({} if function == "rms_norm" else {"beta": np.zeros(n, dtype)})
    backward = getattr(bnstream, f"{function}_vjp")(x, *arguments, **options)[1]
    return {"forward": partial(getattr(bnstream, function), x, *arguments, **options, out=out),
            "backward": partial(backward, dy, out)}


def of_torch(shape, function, arguments, channel_axis, dtype="float32"):
    """PyTorch's calls make new results."""
    torch = installed("torch")
    torch.set_num_threads(2)
    x, dy = (torch.from_numpy(array(shape, dtype, seed)) for seed in (0, 1))
    if function not in ("layer_norm", "rms_norm") and channel_axis == -1:
        x, dy = (t.permute(0, 3, 1, 2) for t in (x, dy))
    n = shape[channel_axis]
    gamma = torch.ones(n, dtype=x.dtype)
    parameters = {"weight": gamma} | ({} if function == "rms_norm" else {"bias": torch.zeros_like(gamma)})
    call = getattr(torch.nn.functional, function)
    given = [(n,)] if function in ("layer_norm", "rms_norm") else [*arguments]
    leaves = [t.clone().requires_grad_() for t in (x, *parameters.values())]
    result = call(leaves[0], *given, **dict(zip(parameters, leaves[1:], strict=True)))
    return {"forward": partial(call, x, *given, **parameters),
            "backward": partial(torch.autograd.grad, result, leaves, dy, retain_graph=True)}


OPERATORS = {"layer_norm": ("LayerNormalization", 17), "rms_norm": ("RMSNormalization", 23),
             "group_norm": ("GroupNormalization", 21), "instance_norm": ("InstanceNormalization", 22)}


def of_onnxruntime(shape, function, arguments, channel_axis, dtype="float32"):
    """A node that writes to `out`."""
    operator, opset = OPERATORS[function]
    if function not in ("layer_norm", "rms_norm") and channel_axis == -1:
        raise NotImplementedError("ONNX has the channels along axis 1")
    x = array(shape, dtype)
    parameters = {"scale": 1.0} | ({} if function == "rms_norm" else {"bias": 0.0})
    attributes = {"epsilon": 1e-5} | ({"num_groups": arguments[0]} if function == "group_norm" else {})
    return {"forward": layers.onnx_node(operator, opset, x, np.ones_like(x), parameters, (shape[channel_axis],), 2,
                                        **attributes)}


def of_copy(shape, function, arguments, channel_axis, dtype="float32"):
    x, out = array(shape, dtype), np.ones(shape, dtype)
    return {"forward": partial(copy, x, out, 2)}


WAYS = {"bnstream": of_bnstream, "PyTorch": of_torch, "ONNX Runtime": of_onnxruntime, "copy": of_copy}


def call_of(case, call, by):
    set_pages("reused")
    set_num_threads(2)
    calls = WAYS[by](*case)
    if call not in calls:
        raise NotImplementedError(f"{by} has no {call}")
    return calls[call]


class Norm(Timed):
    """float32; bnstream writes to out, PyTorch makes new results on pages that the process has used before."""

    params = (list(CASES), CALLS, list(WAYS))
    param_names = ("norm", "call", "by")

    @once
    def setup(self, norm, call, by):
        self.call = call_of(CASES[norm], call, by)

    @named("norms")
    def time_norm(self, norm, call, by):
        self.call()


class SmallNorm(TimedShort):
    """float32."""

    params = (list(SMALL), CALLS, ["bnstream", "PyTorch"])
    param_names = ("norm", "call", "by")

    @once
    def setup(self, norm, call, by):
        self.call = call_of(SMALL[norm], call, by)

    @named("norms of one small array")
    def time_norm(self, norm, call, by):
        repeated(self.call)
