"""Where is a peer faster? Measure every operation on every layout and size of array, at each level of the CPU and on
each number of threads, and print the least ratio of a peer's time to that of bnstream, as Markdown.

A cell has the least of all levels and numbers of threads. Each call that a peer makes faster has a row below the table.
The arrays are float32. bnstream and ONNX Runtime write to `out`. NumPy and PyTorch make new results, on pages that
the process has used before.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks import levels

from . import grid, provenance, table
from .mean_var import SIZES
from .measure import size_name, threads

CACHED = 2**20          # bytes; what is far behind at this size or a greater one is left out of the next.
FAR = 3                 # A peer that takes this many times as long as the fastest one is far behind,
HOPELESS = 10           # and one that takes this many times as long as bnstream.
CALLS = ["call", "array", "level", "threads", "us", "fastest peer", "takes"]
LEGEND = ("The peer that comes closest, **N**umPy, **P**yTorch or **O**NNX Runtime, and how many times as long as "
          "bnstream it takes. Bold: it is faster.")


class Found(NamedTuple):
    """A call: the seconds of bnstream, and the ratios of the peers' times to them."""

    operation: str
    layout: str
    size: int
    level: str
    n_threads: int
    seconds: float
    ratios: dict

    @property
    def ratio(self):
        return min(self.ratios.values())

    @property
    def peer(self):
        return min(self.ratios, key=self.ratios.get)


def available():
    """The bytes of memory that are free for new processes, or infinity where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")


def fitting(sizes):
    """The sizes whose calls fit the memory, the least first."""
    most = available() / grid.COPIES
    for size in sorted(sizes):
        if size > most:
            print(f"{size_name(size)} is left out: there is too little memory", file=sys.stderr)
    return sorted({size for size in sizes if size <= most})


def raced(racing, found):
    """The peers that the next size is measured with, by operation and number of threads; the fastest is one of them."""
    return {key: [who for who in names if key not in found or stays(found[key], who)] for key, names in racing.items()}


def stays(found, who):
    """Whether a peer is measured again, after what was found of a call."""
    behind = found.ratios.get(who, 0)
    return who == found.peer or behind < min(FAR * found.ratio, HOPELESS)


def of_layout(processes, layout, operations, asked):
    """Yield what was found of one layout, size by size, and level by level."""
    racing = {level: {(operation, n): grid.PEERS for operation in operations for n in asked.counts}
              for level in processes}
    for size in asked.sizes:
        if grid.shape_of(layout, size) is None:
            continue
        for level, process in processes.items():
            found = {}
            medians = process.submit(grid.measured, layout, size, racing[level], asked.times).result()
            for (operation, n), seconds in medians.items():
                ours = seconds.pop("bnstream")
                ratios = {who: value / ours for who, value in seconds.items()}
                found[operation, n] = Found(operation, layout, size, level, n, ours, ratios)
            yield from found.values()
            if size >= CACHED:
                racing[level] = raced(racing[level], found)


def ratio(found):
    """The text of a cell."""
    style = "{:.2f} {}" if found.ratio < 10 else "{:.0f} {}"
    text = style.format(found.ratio, found.peer[0])
    return f"**{text}**" if found.ratio < 1 else text


def row_name(operation, layout):
    return f"{operation}, {layout}"


def cells(found):
    """The cells of a row, by the name of the size: of each size the call with the least ratio."""
    least = {}
    for one in sorted(found, key=lambda one: one.ratio, reverse=True):
        least[size_name(one.size)] = ratio(one)
    return least


def faster(found, most):
    """A table of the calls that a peer makes faster, the worst first, and a sentence that counts them."""
    behind = sorted((one for one in found if one.ratio < 1), key=lambda one: one.ratio)
    lines = [f"A peer is faster in {len(behind)} of {len(found)} calls."]
    if behind:
        lines += [f"The worst {most}:" if len(behind) > most else "These:", "", table.header(CALLS)]
        lines += [table.line([one.operation, f"{one.layout}, {size_name(one.size)}", one.level, str(one.n_threads),
                              f"{one.seconds * 1e6:.1f}", one.peer, f"{one.ratio:.2f}x"]) for one in behind[:most]]
    return "\n".join(lines)


def save(path, found):
    """All ratios, as CSV."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["operation", "layout", "bytes", "level", "threads", "bnstream seconds", *grid.PEERS])
        rows.writerows([*one[:-1], *(one.ratios.get(who, "") for who in grid.PEERS)] for one in found)


def option(size):
    """The name of a size on the command line."""
    return size_name(size).replace(" ", "")


def named(text):
    """The size of this name."""
    for size in SIZES:
        if option(size) == text:
            return size
    raise argparse.ArgumentTypeError(f"got {text}, expected one of {', '.join(map(option, SIZES))}")


def add_arguments(parser):
    names = levels.levels()
    parser.add_argument("--rounds", type=int, default=5, dest="times",
                        help="how often a call is timed, unless all peers are far behind")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], dest="counts", metavar="THREADS")
    parser.add_argument("--levels", nargs="+", default=names, choices=names)
    parser.add_argument("--sizes", nargs="+", type=named, default=SIZES, metavar="SIZE",
                        help=f"some of {', '.join(map(option, SIZES))}")
    parser.add_argument("--only", metavar="TEXT", default="", help="only rows whose name contains this text")
    parser.add_argument("--worst", type=int, default=20, help="how many of the calls to list that a peer makes faster")
    parser.add_argument("--csv", help="a file for all ratios")
    parser.add_argument("--write", action="store_true", dest="publish",
                        help="write the table to the page of benchmarks; not with --only")


def command(asked):
    """The command that measures this table."""
    chosen = {"rounds": [asked.times], "threads": asked.counts}
    if asked.levels != levels.levels():
        chosen["levels"] = asked.levels
    if asked.sizes != SIZES:
        chosen["sizes"] = map(option, asked.sizes)
    options = [f"--{name} {' '.join(map(str, values))}" for name, values in chosen.items()]
    return " ".join(["sweep", *options, "--write"])


def main(asked):
    """Measure and print; return what is published."""
    asked.sizes = fitting(asked.sizes)
    result = table.Table([asked.only], f"float32, {' or '.join(map(threads, asked.counts))}",
                         {size_name(size): "{}" for size in asked.sizes})
    wanted = {layout: [operation for operation in grid.OPERATIONS if asked.only in row_name(operation, layout)]
              for layout in grid.LAYOUTS}
    everything = []
    with levels.processes(asked.levels) as processes:
        for layout, operations in wanted.items():
            found = list(of_layout(processes, layout, operations, asked)) if operations else []
            everything += found
            for operation in operations:
                if of_row := [one for one in found if one.operation == operation]:
                    result.row(row_name(operation, layout), cells(of_row))
    if asked.csv:
        save(asked.csv, everything)
    rest = f"{LEGEND}\n\n{faster(everything, asked.worst)}"
    print(f"\n{rest}")
    return f"{provenance.line(command(asked), asked.levels, asked.counts)}\n\n{result}\n\n{rest}"
