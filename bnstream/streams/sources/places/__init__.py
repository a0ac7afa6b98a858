"""Where files lie: on disk, in archives, at URLs, or open already."""
