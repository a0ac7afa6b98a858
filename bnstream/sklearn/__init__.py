"""A replacement for scikit-learn's StandardScaler: exact, fast and mergeable. It needs the extra ``sklearn``."""

from bnstream.core.optional import needing

with needing("bnstream.sklearn", '"bnstream[sklearn]"'):
    import sklearn  # type: ignore[import-untyped]  # noqa: F401

from bnstream.sklearn.scaler import StandardScaler

__all__ = ["StandardScaler"]
