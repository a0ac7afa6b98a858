"""Tables for notebooks: what Jupyter shows of a Moments and of a BatchNorm."""

from __future__ import annotations

from html import escape

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.labels import number_text
from bnstream.core.moments import Moments
from bnstream.core.summary import Summary, summary

MOST_ROWS = 20      # rows of a table, one a channel


def html_table(state: Moments | BatchNorm) -> str:
    """A state as an HTML table of its statistics, or of its running estimates and parameters.

    Parameters
    ----------
    state : Moments or BatchNorm
        Of more than 20 channels, the table has the first 10 and the last 10.

    Returns
    -------
    str
        HTML without scripts and colors. Names of channels are escaped.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.core.html import html_table
    >>> "<td>2.5</td>" in html_table(bnstream.Moments().update(np.array([[2.0], [3.0]])))
    True
    """
    now = summary(state)
    lines = ["<table>", f'<caption style="text-align:left">{escape(f"{now.title}; {now.settings}")}</caption>']
    if now.n_channels:
        lines += head_and_body(now)
    return "\n".join([*lines, "</table>"])


def head_and_body(now: Summary) -> list[str]:
    """The lines of the table. They set no colors, so that a light and a dark page both show them in their own."""
    columns = {name: values for name, values in now.columns.items() if name != "n" or not now.same_n}
    count, half = now.n_channels, MOST_ROWS // 2
    rows = [*range(count)] if count <= MOST_ROWS else [*range(half), *range(count - half, count)]
    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("channel", *columns))
    lines = [f'<thead><tr style="text-align:right">{titles}</tr></thead>\n<tbody>']
    for before, i in zip([-1, *rows], rows, strict=False):
        if i - before > 1:
            lines.append(f'<tr><td colspan="{len(columns) + 1}" style="text-align:center">'
                         f"&#8230; {i - before - 1:,} more &#8230;</td></tr>")
        cells = "".join(f"<td>{number_text(values[i])}</td>" for values in columns.values())
        lines.append(f'<tr style="text-align:right"><th scope="row">{escape(now.label(i))}</th>{cells}</tr>')
    return [*lines, "</tbody>"]
