"""Sketches: what a pass keeps of data where exact answers would need all of it. They need the extra ``quantiles``.

    kll.py          bytes of the sketches of one channel, checked before the library reads them
    quantiles.py    `Quantiles`: one sketch for each channel
    batches.py      batches with any batch axes and masks, as the rows that it takes
    tracked.py      the quantiles that a `Moments` tracks
"""

from bnstream.sketches.quantiles import Quantiles

__all__ = ["Quantiles"]
