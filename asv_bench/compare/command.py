"""Measure bnstream, its floors and its installed peers in one run, in turns; print medians and ratios as Markdown.

    python asv_bench/compare [--rounds 11] [--threads 2] [--only TEXT | --summary] [--write]
    python asv_bench/compare sweep [--rounds 5] [--threads 1 2] [--levels ...] [--sizes ...] [--only TEXT] [--write]

A peer that is not installed is left out. --write takes all tables, or the summary alone, and needs a machine that does
nothing else; medians that were not steady are named on stderr. `sweep` takes every operation on every layout and size,
and shows where a peer is faster; it writes its own table.
"""

import argparse
import dataclasses
import sys
import warnings
from pathlib import Path

from benchmarks import levels
from benchmarks.timing import set_pages

from . import batch_norm, cache, errors, exact, mean_var, norms, provenance, streams, summary, sweep, writing
from .measure import Run

ROOT = Path(__file__).parents[2]
README, DOCS, PLOT = ROOT / "README.md", ROOT / "docs/benchmarks.md", ROOT / "docs/compare.svg"
TABLES = {      # by the name of their block
    "mean_var": mean_var.throughput,
    "omit": mean_var.omit,
    "updates": mean_var.updates,
    "sizes": mean_var.sizes,
    "batch_norm": batch_norm.throughput,
    "images": batch_norm.of_images,
    "cache": cache.throughput,
    "small_batches": batch_norm.small_batches,
    "norms": norms.throughput,
    "exact": exact.throughput,
    "streams": streams.throughput,
    "variance_errors": errors.variances,
    "batch_norm_errors": errors.layer,
}
PAGES = {README: ("summary",), DOCS: ("run", *TABLES, "sweep")}


def parser():
    result = argparse.ArgumentParser(prog="python asv_bench/compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=11, help="how often each call is timed")
    result.add_argument("--threads", type=int, default=2, dest="n_threads", metavar="THREADS",
                        help="of bnstream, the floors and the peers")
    which = result.add_mutually_exclusive_group()
    which.add_argument("--only", metavar="TEXT", default="", dest="text",
                       help="only rows whose name, or whose table's heading, contains this text")
    which.add_argument("--summary", action="store_true", help=f"only the table of {README.name}")
    result.add_argument("--write", action="store_true",
                        help=f"write the tables to {README.name} and docs/{DOCS.name}, and docs/{PLOT.name}; with "
                             "--summary, its table alone; not with --only, so that no page mixes figures of different "
                             "runs")
    sweep.add_arguments(result.add_subparsers(dest="command", metavar="sweep").add_parser(
        "sweep", description=sweep.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        help="where a peer comes closest, or is faster"))
    return result


def main():
    asked = parser()
    arguments = asked.parse_args()
    if arguments.write and arguments.text:
        asked.error("argument --write: not allowed with argument --only")
    if arguments.command == "sweep":
        given = {"--rounds": "rounds", "--threads": "n_threads", "--only": "text", "--summary": "summary",
                 "--write": "write"}
        before = [name for name, attribute in given.items()
                  if getattr(arguments, attribute) != asked.get_default(attribute)]
        if before:
            asked.error(f"sweep does not use {', '.join(before)} before it; its own options follow it")
        if arguments.publish and arguments.only:
            asked.error("argument --write: not allowed with argument --only")
    warnings.simplefilter("ignore")
    if arguments.command == "sweep":
        search(arguments)
    else:
        compare(arguments)


def search(arguments):
    """Measure and print the sweep, and write it where this is asked for."""
    names = PAGES[DOCS]
    if arguments.publish:
        check({DOCS: names})
    text = sweep.main(arguments)
    if arguments.publish:
        writing.write(DOCS, names, {"sweep": text})


def compare(arguments):
    """Measure and print the tables, and write them where this is asked for."""
    run = Run(arguments.rounds, arguments.n_threads, (arguments.text,))
    if arguments.text:
        measured(run, dict.fromkeys(TABLES, run.only))
        return
    pages = {README: PAGES[README]} if arguments.summary else PAGES
    if arguments.write:
        check(pages, DOCS in pages)
    level = levels.level()      # It fails where bnstream is not installed, so it is called first.
    tables = measured(run, summary.needed() if arguments.summary else dict.fromkeys(TABLES, run.only))
    command = f"--rounds {run.rounds} --threads {run.threads}{' --summary' * arguments.summary}"
    line = provenance.line(command + " --write" * arguments.write, [level], run.counts)
    blocks = {**tables, "summary": f"{summary.text(tables)}\n\n{line}"}
    print(f"\n{blocks['summary']}")
    if arguments.write:
        if DOCS in pages:
            blocks["run"] = f"{line} {provenance.bandwidth(run, tables['sizes'])}"
            from . import plot

            plot.save(PLOT, run, tables)
        for page, names in pages.items():
            writing.write(page, names, blocks)


def check(pages, with_plot=False):
    """Exit unless the pages have their markers and the plot can be drawn, before anything is measured."""
    try:
        if with_plot:
            import matplotlib  # noqa: F401
        for page, names in pages.items():
            writing.check(page, names)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"nothing was measured: {error}")


def measured(run, only):
    """The tables of these names, each with the rows that contain one of its texts, printed as they are measured."""
    set_pages("reused")     # Temporary arrays of the peers then cause no page faults, which favors the peers.
    return {name: TABLES[name](dataclasses.replace(run, only=tuple(texts))) for name, texts in only.items()}
