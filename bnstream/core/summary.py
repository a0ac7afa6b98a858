"""What is shown of a state, decided once for its repr, its HTML, its pictures and the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.channelnorms import InstanceNorm
from bnstream.core.diagnosis import MEASURES, NOTHING, Diagnosis
from bnstream.core.labels import channel_label, counted, number_text
from bnstream.core.layer import NormLayer, setting_texts
from bnstream.core.moments import Moments
from bnstream.core.tracking import shown_of


@dataclass(frozen=True, eq=False)
class Summary:
    """What is shown of a `Moments`, a `BatchNorm` or a `Diagnosis`, at one moment."""

    title: str
    """As "Moments: 2 channels, n = 1 to 2" or "BatchNorm: 3 channels, running estimates after 0 batches"."""
    settings: str
    """As "axis=0, nan_policy='raise'"; the findings of a diagnosis, one a line."""
    shape: tuple[int, ...]
    """The shape of the channels, (0,) before the first batch."""
    names: tuple[str, ...] | None
    """The names of the channels."""
    columns: dict[str, NDArray[Any]]
    """1-d arrays of one value a channel, by the names of the attributes and methods that return them."""

    @property
    def n_channels(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def labels(self) -> list[str]:
        """The name or the index of every channel."""
        return [self.label(i) for i in range(self.n_channels)]

    def label(self, i: int) -> str:
        """The name or the index of the i-th channel."""
        return channel_label(i, self.shape, self.names)

    @property
    def same_n(self) -> bool:
        """Whether there is an n, the same for all channels."""
        n = self.columns.get("n", np.empty(0))
        return n.size > 0 and bool((n == n[0]).all())

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of every channel, that of a layer its running mean."""
        return self.columns["running_mean" if "running_mean" in self.columns else "mean"]

    @property
    def std(self) -> NDArray[np.float64]:
        """The standard deviation of every channel, that of a layer the root of its running variance."""
        if "std" in self.columns:
            return self.columns["std"]
        with np.errstate(invalid="ignore"):         # A variance that was set in place may be negative.
            return np.sqrt(self.columns["running_var"])


def summary(state: Moments | NormLayer | Diagnosis) -> Summary:
    """Summarize a copy of a state, so that another thread may go on updating it.

    Parameters
    ----------
    state : Moments, layer or Diagnosis

    Returns
    -------
    Summary

    Raises
    ------
    TypeError
        If `state` is something else.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.core.summary import summary
    >>> found = summary(bnstream.Moments(names=["x", "y"]).update(np.array([[1.0, 2.0], [3.0, 2.0]])))
    >>> found.title, found.labels, found.columns["std"].tolist()
    ('Moments: 2 channels, n = 2', ['x', 'y'], [1.0, 0.0])
    """
    if isinstance(state, Moments):
        return of_moments(state.copy())
    if isinstance(state, BatchNorm):
        return of_batchnorm(state.copy())
    if isinstance(state, NormLayer):
        return of_norm(state.copy())
    if isinstance(state, Diagnosis):
        return of_diagnosis(state)
    raise TypeError(f"expected a Moments, a layer or a Diagnosis, got {type(state).__name__}")


def statistics_of(m: Moments, ddof: float = 0) -> dict[str, NDArray[Any]]:
    """What is shown of a `Moments`, arrays of the shape of its channels by name."""
    found = {"n": m.n, "mean": m.mean, "std": m.std(ddof), "var": m.var(ddof)}
    if (m.effective_n != m.n).any():
        found["effective_n"] = m.effective_n
    return found | shown_of(m)


def of_moments(m: Moments) -> Summary:
    columns = statistics_of(m)
    shape = (0,) if m.shape is None else m.shape
    columns = {name: values.ravel() if m.shape is not None else np.empty(0) for name, values in columns.items()}
    n = columns["n"]
    title = "empty"
    if n.size:
        least, most = n.min(), n.max()
        title = f"{counted(n.size)}, n = {number_text(least)}" + f" to {number_text(most)}" * bool(least < most)
    settings = f"axis={m.axis!r}, nan_policy={m.nan_policy!r}" + ", exact=True" * m.exact
    if m.track:
        settings += f", track={list(m.track)}"
    return Summary(f"Moments: {title}", settings, shape, m.names, columns)


def of_batchnorm(bn: BatchNorm) -> Summary:
    columns = {"running_mean": bn.running_mean, "running_var": bn.running_var}
    columns |= parameters_of(bn)
    title = (f"BatchNorm: {counted(bn.num_features)}, running estimates after "
             f"{counted(bn.num_batches_tracked, 'batch', 'batches')}")
    settings = (f"{'training' if bn.training else 'inference'}, momentum={bn.momentum}, eps={bn.eps}, "
                f"running_ddof={bn.running_ddof}, dtype={bn.dtype.name}")
    if bn.result_dtype is not None:
        settings += f", result_dtype={bn.result_dtype.name}"
    return Summary(title, settings, (bn.num_features,), bn.names, columns)


def of_norm(norm: NormLayer) -> Summary:
    """Of another layer: its settings alone if it has neither parameters nor running estimates."""
    settings = [f"{name}={text}" for name, text in setting_texts(norm)]
    title = f"{type(norm).__name__}: {', '.join(settings[:norm._n_required])}"
    columns = parameters_of(norm)
    if isinstance(norm, InstanceNorm) and norm.track_running_stats:
        title += f", running estimates after {counted(norm.num_batches_tracked, 'batch', 'batches')}"
        columns = {"running_mean": norm.running_mean, "running_var": norm.running_var, **columns}
    shape = next(iter(columns.values())).shape if columns else (0,)
    columns = {name: values.ravel() for name, values in (columns or {"gamma": np.empty(0)}).items()}
    return Summary(title, ", ".join(settings[norm._n_required:]), shape, norm.names, columns)


def parameters_of(norm: NormLayer) -> dict[str, NDArray[Any]]:
    """gamma and beta, those that a layer has, as float64."""
    parameters = {"gamma": norm.gamma, "beta": norm.beta}
    return {name: values.astype(np.float64) for name, values in parameters.items() if values is not None}


def of_diagnosis(found: Diagnosis) -> Summary:
    columns = {name: getattr(found, name) for name in MEASURES}
    settings = "\n".join([*(found.findings or [NOTHING]), *found.unknown])
    return Summary(found.title, settings, found.condition.shape, found.names, columns)
