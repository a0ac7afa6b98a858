"""Nothing for Python; see `_result.pxd`."""
