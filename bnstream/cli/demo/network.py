"""The networks of ``bnstream demo --train``, which differ in their normalization alone.

    8 x 8 images of digits -> (dense -> a norm or nothing -> sigmoid) x 3 -> dense -> softmax -> 10 classes

With and without batch normalization they repeat the experiment of Ioffe and Szegedy (2015), section 4.1, on a smaller
data set, with NumPy and this library alone. All networks start from the same weights and see the same mini-batches.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.channelnorms import GroupNorm
from bnstream.core.gradient import Backward
from bnstream.core.layer import NormLayer
from bnstream.core.rownorms import LayerNorm

Array = NDArray[Any]

SIZES = (64, 100, 100, 100, 10)
N_TEST = 360
BATCH_ROWS = 64
RATE = 0.5
STEPS_APART = 5         # Activations are recorded at every fifth step, as their percentiles take as long as a step.
PERCENTILES = (5, 25, 50, 75, 95)
MODES = ("train", "eval", "recalibrated")


@dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 images, with values from 0 to 1, in a random order that is always the same."""

    x: Array
    labels: Array
    x_test: Array
    labels_test: Array


@dataclass
class TrainingLog:
    """The course of a training."""

    loss: list[float] = field(default_factory=list)
    """For each step, the loss of its mini-batch before the step."""
    activations: list[Array] = field(default_factory=list)
    """For every fifth step, the PERCENTILES of the outputs of each hidden layer, (hidden layers, percentiles)."""
    test: list[dict[str, tuple[float, float]]] = field(default_factory=list)
    """Before the first epoch and after each, the test loss and accuracy in each of MODES."""


# A layer of n units, by what it is called.
NORMS: dict[str, Callable[[int], NormLayer]] = {
    "BatchNorm": lambda n: BatchNorm(n, dtype="float64"),
    "BatchNorm(renorm=True)": lambda n: BatchNorm(n, dtype="float64", renorm=True),
    "GroupNorm": lambda n: GroupNorm(n // 10, n, dtype="float64"),
    "LayerNorm": lambda n: LayerNorm(n, dtype="float64"),
}


class Network:
    """Dense layers, with a sigmoid after each but the last, and perhaps a norm before each sigmoid."""

    def __init__(self, sizes: tuple[int, ...], norm: Callable[[int], NormLayer] | None = None, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        # 1 / sqrt(100) also suits a layer of 100 by 100 without batch normalization (Glorot, Bengio 2010).
        self.weights = [rng.normal(0, 0.1, shape) for shape in pairwise(sizes)]
        # Batch normalization subtracts the biases of the hidden layers with the mean. They stay 0; beta replaces them.
        self.biases = [np.zeros(n) for n in sizes[1:]]
        self.norms = [] if norm is None else [norm(n) for n in sizes[1:-1]]
        self.inputs: list[Array] = []       # the input of each dense layer in the last forward
        self.passes: list[Backward] = []    # the backward pass of each norm

    def forward(self, x: Array) -> Array:
        """Compute the logits, (rows, classes)."""
        self.inputs, self.passes = [x], []
        for index in range(len(self.weights) - 1):
            z = self.inputs[-1] @ self.weights[index] + self.biases[index]
            if self.norms:
                z, backward = self.norms[index].vjp(z)
                self.passes.append(backward)
            self.inputs.append(sigmoid(z))
        return self.inputs[-1] @ self.weights[-1] + self.biases[-1]

    def backward(self, dz: Array) -> list[Any]:
        """Compute the gradients of `parameters`, from the gradient of the logits of the last forward."""
        weights: list[Any] = []
        biases: list[Any] = []
        norms: list[Any] = []
        for index in reversed(range(len(self.weights))):
            x = self.inputs[index]
            weights.append(x.T @ dz)
            biases.append(dz.sum(axis=0))
            if index:
                dz = (dz @ self.weights[index].T) * x * (1 - x)
                if self.norms:
                    dz, *of_norm = self.passes[index - 1](dz)
                    norms = [*of_norm, *norms]
        return [*reversed(weights), *reversed(biases), *norms]

    def parameters(self) -> list[Any]:
        """The parameters themselves, to be changed in place."""
        return [*self.weights, *self.biases, *(values for norm in self.norms for values in (norm.gamma, norm.beta))]

    def step(self, x: Array, labels: Array, rate: float) -> float:
        """Take a step of gradient descent on one mini-batch, and return the loss before the step."""
        loss, dz = cross_entropy(self.forward(x), labels)
        for parameter, gradient in zip(self.parameters(), self.backward(dz), strict=True):
            parameter -= rate * gradient
        return loss

    def in_mode(self, mode: str, x: Array) -> "Network":
        """A copy in one of MODES. x: the training set, whose exact statistics "recalibrated" uses."""
        network = copy.deepcopy(self, {id(self.passes): []})
        batches = np.array_split(x, -(-len(x) // BATCH_ROWS))
        for weight, bias, norm in zip(network.weights, network.biases, network.norms, strict=False):
            norm.train(mode == "train")
            # The input of a layer depends on the layers before it.
            if mode == "recalibrated" and isinstance(norm, BatchNorm):
                batches = [batch @ weight + bias for batch in batches]
                norm.recalibrate(batches)
                batches = [sigmoid(norm(batch)) for batch in batches]
        return network


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * z)


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """The mean cross entropy after a softmax, in nats, and its gradient with respect to the logits."""
    rows = np.arange(len(labels))
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return -float(log_p[rows, labels].mean()), gradient / len(labels)


def load_images() -> Digits:
    """Load the training and the test set."""
    x, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, labels = x[order] / 16, labels[order]
    return Digits(x[N_TEST:], labels[N_TEST:], x[:N_TEST], labels[:N_TEST])


def evaluate(network: Network, digits: Digits) -> dict[str, tuple[float, float]]:
    """Loss and accuracy on the test set in each of MODES, the same in all without batch normalization."""
    results = {}
    for mode in MODES:
        copied = network.in_mode(mode, digits.x)
        starts = range(0, len(digits.x_test), BATCH_ROWS)
        logits = np.concatenate([copied.forward(digits.x_test[i:i + BATCH_ROWS]) for i in starts])
        accuracy = float((logits.argmax(axis=1) == digits.labels_test).mean())
        results[mode] = cross_entropy(logits, digits.labels_test)[0], accuracy
    return results


# Matrices this small gain nothing from a second core. Waiting for a busy one took four times as long.
@threadpool_limits.wrap(limits=1, user_api="blas")
def train(
    network: Network, digits: Digits, n_epochs: int, rate: float = RATE, batch_rows: int = BATCH_ROWS
) -> TrainingLog:
    """Train by stochastic gradient descent, on the same mini-batches for each network.

    Batch normalization refuses one row. So where the last mini-batch of an epoch has one, it is left out.
    """
    rng = np.random.default_rng(1)
    log = TrainingLog(test=[evaluate(network, digits)])
    for _ in range(n_epochs):
        order = rng.permutation(len(digits.x))
        for start in range(0, len(order) - 1, batch_rows):
            rows = order[start:start + batch_rows]
            log.loss.append(network.step(digits.x[rows], digits.labels[rows], rate))
            if len(log.loss) % STEPS_APART == 1:
                # Each unit has percentiles over the images, as differences between units say nothing here.
                spread = [np.percentile(x, PERCENTILES, axis=0).mean(axis=1) for x in network.inputs[1:]]
                log.activations.append(np.array(spread))
        log.test.append(evaluate(network, digits))
    return log
