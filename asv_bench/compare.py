"""bnstream and its peers in one run, interleaved: medians and ratios, as Markdown tables.

    python asv_bench/compare.py [--rounds 15] [--threads 2] [--only TEXT] [--pages new|reused]

A peer that is not installed is left out. Set OMP_NUM_THREADS and the like for the peers as --threads says.
"""

import argparse
import warnings

import batch_norm_tables
import mean_var_tables
from benchmarks.timing import set_pages


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each call is timed")
    parser.add_argument("--threads", type=int, default=2, help="for bnstream, the floors and the peers")
    parser.add_argument("--only", default="", help="only rows whose name, or whose table's heading, holds this text")
    parser.add_argument("--pages", choices=["new", "reused"],
                        help="where large new results go, theirs and ours: without it glibc decides, by what was freed "
                             "before, and favours the one or the other; a fair run of the fresh rows needs new, one "
                             "without page faults on any side reused")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    set_pages(arguments.pages)
    mean_var_tables.tables(arguments.rounds, arguments.threads, arguments.only)
    batch_norm_tables.tables(arguments.rounds, arguments.threads, arguments.only, arguments.pages)


if __name__ == "__main__":
    main()
