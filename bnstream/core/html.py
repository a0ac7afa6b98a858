"""Tables for notebooks: what Jupyter shows of a Moments, a layer and a Diagnosis."""

from __future__ import annotations

from html import escape
from typing import Any

from numpy.typing import NDArray

from bnstream.core.diagnosis import Diagnosis
from bnstream.core.labels import number_text
from bnstream.core.layer import NormLayer
from bnstream.core.moments import Moments
from bnstream.core.summary import Summary, summary

MOST_ROWS = 20      # rows of a table, one a channel


def html_table(state: Moments | NormLayer | Diagnosis) -> str:
    """A state as an HTML table of its statistics, or of its running estimates and parameters.

    Parameters
    ----------
    state : Moments, layer or Diagnosis

    Returns
    -------
    str
        HTML without scripts and colors. Names of channels are escaped. A table of more than 20 channels has the first
        10 and the last 10. That of a `Diagnosis` has the worst 20, the worst first, and a column for the verdicts.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.core.html import html_table
    >>> "<td>2.5</td>" in html_table(bnstream.Moments().update(np.array([[2.0], [3.0]])))
    True
    """
    now = summary(state)
    caption = html_text(f"{now.title}; {now.settings}").replace("\n", "<br>")
    lines = ["<table>", f'<caption style="text-align:left">{caption}</caption>']
    if now.n_channels:
        lines += worst_first(now, state) if isinstance(state, Diagnosis) else first_and_last(now)
    return "\n".join([*lines, "</table>"])


def html_text(text: str) -> str:
    """Escaped text, in ASCII."""
    return escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


def first_and_last(now: Summary) -> list[str]:
    """The head and the body of the table of a state."""
    columns = {name: values for name, values in now.columns.items() if name != "n" or not now.same_n}
    count, half = now.n_channels, MOST_ROWS // 2
    rows = [*range(count)] if count <= MOST_ROWS else [*range(half), *range(count - half, count)]
    lines = [row(now, i, columns) for i in rows]
    if count > MOST_ROWS:
        lines.insert(half, remark(f"{count - MOST_ROWS:,} more", len(columns) + 1))
    return [head([*columns]), *lines, "</tbody>"]


def worst_first(now: Summary, found: Diagnosis) -> list[str]:
    """The head and the body of the table of a diagnosis."""
    order = found.order.tolist()
    lines = [row(now, i, now.columns, f'<td style="text-align:left">{html_text(found.verdict(i))}</td>')
             for i in order[:MOST_ROWS]]
    if rest := order[MOST_ROWS:]:
        bad = sum(found.excess[:, rest].max(axis=0) >= 1)
        lines.append(remark(f"{len(rest):,} more, {bad:,} of them with findings", len(now.columns) + 2))
    return [head([*now.columns, "verdict"]), *lines, "</tbody>"]


# The lines set no colors, so that a light and a dark page both show them in their own.
def head(titles: list[str]) -> str:
    cells = "".join(f'<th scope="col">{html_text(title)}</th>' for title in ("channel", *titles))
    return f'<thead><tr style="text-align:right">{cells}</tr></thead>\n<tbody>'


def row(now: Summary, i: int, columns: dict[str, NDArray[Any]], last: str = "") -> str:
    """The row of a channel; `last` is a further cell."""
    cells = "".join(f"<td>{number_text(values[i])}</td>" for values in columns.values())
    return f'<tr style="text-align:right"><th scope="row">{html_text(now.label(i))}</th>{cells}{last}</tr>'


def remark(text: str, width: int) -> str:
    """A row for the channels that the table leaves out."""
    return f'<tr><td colspan="{width}" style="text-align:center">&#8230; {text} &#8230;</td></tr>'
