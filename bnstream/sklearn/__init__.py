"""A replacement for scikit-learn's StandardScaler: exact, fast and mergeable. It needs the extra ``sklearn``."""

try:
    import sklearn  # type: ignore[import-untyped]  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'bnstream.sklearn needs scikit-learn, which is not installed; install it with: pip install "bnstream[sklearn]"',
        name=error.name,
    ) from error

from bnstream.sklearn.scaler import StandardScaler

__all__ = ["StandardScaler"]
