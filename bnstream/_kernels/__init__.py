"""The compiled loops, once for each level of CPU, and the choice of one of them.

    _runtime        the level of this CPU, threads          built at baseline
    _baseline       \\
    _x86_64_v3       > variant.pxi, compiled three times     each hands out its table of functions in a capsule
    _x86_64_v4      /

The choice is made here, once, at import, and nowhere else. ``BNSTREAM_ISA`` forces it.
"""

import importlib
import importlib.util
import os

from bnstream._kernels import _runtime

LEVELS = {"x86-64-v4": "_x86_64_v4", "x86-64-v3": "_x86_64_v3", "baseline": "_baseline"}


def _choose(forced):
    """The level to use: the highest that this CPU has and this build holds, or the one forced."""
    cpu = _runtime.cpu_levels()
    built = [name for name in LEVELS if importlib.util.find_spec(f"{__name__}.{LEVELS[name]}")]
    usable = [name for name in built if name in cpu]
    if not forced:
        return usable[0]
    if forced not in LEVELS:
        raise ValueError(f"BNSTREAM_ISA is {forced!r}; expected one of {', '.join(LEVELS)}, or unset to choose by CPU")
    if forced not in usable:
        why = "this build does not hold it" if forced not in built else "this CPU does not have it"
        raise ImportError(f"BNSTREAM_ISA is {forced!r}, but {why}; usable here: {', '.join(usable)}")
    return forced


level = _choose(os.environ.get("BNSTREAM_ISA"))
capsule = importlib.import_module(f"{__name__}.{LEVELS[level]}").capsule
