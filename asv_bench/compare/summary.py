"""The README's table: six rows, taken from the other tables of the same run."""

from . import table

PEERS = ("NumPy", "PyTorch", "oneDAL", "scikit-learn", "gymnasium")
COLUMNS = ("NumPy", "PyTorch")      # The others share the last column.
CAPTION = ("A peer's figure says how many times as long as bnstream it takes or, in the last row, how many times as "
           "large its error is.")


def of_time(rows, row, suffix=""):
    """bnstream's figure, and the peers' ratios to it by name."""
    values = rows[row]
    return f"{values[f'ms{suffix}']:.2f} ms", {who: values[who + suffix] for who in PEERS if who + suffix in values}


def of_new_result(rows, row):
    """The same for calls that make a new result; without page faults on either side."""
    return of_time(rows, row, ", reused pages")


def of_update(rows, row):
    """The same for the table of updates, where each peer is a row."""
    peers = {name.partition(" ")[0]: values["of Moments.update"] for name, values in rows.items()}
    return f"{rows[row]['us']:.2f} us", {who: peers[who] for who in PEERS if who in peers}


def of_error(rows, row):
    """The same for the peers that return the variance in the dtype of the data."""
    values = rows[row]
    return f"{values['bnstream']:.1e}", {who: values[who] / values["bnstream"] for who in COLUMNS if who in values}


ROWS = [        # title, table, row, what is taken from it
    ("mean and variance of (100000, 256) float32", "mean_var", "(100000, 256) float32", of_time),
    ("of images, (128, 64, 56, 56) float32", "mean_var", "(128, 64, 56, 56) float32", of_time),
    ("batch norm in training, (32, 64, 56, 56) float32", "batch_norm", "(32, 64, 56, 56), training", of_new_result),
    ("batch norm in inference, (32, 64, 56, 56) float32", "batch_norm", "(32, 64, 56, 56), inference", of_new_result),
    ("update of a stream by (8, 17) float64", "updates", "Moments.update", of_update),
    ("relative error of the variance, mean / sd 100,000, float32", "variance_errors", "100,000, float32", of_error),
]


def needed():
    """The texts that select the rows needed, by table."""
    found = {}
    for _, name, row, _ in ROWS:
        found.setdefault(name, []).append("" if name == "updates" else row)
    return found


def ratio(value):
    return f"{value:.1f}x" if value < 100 else f"{value:,.0f}x" if value < 1e5 else f"{value:.0e}x"


def text(tables):
    """The table and what its figures mean, as Markdown."""
    lines = [table.header(["", "bnstream", *COLUMNS, "others"])]
    for title, name, row, found in ROWS:
        ours, peers = found(tables[name].rows, row)
        peers = {who: ratio(value) for who, value in peers.items()}
        own = [peers.pop(who, "") for who in COLUMNS]
        lines.append(table.line([title, ours, *own, ", ".join(f"{who} {value}" for who, value in peers.items())]))
    return "\n".join([*lines, "", CAPTION])
