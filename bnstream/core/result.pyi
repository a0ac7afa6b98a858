"""Nothing for Python; see `result.pxd`."""
