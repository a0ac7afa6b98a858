"""The compiled loops, built once for each level of CPU, and the choice of the level to use.

    _runtime        the level of this CPU, and threads      built at baseline
    _baseline       \\
    _x86_64_v3       > variant.pxi, compiled three times     each offers its functions in a capsule
    _x86_64_v4      /

The level is chosen here, once, at import, and nowhere else. ``BNSTREAM_ISA`` forces one.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

try:
    from bnstream._kernels import _runtime
except ImportError:
    if importlib.util.find_spec(f"{__name__}._runtime") is not None:
        raise                   # It is there, but does not load: its own error says why.
    raise ImportError(
        f"Python is importing bnstream from the source folder {Path(__file__).parents[2]}, which has not been compiled "
        f"for Python {sys.version_info.major}.{sys.version_info.minor}. An installed bnstream is hidden by it. Start "
        "Python in another folder, or build in place: run `pip install -e .` in the source folder"
    ) from None

LEVELS = {"x86-64-v4": "_x86_64_v4", "x86-64-v3": "_x86_64_v3", "baseline": "_baseline"}


def built_levels():
    """Return the levels that this build includes, highest first."""
    return [name for name in LEVELS if importlib.util.find_spec(f"{__name__}.{LEVELS[name]}")]


def _choose(forced):
    """Return the level to use: `forced` if given, else the highest that this CPU supports and this build includes."""
    cpu, built = _runtime.cpu_levels(), built_levels()
    usable = [name for name in built if name in cpu]
    if not forced:
        return usable[0]
    if forced not in LEVELS:
        raise ValueError(f"BNSTREAM_ISA is {forced!r}; expected one of {', '.join(LEVELS)}, or unset to choose by CPU")
    if forced not in usable:
        why = "this build does not include it" if forced not in built else "this CPU does not support it"
        raise ImportError(f"BNSTREAM_ISA is {forced!r}, but {why}; usable here: {', '.join(usable)}")
    return forced


level = _choose(os.environ.get("BNSTREAM_ISA"))
capsule = importlib.import_module(f"{__name__}.{LEVELS[level]}").capsule
