"""Random calls, most of them odd and many of them garbage: none crashes, and the results of valid ones are right.

The calls are those of tests/core/test_fuzz.py, with other seeds. Run it in a build with sanitizers or bounds checks.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import main

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "core")]
import test_fuzz  # noqa: E402

CALLS = 20_000       # of a seed


def trials(rng: np.random.Generator) -> Iterator[int]:
    test_fuzz.CALLS = CALLS
    while True:
        seed = test_fuzz.SEED = int(rng.integers(1 << 32))
        for test in (test_fuzz.test_random_calls, test_fuzz.test_random_normalizations):
            try:
                test()
            except Exception as error:
                raise AssertionError(f"{test.__name__} with seed {seed}: {error!r}") from error
        yield CALLS + CALLS // 5


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "calls", trials)
