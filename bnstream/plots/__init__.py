"""Pictures of statistics: per channel, over time, and as histograms. They need the extra ``plot``.

Each function returns a matplotlib Figure that belongs to no window and no backend: ``figure.savefig("a.png")`` writes
it, and a notebook shows it. NaN, inf and values from 1e300 on are left out. A title says how many and in which
channels.
"""

from bnstream.plots.channels import plot_moments
from bnstream.plots.histograms import plot_histograms
from bnstream.plots.running import History, plot_running

__all__ = ["History", "plot_histograms", "plot_moments", "plot_running"]
