"""The README's plot of the numbers in the tables."""

import matplotlib as mpl
from matplotlib.figure import Figure

from . import peers, provenance
from .errors import IN_DOUBLE
from .mean_var import SIZES
from .measure import size_name, threads

# Okabe and Ito's colors, which color-blind readers can tell apart.
COLORS = {
    "bnstream": "#000000", "NumPy": "#E69F00", "PyTorch": "#D55E00", "oneDAL": "#0072B2", "scikit-learn": "#CC79A7",
    "gymnasium": "#56B4E9", "Bottleneck": "#999999", "Numbagg": "#009E73", "ONNX Runtime": "#F0E442",
}
BARS = [        # label, table, row; None: each row is a peer
    ("mean and variance\n(100000, 256)", "mean_var", "(100000, 256) float32"),
    ("of images\n(128, 64, 56, 56)", "mean_var", "(128, 64, 56, 56) float32"),
    ("NaN left out\n(100000, 256)", "omit", "(100000, 256) float32"),
    ("a stream, by\nbatches of (8, 17)", "updates", None),
    ("batch norm, training\n(32, 64, 56, 56)", "batch_norm", "(32, 64, 56, 56), training"),
    ("inference", "batch_norm", "(32, 64, 56, 56), inference"),
    ("backward", "batch_norm", "(32, 64, 56, 56), backward"),
]
WIDTH = {"bnstream": 2.2}
STYLE = {
    "font.size": 8.5, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#e4e4e4", "svg.hashsalt": "bnstream",
}


def whose(column):
    """The peer that a column or row belongs to, or None."""
    return next((who for who in COLORS if column.startswith(who)), None)


def ratios(table, row):
    """How many times as long as bnstream each peer takes, by the name of its column or row."""
    if row is None:
        found = {whose(name): values["of Moments.update"] for name, values in table.rows.items()}
    else:
        found = {column: table.rows[row][column] for column in table.columns if column in table.rows[row]}
    return {name: value for name, value in found.items() if name and whose(name)}


def speed(axes, tables):
    y, ticks = 0.0, {}
    for title, name, row in BARS:
        found = ratios(tables[name], row)
        ticks[title] = y + (len(found) - 1) / 2
        for text, value in found.items():
            axes.barh(y, value - 1, left=1, height=0.8, color=COLORS[whose(text)])
            axes.annotate(f"{text} {value:.1f}x", (max(value, 1), y), (3, 0), textcoords="offset points", va="center",
                          fontsize=7.5)
            y += 1
        y += 0.8
    axes.axvline(1, color="black")
    axes.set(xscale="log", xlim=(0.3, 5000), ylim=(y - 0.8, -0.8), xlabel="times as long as bnstream",
             title="Time, bnstream = 1")
    axes.set_yticks(list(ticks.values()), list(ticks))
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def label_ends(axes, ends, least):
    """Write each line's name beside its last point, no two closer than `least` of the height of the axes."""
    place = axes.transData.transform
    height = axes.get_window_extent().height
    last = float("-inf")
    for who, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        at = place((x, y))[1]
        last = max(at, last + least * height)
        axes.annotate(who, (x, y), (5, (last - at) * 72 / axes.figure.dpi), textcoords="offset points", va="center",
                      color=COLORS[whose(who)], fontsize=8, annotation_clip=False)


def errors(axes, table, dtype):
    rows = {int(name.partition(", ")[0].replace(",", "")): values for name, values in table.rows.items()
            if name.endswith(dtype)}
    axes.set(xscale="log", yscale="log", xlim=(1, 1e8), ylim=(3e-17, 3e7), xlabel="|mean| / standard deviation",
             title=f"Error of the variance, {dtype}")
    axes.set_xticks([1, 1e2, 1e4, 1e6, 1e8])
    axes.axhspan(1, 3e7, color="#f3dede", zorder=0)
    axes.text(1.3, 3e6, "no digit left", color="#a05050", fontsize=8, va="top")
    ends = {}
    for who in rows[1]:
        axes.plot(list(rows), [values[who] for values in rows.values()], color=COLORS[whose(who)], marker=".",
                  linewidth=WIDTH.get(who, 1.3), linestyle=":" if who.endswith(IN_DOUBLE) else "-", clip_on=False)
        ends[who.replace(IN_DOUBLE, ", in float64")] = max(rows), rows[max(rows)][who]
    label_ends(axes, ends, 0.055)


def curve(axes, run, table):
    """The share of the bandwidth by size. The peers are compared with the read on all threads."""
    sizes = [size for size in SIZES if size_name(size) in table.rows]
    rows = list(table.rows.values())
    share = f"of plain read, {threads(run.threads)}"
    ends = {}
    for who in ("bnstream", *(who for who in table.columns if who in peers.WHERE)):
        y = [100 * values[share] / (1 if who == "bnstream" else values[who]) for values in rows]
        axes.plot(sizes, y, color=COLORS[who], marker=".", linewidth=WIDTH.get(who, 1.3))
        ends[who] = sizes[-1], y[-1]
    if run.counts != [run.threads]:
        one = [100 * values[f"of plain read, {threads(1)}"] for values in rows]
        axes.plot(sizes, one, color=COLORS["bnstream"], linestyle=":", marker=".", linewidth=1.3)
    axes.set(xscale="log", xlim=(sizes[0], sizes[-1]), ylim=(0, 115), xlabel="bytes of (n, 64) float32",
             title=f"Bandwidth, in % of a plain read ({threads(run.threads)}; dotted: 1)")
    axes.set_xticks(sizes[::2], [size_name(size) for size in sizes[::2]])
    for name, size in provenance.caches().items():
        axes.axvline(size, color="#888888", linewidth=1, linestyle="--")
        axes.annotate(name, (size, 115), (3, 0), textcoords="offset points", va="top", color="#666666")
    label_ends(axes, ends, 0.055)


def save(path, run, tables):
    """Draw the plot to a file, in the format of its ending."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 7.4), layout="constrained", facecolor="white")
        grid = figure.add_gridspec(2, 3, width_ratios=(1.25, 1, 1))
        speed(figure.add_subplot(grid[:, 0]), tables)
        errors(figure.add_subplot(grid[0, 1]), tables["variance_errors"], "float32")
        errors(figure.add_subplot(grid[0, 2]), tables["variance_errors"], "float64")
        curve(figure.add_subplot(grid[1, 1:]), run, tables["sizes"])
        for axes in figure.axes:
            axes.minorticks_off()
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
