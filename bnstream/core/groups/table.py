"""The statistics of all groups as a table: a row for each group."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bnstream.core.html import MOST_ROWS, html_text, remark
from bnstream.core.labels import channel_label, number_text
from bnstream.core.optional import needing
from bnstream.core.summary import statistics_of

if TYPE_CHECKING:
    from bnstream.core.groups.grouped import GroupedMoments

MOST_COLUMNS = 16           # of statistics in HTML


def key_names_of(g: GroupedMoments) -> tuple[str, ...]:
    """The names of the columns of keys: given, or "key", or "key_0" and so on."""
    n = len(g.kinds or ("",))
    if g.key_names is not None:
        return g.key_names
    return ("key",) if n == 1 else tuple(f"key_{i}" for i in range(n))


def key_columns(g: GroupedMoments, others: Collection[str] = ()) -> dict[str, list[Any]]:
    """The keys, as columns by their names; those of a column "n" by "key_n" if there is another one among others."""
    keys, names = list(g), []
    for name in key_names_of(g):
        while name in others or name in names:
            name = f"key_{name}"
        names.append(name)
    if keys and isinstance(keys[0], tuple):
        return {name: [key[i] for key in keys] for i, name in enumerate(names)}
    return {names[0]: keys}


def key_text(key: Any) -> str:
    """A key in a table that is read: nothing where it is missing, and no commas in integers, which may be years."""
    return "" if key is None else str(key)


def columns_of(g: GroupedMoments, ddof: float = 0) -> dict[str, NDArray[Any]]:
    """Arrays of one value a group, by the names of their columns: "x_mean" of the channel x; "mean" of the only one."""
    if g.shape is None:
        return {}
    count, found = math.prod(g.shape), statistics_of(g._statistics(), ddof)
    single = count == 1 and g.names is None
    return {name if single else f"{channel_label(i, g.shape, g.names)}_{name}": values.reshape(len(g), count)[:, i]
            for i in range(count) for name, values in found.items()}


def to_arrow(g: GroupedMoments, ddof: float = 0) -> Any:
    """Return a table of pyarrow with a row for each group.

    Parameters
    ----------
    g : GroupedMoments
    ddof : float, default 0
        Of the variances and standard deviations.

    Returns
    -------
    pyarrow.Table
        The keys, and of each channel n, mean, std, var and what else is tracked: columns such as ``delay_mean`` of the
        channel "delay", and ``0_mean`` of one without a name.

    Raises
    ------
    ModuleNotFoundError
        If pyarrow is not installed.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> g = bnstream.GroupedMoments(names=["delay"]).update(np.array([[1.0], [3.0]]), {"carrier": ["AA", "AA"]})
    >>> g.to_arrow().to_pylist()
    [{'carrier': 'AA', 'delay_n': 2, 'delay_mean': 2.0, 'delay_std': 1.0, 'delay_var': 1.0}]
    """
    with needing("to_arrow", "pyarrow"):
        import pyarrow as pa  # type: ignore[import-untyped]
    columns: dict[str, Any] = {}
    statistics = columns_of(g, ddof)
    for name, values in key_columns(g, statistics).items():
        beyond = any(type(value) is int and value >= 2**63 for value in values)
        columns[name] = pa.array(values, pa.uint64() if beyond else None)
    return pa.table(columns | statistics)


def to_pandas(g: GroupedMoments, ddof: float = 0) -> Any:
    """Return a data frame of pandas with a row for each group.

    Parameters
    ----------
    g : GroupedMoments
    ddof : float, default 0
        Of the variances and standard deviations.

    Returns
    -------
    pandas.DataFrame
        With the keys as its index, a MultiIndex of several columns of keys. Its columns are n, mean, std, var
        and what else is tracked of each channel, such as ``delay_mean`` of the channel "delay".

    Raises
    ------
    ModuleNotFoundError
        If pandas is not installed.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> g = bnstream.GroupedMoments(names=["delay"]).update(np.array([[1.0], [3.0]]), {"carrier": ["AA", "AA"]})
    >>> g.to_pandas().loc["AA", "delay_mean"].item()
    2.0
    """
    with needing("to_pandas", "pandas"):
        import pandas as pd  # type: ignore[import-untyped]
    keys = key_columns(g)
    if len(keys) == 1:
        (name, values), = keys.items()
        index = pd.Index(values, name=name, dtype=nullable_dtype(g))
    else:
        index = pd.MultiIndex.from_arrays(list(keys.values()), names=list(keys))
    return pd.DataFrame(columns_of(g, ddof), index=index)


def nullable_dtype(g: GroupedMoments) -> str | None:
    """The dtype of pandas for integers of which one is missing, which it would make floats of."""
    if g.kinds != ("int",) or None not in g:
        return None
    return "UInt64" if max(key for key in g if key is not None) >= 2**63 else "Int64"


def html_table(g: GroupedMoments) -> str:
    """The groups as an HTML table, the first 10 and the last 10 of more than 20; and the first 16 columns."""
    caption = html_text(repr(g).partition("\n")[0])
    lines = ["<table>", f'<caption style="text-align:left">{caption}</caption>']
    if g.shape is not None:
        statistics = dict(list(columns_of(g).items())[:MOST_COLUMNS])
        keys = key_columns(g, statistics)
        head = "".join(f'<th scope="col">{html_text(name)}</th>' for name in [*keys, *statistics])
        lines.append(f'<thead><tr style="text-align:right">{head}</tr></thead>\n<tbody>')
        count, half = len(g), MOST_ROWS // 2
        for i in range(count) if count <= MOST_ROWS else [*range(half), *range(count - half, count)]:
            texts = [*(key_text(values[i]) for values in keys.values()),
                     *(number_text(values[i]) for values in statistics.values())]
            row = "".join(f"<td>{html_text(text)}</td>" for text in texts)
            lines.append(f'<tr style="text-align:right">{row}</tr>')
        if count > MOST_ROWS:
            lines.insert(3 + half, remark(f"{count - MOST_ROWS:,} more", len(keys) + len(statistics)))
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"])
