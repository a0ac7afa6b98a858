"""Arrays: in memory, in files, and read by slices."""
