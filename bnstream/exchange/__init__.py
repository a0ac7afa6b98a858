"""States as the arrays of other tools, under the names that each tool uses."""

from bnstream.exchange.conventions import from_arrays, to_arrays

__all__ = ["from_arrays", "to_arrays"]
