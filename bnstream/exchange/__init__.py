"""States in the conventions of other tools: plain arrays by their names, and the layers of each framework."""

from bnstream.exchange.conventions import from_arrays, to_arrays

__all__ = ["from_arrays", "to_arrays"]
