"""scikit-learn's StandardScaler, exact, fast and mergeable. It needs the extra ``sklearn``."""

from bnstream.sklearn.scaler import StandardScaler

__all__ = ["StandardScaler"]
