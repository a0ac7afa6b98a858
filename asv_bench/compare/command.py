"""bnstream and its peers in one run, interleaved: medians and ratios, as Markdown tables.

    python asv_bench/compare.py [--rounds 11] [--threads 2] [--only TEXT | --write]

A peer that is not installed is left out. The README's tables and its plot come from one whole run with --write, on a
machine that does nothing else; medians that were not steady are named on stderr.
"""

import argparse
import warnings
from pathlib import Path

import batch_norm_tables
import error_tables
import mean_var_tables
import provenance
import readme
import stream_tables
from benchmarks.timing import set_pages
from measure import Run

HERE = Path(__file__).parent
README, PLOT = HERE.parent / "README.md", HERE / "compare.svg"
TABLES = {      # by the README's block
    "mean_var": mean_var_tables.throughput,
    "omit": mean_var_tables.omit,
    "updates": mean_var_tables.updates,
    "sizes": mean_var_tables.sizes,
    "batch_norm": batch_norm_tables.throughput,
    "images": batch_norm_tables.of_images,
    "small_batches": batch_norm_tables.small_batches,
    "streams": stream_tables.throughput,
    "variance_errors": error_tables.variances,
    "batch_norm_errors": error_tables.layer,
}
BLOCKS = ("run", *TABLES)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="how often each call is timed")
    parser.add_argument("--threads", type=int, default=2, help="for bnstream, the floors and the peers")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", default="", help="only rows whose name, or whose table's heading, holds this text")
    which.add_argument("--write", action="store_true",
                       help=f"put all tables into {README.name} and the plot into {PLOT.name}; not with --only, lest "
                            "figures of different runs stand side by side")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.write:
        import plot  # needs matplotlib
        readme.check(README.read_text(encoding="utf-8"), BLOCKS)
    run = Run(arguments.rounds, arguments.threads, arguments.only)
    set_pages("reused")     # for the peers' temporary arrays: without page faults, which favours them
    tables = {name: table(run) for name, table in TABLES.items()}
    if arguments.write:
        line = provenance.line(run, tables["sizes"])
        plot.save(PLOT, run, tables)
        text = README.read_text(encoding="utf-8")
        README.write_text(readme.replaced(text, {"run": line} | tables), encoding="utf-8")
        print(f"\n{line}\n\n{README.name} and {PLOT.name} are written.")


if __name__ == "__main__":
    main()
