"""A replacement for gymnasium's `RunningMeanStd`: exact, and without a made-up first sample. It needs only NumPy."""

from bnstream.core.runningmeanstd import RunningMeanStd

__all__ = ["RunningMeanStd"]
