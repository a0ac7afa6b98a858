"""The calls of 32 threads, as in threads.py, in a build with ThreadSanitizer, which ends the process at a data race.

The build takes some minutes, so that the checks of a change leave it out.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import builds
import numpy as np
from harness import main

LEVEL = "baseline"
FLAGS = "-fsanitize=thread -O1 -g0"
# The C library reuses what is local to threads, with locks that ThreadSanitizer does not see.
SUPPRESSED = "race:_dl_deallocate_tls\nrace:_dl_allocate_tls\n"


def trials(rng: np.random.Generator) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        (suppressions := Path(folder, "suppressions")).write_text(SUPPRESSED, encoding="utf-8")
        yield from builds.trials(rng, "threads", LEVEL, FLAGS, ("libtsan.so",),
                                 TSAN_OPTIONS=f"halt_on_error=1:die_after_fork=0:suppressions={suppressions}")


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "calls", trials, f"{LEVEL} with sanitizers")
