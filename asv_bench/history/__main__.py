"""The command `python asv_bench/history`."""

import sys
from pathlib import Path

if not __package__:     # Python then has this folder on its path instead of the one that holds the package.
    sys.path[0] = str(Path(__file__).parents[1])

from history.command import main

if __name__ == "__main__":
    main()
