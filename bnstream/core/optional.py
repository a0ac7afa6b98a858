"""Packages that are optional: what is said where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

DISTRIBUTIONS = {"PIL": "Pillow", "sklearn": "scikit-learn"}       # whose names are not those of their modules


@contextmanager
def needing(user: str, requirement: str, package: str | None = None, hint: str = "") -> Iterator[None]:
    """Say what to install if an import in this context fails for want of a package.

    Parameters
    ----------
    user : str
        What needs the package: the subject of the message.
    requirement : str
        What pip should install, as ``'"bnstream[dask]"'``.
    package : str, optional
        The only package that `requirement` installs; for any other, Python's own error passes.
    hint : str
        The end of the message.

    Raises
    ------
    ModuleNotFoundError
        If the package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if package not in (None, missing):
            raise
        name = DISTRIBUTIONS.get(missing, missing)
        raise ModuleNotFoundError(f"{user} needs {name}, which is not installed; install it with: pip install "
                                  f"{requirement}{hint}", name=missing) from error
