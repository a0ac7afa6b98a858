"""Mutated state files, where a mutation that reaches code that none reached before is mutated further.

The mutations, which mend the checksums, and what must hold are those of statefiles.py. Needs atheris.
"""

import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random

import guided
import numpy as np
from harness import folder_in_memory, main
from mutations import Forged, mutated

FIRST, MOST = 2000, 100_000     # runs of the first process, and of any
LARGEST = 1 << 20               # bytes of a file
KEPT = 30_000                   # files whose parts are known, so that they can be mutated further


def trials(rng: np.random.Generator) -> Iterator[int]:
    """Each process begins with the files of statefiles.py: it knows the parts of the files that it made itself."""
    for n in guided.doubling(FIRST, MOST):
        with folder_in_memory() as folder:
            yield guided.runs(__file__, Path(folder), n, LARGEST, rng)


def one_slice(folder: Path, options: list[str]) -> None:
    """Mutate files, and go on with those that reach more code."""
    import atheris

    with atheris.instrument_imports(include=["bnstream.statefiles"]):
        from statefiles import corpus, tried

    warnings.simplefilter("error")
    (folder / "corpus").mkdir()
    file, other = folder / "file.npz", folder / "other.npz"
    files = corpus(file)
    known: dict[int, Forged] = {}
    for i, one in enumerate(files):
        (folder / f"corpus/{i}.npz").write_bytes(whole := one.bytes())
        known[hash(whole)] = one

    def mutate(whole: bytes, largest: int, seed: int) -> bytes:
        """Change the parts that a file was made of. They are not read from it: NumPy's parsers can end the process."""
        rng = Random(seed)
        one = known.pop(hash(whole), None)
        if one is None:
            one = rng.choice(files)
        else:
            known[hash(whole)] = one        # used last
        made, _ = mutated(one, files, rng)
        new = made.bytes()
        if len(new) > largest:
            return whole
        if len(known) == KEPT:
            del known[next(iter(known))]
        known[hash(new)] = made
        return new

    def one_run(whole: bytes) -> None:
        file.write_bytes(whole)
        tried(file, other)

    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], one_run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["slice"]:
        one_slice(Path(sys.argv[2]), sys.argv[3:])
    elif find_spec("atheris") is None:
        print("fuzz: skipped, as atheris is not installed")
    else:
        main(__doc__.partition("\n")[0], "mutated state files", trials)
