"""The backward pass of one call of a layer, in either mode."""


def gradient(bn, x, dy, out=None, *, where=None, n_threads=None):
    """Call the layer, and return the gradient of x; those of the parameters are in `grad_gamma` and `grad_beta`."""
    if bn.training:
        bn(x, where=where, n_threads=n_threads)
        return bn.backward(dy, out, n_threads=n_threads)
    _, backward = bn.vjp(x, where=where, n_threads=n_threads)
    dx, bn.grad_gamma, bn.grad_beta = backward(dy, out, n_threads=n_threads)
    return dx
