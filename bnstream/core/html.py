"""Tables for notebooks: what Jupyter shows of a Moments and of a BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from bnstream.core.labels import channel_label, counted

if TYPE_CHECKING:
    from bnstream.core.batchnorm import BatchNorm
    from bnstream.core.moments import Moments

ROWS = 20       # of a table; of more channels the first and the last


def moments_html(m: Moments) -> str:
    """A Moments as an HTML table: n, mean and standard deviation of every channel.

    Parameters
    ----------
    m : Moments
        Of more than 20 channels the first and the last 10 are shown.

    Returns
    -------
    str
        HTML without scripts and colors; names of channels are escaped.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.core.html import moments_html
    >>> "<td>2.5</td>" in moments_html(bnstream.Moments().update(np.array([[2.0], [3.0]])))
    True
    """
    now = m.copy()
    settings = f"axis={now.axis!r}, nan_policy={now.nan_policy!r}"
    if now.shape is None:
        return _table(f"Moments: empty; {settings}", {}, (0,), None)
    n, columns = np.asarray(now.n), {}
    if n.ndim and n.min() < n.max():
        columns["n"] = n
    else:
        settings = f"n = {n.flat[0]:,}, {settings}"
    columns |= {"mean": now.mean, "sd": now.std()}
    return _table(f"Moments: {counted(columns['mean'].size)}; {settings}", columns, now.shape, now.names)


def batchnorm_html(bn: BatchNorm) -> str:
    """A BatchNorm as an HTML table: running estimates and parameters of every channel.

    Parameters
    ----------
    bn : BatchNorm
        Of more than 20 channels the first and the last 10 are shown.

    Returns
    -------
    str
        HTML without scripts and colors; names of channels are escaped.

    Examples
    --------
    >>> import bnstream
    >>> from bnstream.core.html import batchnorm_html
    >>> "<td>1</td>" in batchnorm_html(bnstream.BatchNorm(3))
    True
    """
    columns = {"running mean": bn.running_mean, "running sd": np.sqrt(bn.running_var)}
    if bn.affine:
        columns |= {"gamma": bn.gamma, "beta": bn.beta}
    mode = "training" if bn.training else "inference"
    caption = (f"BatchNorm: {counted(bn.num_features)}; {mode}, {bn.num_batches_tracked:,} batches, "
               f"momentum={bn.momentum}, eps={bn.eps}, running_ddof={bn.running_ddof}, dtype={bn.dtype.name}")
    return _table(caption, columns, (bn.num_features,), bn.names)


def _table(
    caption: str, columns: dict[str, np.ndarray], shape: tuple[int, ...], names: Sequence[str] | None
) -> str:
    """One row a channel; the text is the reader's own color on the page's own ground, light or dark."""
    lines = ["<table>", f'<caption style="text-align:left">{escape(caption)}</caption>']
    if columns:
        flat = [np.ravel(values) for values in columns.values()]
        count = len(flat[0])
        shown = [*range(count)] if count <= ROWS else [*range(ROWS // 2), *range(count - ROWS // 2, count)]
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("channel", *columns))
        lines.append(f'<thead><tr style="text-align:right">{head}</tr></thead>\n<tbody>')
        for before, i in zip([-1, *shown], shown, strict=False):
            if i - before > 1:
                lines.append(f'<tr><td colspan="{len(flat) + 1}" style="text-align:center">'
                             f"&#8230; {i - before - 1:,} more &#8230;</td></tr>")
            cells = "".join(f"<td>{_number(values[i])}</td>" for values in flat)
            label = escape(channel_label(i, shape, names))
            lines.append(f'<tr style="text-align:right"><th scope="row">{label}</th>{cells}</tr>')
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"])


def _number(value: np.number) -> str:
    return f"{value:,}" if isinstance(value, np.integer) else f"{float(value):.6g}"
