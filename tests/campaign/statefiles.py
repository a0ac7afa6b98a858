"""State files of each kind, with values, headers and records changed, and with right checksums.

Each is refused by StateError in one line, or is a state: then `write` writes what zipfile, json and NumPy read in the
file, to the last bit. No file may raise anything else, warn, take long, or take more memory than a small file can need.
"""

import faulthandler
import io
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from harness import folder_in_memory, main
from mutations import Forged, contents, mutated

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.states import SAVED, trained

from bnstream import DomainBatchNorm, GroupedMoments, Moments
from bnstream.statefiles import StateError, read, write
from bnstream.statefiles.archive import write_archive

LONGEST = 10            # CPU seconds for one file
MOST_MEMORY = 1 << 30   # bytes beside those of the imports
TEXTS = ("bnstream", "conventions", "per_channel")      # what is not of the state, and may be left out
X = np.random.default_rng(0).normal(3, 2, (60, 3))
KEYS = np.arange(60) % 4 - 1
LETTERS = np.array(["a", "", "\u00fc\n"])[np.arange(60) % 3]


def holed(x: np.ndarray) -> np.ndarray:
    return np.where(np.arange(x.size).reshape(x.shape) % 7, x, np.nan)


def domains(keys: np.ndarray, **options: object) -> DomainBatchNorm:
    bn = DomainBatchNorm(3, **options)
    bn(X, keys)
    return bn


TRACK = ("min", "max", "missing", "skewness", "kurtosis")
STATES = {
    **SAVED,
    "weights": lambda: Moments().update(X, weights=np.arange(60.0)),
    "large": lambda: Moments().update(np.array([[1e200, 1.0], [-1e200, 2.0]])),
    "tracked": lambda: Moments(nan_policy="omit", track=TRACK).update(holed(X)),
    "exact, tracked": lambda: Moments(nan_policy="omit", exact=True, track=TRACK[:3]).update(holed(X)),
    "quantiles": lambda: Moments(track="quantiles").update(np.tile(X, (40, 1))),
    "quantiles, few": lambda: Moments(nan_policy="propagate", track="quantiles").update(holed(X[:2])),
    "groups": lambda: GroupedMoments(names=["a", "b", "c"], key_names=["k"]).update(X, KEYS),
    "groups, letters": lambda: GroupedMoments(missing_keys="keep").update(X, ["a", None, "b"] * 20),
    "groups, tuples": lambda: GroupedMoments().update(X, {"a": LETTERS, "b": KEYS == 0}),
    "groups, weights": lambda: GroupedMoments().update(X, KEYS).update(X, KEYS[:60] * 0, weights=np.arange(60.0)),
    "groups, exact": lambda: GroupedMoments(exact=True).update(X, KEYS),
    "groups, tracked": lambda: GroupedMoments(track=TRACK).update(X, KEYS),
    "groups, quantiles": lambda: GroupedMoments(track="quantiles").update(X, KEYS),
    "no groups": lambda: GroupedMoments(names=["a"]),
    "domains": lambda: domains(LETTERS),
    "domains, pooled": lambda: domains(KEYS, track_pooled=True, names=["a", "b", "c"]),
    "domains, tuples": lambda: domains({"a": LETTERS, "b": KEYS == 0}, momentum=None, track_pooled="exact"),
    "no domains": lambda: DomainBatchNorm(3),
}


class Pipe(io.RawIOBase):
    """A file that cannot be sought, as `save` writes to a pipe."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.parts.append(bytes(data))
        return len(self.parts[-1])


def corpus(path: Path) -> list[Forged]:
    """A file of each kind of state; checkpoints, imported states, and one that was written to a pipe."""
    wholes = []
    for name, make in STATES.items():
        more: dict[str, object] = {}
        if name in ("columns", "groups", "quantiles"):
            more = {"progress": {"arguments": {"axis": 0}, "sources": [["a.npy", 1, 2]], "at": [0, 3], "n_rows": 3}}
        if name in ("weights", "layer", "groups, letters"):
            more = {"lacks": ["n"]}
        write(path, make(), **more)
        wholes.append(path.read_bytes())
    write(path, trained())
    description, arrays = contents(path)
    pipe = Pipe()
    write_archive(pipe, arrays, description)
    return [*map(Forged, [*wholes, b"".join(pipe.parts)])]


def same(file: Path, other: Path) -> None:
    """Assert that two files hold the same."""
    if file.read_bytes() == other.read_bytes():
        return
    (a, arrays), (b, others) = contents(file), contents(other)
    for name in TEXTS:
        a.pop(name, None)
        b.pop(name, None)
    assert repr(sorted(a.items())) == repr(sorted(b.items())), f"accepted as another description: {a} and {b}"
    assert arrays.keys() == others.keys(), f"accepted with other arrays: {[*arrays]} and {[*others]}"
    for name, array in arrays.items():
        assert (array.dtype, array.shape, array.tobytes()) == (
            others[name].dtype, others[name].shape, others[name].tobytes()), f"accepted with another {name}"


def tried(file: Path, other: Path) -> bool:
    """Read a file; return whether it was accepted. Raise AssertionError if it was refused or accepted wrongly."""
    try:
        found = read(file)
    except StateError as error:
        message = str(error)
        good = message.isprintable() and message.startswith(str(file)) and len(message) < 2000
        assert good, f"a bad message: {message!r:.3000}"
        return False
    repr(found.state)
    write(other, found.state, progress=found.metadata.get("progress"), lacks=found.metadata.get("lacks"))
    same(file, other)
    return True


def trials(rng: np.random.Generator) -> Iterator[int]:
    warnings.simplefilter("error")
    seed = int(rng.integers(2**63))
    random = Random(seed)
    n_tried = n_accepted = 0
    with folder_in_memory() as folder:
        file, other = Path(folder, "file.npz"), Path(folder, "other.npz")
        files = corpus(file)
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MOST_MEMORY, resource.RLIM_INFINITY))
        try:
            for one in files:
                file.write_bytes(one.whole)
                assert tried(file, other), "a file of ours was refused"
                file.write_bytes(one.fresh().bytes())
                assert tried(file, other), "a file without a change was refused"
            while True:
                if n_tried % 1000 == 0:
                    faulthandler.dump_traceback_later(300, exit=True)
                made, names = mutated(random.choice(files), files, random)
                whole = made.bytes()
                file.write_bytes(whole)
                start = time.process_time()
                try:
                    n_accepted += tried(file, other)
                    assert time.process_time() - start < LONGEST, "it took long"
                except Exception as error:
                    kept = Path(tempfile.gettempdir(), f"found-{seed}-{n_tried}.npz")
                    kept.write_bytes(whole)
                    what = f"after {', '.join(names)}, {type(error).__name__}: {error}; see {kept}"
                    raise AssertionError(what) from error
                n_tried += 1
                yield 1
        finally:
            faulthandler.cancel_dump_traceback_later()
            print(f"accepted: {n_accepted:,} of {n_tried:,}")


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "mutated state files", trials)
