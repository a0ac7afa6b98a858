"""``bnstream merge``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bnstream.cli.options import Force, Out
from bnstream.cli.states import load_moments
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.moments import Moments

POLICIES = ("raise", "omit", "propagate")       # from the strictest one
MISSING = ("raise", "omit", "keep")


def merge(
    paths: Annotated[list[Path], typer.Argument(metavar="STATS...", help="State files with the same channels.")],
    out: Out,
    force: Force = False,
) -> None:
    """Merge the statistics of several workers or of several parts of the data, as exactly as one pass over all of it.

    Statistics by group are merged group by group. Exact statistics, as fit --exact writes them, give the same file in
    any order, and merge with exact ones alone.

    Example: bnstream merge part-*.npz -o stats.npz
    """
    from bnstream.statefiles import write
    from bnstream.statefiles.overwriting import require_replaceable

    require_once(paths)
    parts, lacks = load_moments(paths, "merged", (Moments, GroupedMoments))
    for path, m in zip(paths, parts, strict=True):
        if m.exact != parts[0].exact:
            kinds = ("plain", "exact")
            raise ValueError(f"{path} holds {kinds[m.exact]} statistics, but {paths[0]} holds {kinds[parts[0].exact]} "
                             "ones; fit all parts with --exact, or none")
    total = nothing_like(parts)
    for path, m in zip(paths, parts, strict=True):
        try:
            total.merge(m)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}: {error}") from error
    require_replaceable(out, force=force)
    write(out, total, lacks=lacks)


def require_once(paths: Sequence[Path]) -> None:
    """Raise ValueError if a file is named twice, also by a link."""
    from bnstream.streams.sources.places.distinct import identity_of
    from bnstream.streams.sources.places.file import File

    seen: dict[Any, Path] = {}
    for path in paths:
        if (other := seen.setdefault(identity_of(File(path)), path)) is not path:
            what = f"{path} is named twice, and" if path == other else f"{other} and {path} are one file, which"
            raise ValueError(f"{what} would be counted twice; name each file once")


def nothing_like(parts: Sequence[Any]) -> Any:
    """Empty statistics that all parts can be merged into, the same for any order of the parts.

    They have the least strict policy of the parts, and the most batch axes.
    """
    def rank(axis: Any) -> tuple[int, str]:
        return np.size(axis), repr(axis)

    axis: Any = max((m.axis for m in parts), key=rank)
    policy: Any = max((m.nan_policy for m in parts), key=POLICIES.index)
    if isinstance(parts[0], GroupedMoments):
        missing: Any = max((m.missing_keys for m in parts), key=MISSING.index)
        return GroupedMoments(axis, nan_policy=policy, missing_keys=missing, exact=parts[0].exact)
    return Moments(axis, nan_policy=policy, exact=parts[0].exact)
