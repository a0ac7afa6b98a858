"""How reliable the running estimates of a batch normalization are."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnstream.core.labels import channel_label, counted
from bnstream.core.late import late

INITIAL_LIMIT = 0.01        # weight of the initial estimates from which on it is a finding
FEW_VALUES = 32             # values of a channel in a batch, up to which their number is a finding
MOST_NAMED = 4              # channels that a verdict names


@dataclass(frozen=True)
class Measure:
    """When one of the attributes of a `Diagnosis` is a finding, and how it is put into words."""

    excess: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """How far values are from what is expected, divided by what is tolerated: a finding from 1 on."""
    words: Callable[[float], str]
    """The verdict on one channel."""
    advice: str
    unknown: str = ""
    """Why all values may be NaN."""


def side(value: float) -> str:
    return f"{abs(value):.3g} sd {'above' if value > 0 else 'below'}"


def condition_words(value: float) -> str:
    if not math.isfinite(value):
        return "running variance is 0, or an estimate is NaN or inf"
    return f"offset of {value:.3g} sd takes up {math.log10(value):.1f} digits"


def uncertainty_words(value: float) -> str:
    return f"running mean is uncertain by {1 / math.sqrt(value):.2g} sd" if value > 0 else "no batch yet"


def batch_words(n: float) -> str:
    of_sd = f"{1 / math.sqrt(2 * n - 2):.0%}" if n > 1 else "all of it"
    return (f"a batch has about {n:.3g} values, so that its mean errs by {1 / math.sqrt(n):.0%} of the sd, its sd by "
            f"{of_sd}")


NOTHING = "nothing stands out"
RECALIBRATE = "call recalibrate with the data to be used in inference"
NO_POOLED = "there are no pooled statistics, which track_pooled=True keeps, or all channels are constant"
NO_BATCH = "no batch since the estimates were made or set"
MEASURES = {
    "effective_n": Measure(
        lambda n: 100 / n, uncertainty_words, "use larger batches, a smaller momentum, or momentum=None",
        "estimates were set or loaded"),
    "batch_n": Measure(
        lambda n: FEW_VALUES / n, batch_words,
        "use larger batches, or renorm=True, or GroupNorm or LayerNorm, which do not depend on the batch",
        "estimates were set or loaded, or there is no batch yet"),
    "condition": Measure(
        lambda c: np.where(np.isfinite(c), c / 1e4, math.inf), condition_words,
        "subtract offsets before the data is rounded to float32; check channels that are constant"),
    "mean_drift": Measure(
        lambda d: np.abs(d) / 0.1, lambda d: f"running mean is {side(d)} the pooled mean", RECALIBRATE, NO_POOLED),
    "var_drift": Measure(
        lambda r: np.abs(np.log(r)) / math.log(1.25), lambda r: f"running variance is {r:.3g} times the pooled one",
        RECALIBRATE, NO_POOLED),
    "mean_gap": Measure(
        lambda g: np.abs(g) / 0.5, lambda g: f"mean of the last batch is {side(g)} the running mean",
        "inference differs from training; use larger batches, or recalibrate", NO_BATCH),
    "sd_gap": Measure(
        lambda r: np.abs(np.log(r)) / math.log(2), lambda r: f"sd of the last batch is {r:.3g} times the running sd",
        "inference differs from training; use larger batches, or recalibrate", NO_BATCH),
}


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What `BatchNorm.diagnose` returns: arrays of one value a channel, NaN where it is not known.

    Its text and its table in a notebook give a verdict in words on everything that stands out, worst channels first.
    """

    effective_n: NDArray[np.float64]
    """The number of values whose plain mean would have the variance of the running estimate."""
    initial_weight: float
    """The weight that the initial mean 0 and variance 1 still have in the running estimates."""
    condition: NDArray[np.float64]
    """|running_mean| / running sd. Its log10 is the number of digits of the data that its offset takes up."""
    mean_drift: NDArray[np.float64]
    """running_mean minus the pooled mean, in units of the pooled sd."""
    var_drift: NDArray[np.float64]
    """running_var divided by the pooled variance."""
    mean_gap: NDArray[np.float64]
    """The train/eval gap of the mean: the last batch's minus running_mean, in units of the running sd."""
    sd_gap: NDArray[np.float64]
    """The train/eval gap of the sd: the last batch's divided by the running one, both with eps."""
    batch_n: NDArray[np.float64]
    """The number of values in a batch, as the weights of the estimates tell it if it and the momentum are constant."""
    names: tuple[str, ...] | None = None
    """The names of the channels."""

    _repr_html_ = late("bnstream.core.html", "html_table")

    @property
    def excess(self) -> NDArray[np.float64]:
        """How far each measure (row) of each channel is beyond what is tolerated; from 1 on it is a finding."""
        with np.errstate(all="ignore"):
            rows = [measure.excess(getattr(self, name)) for name, measure in MEASURES.items()]
        excess = np.array([np.where(np.isnan(row), 0, row) for row in rows])
        if self.initial_weight == 1:
            excess[:] = 0       # Nothing has been estimated yet.
        return excess

    @property
    def order(self) -> NDArray[np.intp]:
        """The channels, worst first."""
        return np.argsort(-self.excess.max(axis=0), kind="stable")

    def label(self, i: int) -> str:
        """The name or the index of the i-th channel."""
        return channel_label(i, self.condition.shape, self.names)

    def verdict(self, i: int) -> str:
        """What stands out in the i-th channel, the worst first, or "nothing stands out".

        Raises
        ------
        TypeError
            If `i` is not an integer.
        IndexError
            If there is no such channel.
        """
        try:
            index = operator.index(i)
        except TypeError:
            raise TypeError(f"i must be an integer, the index of a channel, got {i!r:.60}") from None
        count = len(self.condition)
        if not -count <= index < count:
            raise IndexError(f"i must be the index of one of {counted(count)}, got {index}")
        excess = self.excess[:, index]
        names = [[*MEASURES][k] for k in np.argsort(-excess, kind="stable") if excess[k] >= 1]
        return "; ".join(MEASURES[name].words(float(getattr(self, name)[index])) for name in names) or NOTHING

    @property
    def findings(self) -> list[str]:
        """Verdicts in words: on the initial weight, then on each measure with channels beyond what is tolerated.

        The worst measure comes first, and in each measure the worst channel.
        """
        found = []
        if self.initial_weight == 1:
            found.append("initial_weight: no batch yet, and the running estimates are mean 0 and variance 1. "
                         "Train the layer, or call recalibrate")
        elif self.initial_weight >= INITIAL_LIMIT:
            found.append(f"initial_weight: the initial mean 0 and variance 1 still make up {self.initial_weight:.0%} "
                         "of the running estimates. Train on more batches, or call recalibrate")
        every = self.excess
        for k in np.argsort(-every.max(axis=1, initial=0), kind="stable"):
            worst = [int(i) for i in np.argsort(-every[k], kind="stable") if every[k, i] >= 1]
            if worst:
                found.append(self.finding([*MEASURES][k], worst))
        return found

    def finding(self, name: str, worst: list[int]) -> str:
        """The verdict in words on one measure; `worst` are its channels, worst first."""
        values, measure = getattr(self, name), MEASURES[name]
        channels = "; ".join(f"{' '.join(self.label(i).split())}: {measure.words(float(values[i]))}"
                             for i in worst[:MOST_NAMED])
        more = f"; and {len(worst) - MOST_NAMED:,} more" * (len(worst) > MOST_NAMED)
        return (f"{name} in {len(worst):,} of {counted(len(values))}: {channels}{more}. "
                f"{measure.advice[0].upper()}{measure.advice[1:]}")

    @property
    def unknown(self) -> list[str]:
        """The measures that are not known for any channel, with the reason."""
        return [f"{name} is not known: {measure.unknown}" for name, measure in MEASURES.items()
                if measure.unknown and np.isnan(getattr(self, name)).all()]

    @property
    def title(self) -> str:
        """As "Diagnosis: 3 channels, initial weight 0.531"."""
        return f"Diagnosis: {counted(len(self.condition))}, initial weight {self.initial_weight:.3g}"

    def __str__(self) -> str:
        lines = [self.title, *(f"  {finding}" for finding in self.findings or [NOTHING]),
                 *(f"  {text}" for text in self.unknown), "smallest, median and largest of the channels:"]
        for name in MEASURES:
            values = getattr(self, name)
            finite = values[np.isfinite(values)]
            cells = np.quantile(finite, [0, 0.5, 1]) if finite.size else [math.nan] * 3
            lines.append(f"  {name:<12}" + "".join(f"{value:>12.4g}" for value in cells))
            if 0 < finite.size < values.size:
                lines[-1] += f"   NaN or inf in {values.size - finite.size} of {values.size}"
        return "\n".join(lines)

    __repr__ = __str__
