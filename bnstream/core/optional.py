"""Packages that are optional: those that are missing, and those whose data is given."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

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


def home_of(x: Any, packages: Iterable[str]) -> tuple[str, Any] | None:
    """The name and the module of the first of some packages that has the class of an object, or a base of it.

    A package in `sys.modules` may be one that another thread is importing, without its classes. One whose data exists
    is complete.
    """
    homes = {str(cls.__module__).partition(".")[0] for cls in type(x).__mro__}
    return next(((package, sys.modules[package]) for package in packages if package in homes), None)
