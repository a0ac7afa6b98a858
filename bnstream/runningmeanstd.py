"""gymnasium's `RunningMeanStd`, exact and without a made-up first sample. It needs NumPy alone."""

from bnstream.core.runningmeanstd import RunningMeanStd

__all__ = ["RunningMeanStd"]
