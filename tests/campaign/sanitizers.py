"""Random calls in a build with AddressSanitizer and UndefinedBehaviorSanitizer: they end the process at what they find.

The build takes some minutes, so that the checks of a change leave it out. BNSTREAM_LEVEL is "baseline" by default.
"""

import os
from collections.abc import Iterator

import builds
import numpy as np
from harness import main

LEVEL = os.environ.get("BNSTREAM_LEVEL", "baseline")
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g0"


def trials(rng: np.random.Generator) -> Iterator[int]:
    return builds.trials(rng, "calls", LEVEL, FLAGS, ("libasan.so", "libubsan.so"), PYTHONMALLOC="malloc",
                         ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1")


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "calls", trials, f"{LEVEL} with sanitizers")
