"""Batch normalization of one array by bnstream and its peers: by name, calls that can be repeated."""

import numpy as np

import bnstream

from .data import array, need
from .timing import optional

CHANNEL_AXIS = {(32, 64, 56, 56): 1, (65536, 256): 1, (4096, 256): 1, (32, 56, 56, 64): 3}
EPS = 1e-5
IMAGE_MEAN, IMAGE_SD = np.float32([123.7, 116.3, 103.5]), np.float32([58.4, 57.1, 57.4])    # of ImageNet, from 0 to 255


def repeatable(bn, dy, out=None):
    """backward of the layer's last call, which the layer itself allows only once."""
    name = "_pending" if hasattr(bn, "_pending") else "_forward"        # the second one in past commits
    forward = getattr(bn, name)

    def call():
        setattr(bn, name, forward)
        return bn.backward(dy, out)

    return call


def of_bnstream(x, channel_axis=1, dy=None, out=None, **settings):
    """Training, inference and backward to `out` or, with names that end in "fresh", to a new array. Without dy or out,
    arrays with the layout of x are used."""
    need("BatchNorm")
    result = x.dtype.newbyteorder("=") if x.dtype.kind == "f" else np.dtype("float32")
    out = np.ones_like(x, result) if out is None else out
    if dy is None:
        dy = np.empty_like(out)
        dy[...] = array(x.shape, result, 1)
    make = {"channel_axis": channel_axis, "dtype": "float64" if x.dtype == np.float64 else "float32", **settings}
    trained = bnstream.BatchNorm(x.shape[channel_axis], **make)
    trained(x, out)
    frozen = bnstream.BatchNorm(x.shape[channel_axis], **make)
    frozen(x, out)
    frozen.eval()
    called = bnstream.BatchNorm(x.shape[channel_axis], **make)
    called(x, out)
    return {
        "training": lambda: trained(x, out),
        "inference": lambda: frozen(x, out),
        "backward": repeatable(called, dy, out),
        "training, fresh": lambda: trained(x),
        "inference, fresh": lambda: frozen(x),
        "backward, fresh": repeatable(called, dy),
    }


def of_torch(x, channel_axis=1, n_threads=1, dy=None):
    """The same to new arrays, as PyTorch's function has no `out`; channels last are a view of the same memory."""
    torch = optional("torch")
    if torch is None:
        raise NotImplementedError("torch is not installed")
    torch.set_num_threads(n_threads)
    batch_norm, backward = torch.nn.functional.batch_norm, torch.ops.aten.native_batch_norm_backward
    dy = array(x.shape, "float32", 1) if dy is None else dy
    n = x.shape[channel_axis]
    x, dy = (torch.from_numpy(a).movedim(channel_axis, 1) for a in (x, dy))
    gamma, beta, mean, var = torch.ones(n), torch.zeros(n), torch.zeros(n), torch.ones(n)
    _, saved_mean, saved_invstd = torch.native_batch_norm(x, gamma, beta, mean, var, True, 0.1, EPS)
    return {
        "training": lambda: batch_norm(x, mean, var, gamma, beta, True, 0.1, EPS),
        "inference": lambda: batch_norm(x, mean, var, gamma, beta, False, 0.1, EPS),
        "backward": lambda: backward(dy, x, gamma, mean, var, saved_mean, saved_invstd, True, EPS, [True, True, True]),
    }


def of_numpy(x, channel_axis=1, dy=None):
    """The same by the formulas, in float32 and to new arrays."""
    axes = tuple(axis for axis in range(x.ndim) if axis != channel_axis)
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    gamma, beta = np.ones_like(mean), np.zeros_like(mean)
    dy = array(x.shape, "float32", 1) if dy is None else dy

    def backward():
        invstd = 1 / np.sqrt(var + EPS)
        xhat = (x - mean) * invstd
        of_beta, of_gamma = dy.mean(axes, keepdims=True), (dy * xhat).mean(axes, keepdims=True)
        return gamma * invstd * (dy - of_beta - xhat * of_gamma)

    def forward(mean, var):
        return (x - mean) / np.sqrt(var + EPS) * gamma + beta

    return {
        "training": lambda: forward(x.mean(axes, keepdims=True), x.var(axes, keepdims=True)),
        "inference": lambda: forward(mean, var),
        "backward": backward,
    }


def of_onnxruntime(x, out, n_threads=1):
    """Inference of NCHW to `out`, by a model of one node."""
    kinds = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "var": 1.0}
    return onnx_node("BatchNormalization", 15, x, out, kinds, (x.shape[1],), n_threads, epsilon=EPS)


def onnx_node(operator, opset, x, out, parameters, shape, n_threads, **attributes):
    """A call of ONNX Runtime that writes to `out`. The parameters of the node have one value everywhere, by name."""
    onnx, runtime = optional("onnx"), optional("onnxruntime")
    if onnx is None or runtime is None:
        raise NotImplementedError("onnx or onnxruntime is not installed")
    make, single = onnx.helper, onnx.TensorProto.FLOAT
    node = make.make_node(operator, ["x", *parameters], ["y"], **attributes)
    graph = make.make_graph(
        [node], operator, *([make.make_tensor_value_info(name, single, x.shape)] for name in "xy"),
        [make.make_tensor(name, single, shape, np.full(shape, value, "f4")) for name, value in parameters.items()])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = n_threads
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def call():
        session.run_with_iobinding(binding)
        return x, out       # The binding keeps no reference to either.

    return call
