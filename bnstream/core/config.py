"""The version of the package and how it runs on this machine."""

import functools
import re
import sys
from typing import Literal, overload

import numpy as np

from bnstream import _kernels
from bnstream._kernels import _runtime


@functools.cache
def version() -> str:
    """The version of bnstream that is installed."""
    from importlib import metadata  # takes as long to import as all of bnstream

    return metadata.version("bnstream")


def packages() -> str:
    """The optional packages that are installed, with their versions."""
    from importlib import metadata

    found, names = {}, {"torch"}
    for requirement in metadata.requires("bnstream") or ():
        extra = re.search(r"extra == ['\"](\w+)", requirement)
        if extra is not None and extra[1] not in ("test", "lint", "bench", "docs", "peers"):
            names.add(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
    for name in names - {"bnstream"}:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(f"{name} {found[name]}" for name in sorted(found))


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, str | int]: ...
def show_config(mode: str = "stdout") -> dict[str, str | int] | None:
    """Show what a bug report needs: versions, the level of the kernels, the compiler, OpenMP and the threads.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Whether to print the configuration or to return it as a dict.

    Returns
    -------
    dict or None
        With ``mode="dicts"`` a dict with the keys

        - bnstream, numpy: their versions;
        - level: the instruction set of the kernels in use, "baseline" or a psABI name such as "x86-64-v3";
        - cpu_levels: the levels that this CPU supports;
        - built_levels: those that this build includes;
        - compiler: the compiler that built the kernels;
        - openmp: the date of the OpenMP specification, as "201511", or "off" and why;
        - threads: the default number of threads;
        - python, system: the version of Python, and the operating system and the machine;
        - packages: the optional packages that are installed, with their versions.

    Raises
    ------
    ValueError
        If `mode` is neither.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.show_config(mode="dicts")["level"] in ("baseline", "x86-64-v3", "x86-64-v4")
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', got {mode!r}")
    import platform

    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    config: dict[str, str | int] = {
        "bnstream": version(),
        "numpy": np.__version__,
        "level": _kernels.level,
        "cpu_levels": ", ".join(_runtime.cpu_levels()),
        "built_levels": ", ".join(_kernels.built_levels()),
        "compiler": _runtime.compiler,
        "openmp": str(_runtime.openmp) if _runtime.openmp else f"off: {_runtime.without_openmp}",
        "threads": _runtime.get_num_threads(),
        "python": platform.python_version() + (", no GIL" if not gil else ""),
        "system": platform.platform(),
        "packages": packages(),
    }
    if mode == "dicts":
        return config
    for name, value in config.items():
        print(f"{name:<12}  {value}")
    return None
