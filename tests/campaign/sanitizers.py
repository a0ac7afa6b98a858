"""Random calls, after the tests of kernels and core, in a build with AddressSanitizer and UndefinedBehaviorSanitizer.

A finding of a sanitizer ends the process. The build and the tests take half an hour, so that the checks of a change
leave them out. BNSTREAM_LEVEL is "baseline" by default.
"""

import os
from collections.abc import Iterator

import builds
import numpy as np
from harness import main

LEVEL = os.environ.get("BNSTREAM_LEVEL", "baseline")
TESTS = ("tests/kernels", "tests/core",     # but for those that bound memory and stack, of which sanitizers take more
         "--ignore=tests/core/test_memory.py", "--deselect=tests/kernels/test_threads.py::test_small_stacks")
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g0"


def trials(rng: np.random.Generator) -> Iterator[int]:
    return builds.trials(rng, "calls", LEVEL, FLAGS, ("libasan.so", "libubsan.so"), TESTS, PYTHONMALLOC="malloc",
                         ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1",
                         UBSAN_OPTIONS="print_stacktrace=1")


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "calls", trials, f"{LEVEL} with sanitizers")
