"""Side-by-side tables of bnstream and its peers: `python asv_bench/compare`.

All calls of a table take turns in one run, so that each figure is a ratio to others of the same minutes. What the
calls do is written once, in `benchmarks`; here are the tables, the plot, and the pages that they are written to.
"""
