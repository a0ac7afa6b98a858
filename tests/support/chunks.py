"""Chunks of dask arrays, and a scheduler that runs the tasks of a graph in any order."""

import numpy as np
from dask._task_spec import convert_legacy_graph
from dask.utils import ensure_dict
from support.arrays import rng


def pieces(shape, seed=0):
    """Uneven chunks along each axis, an empty one among them."""
    generator = rng(seed)
    along = []
    for n in shape:
        cuts = np.sort(generator.integers(0, n, 3))
        along.append((int(cuts[0]), 0, *np.diff([*cuts, n]).tolist()))
    return tuple(along)


def shuffled(seed):
    """A scheduler that runs the tasks that are ready in random order."""

    def get(graph, keys, **_options):
        generator = rng(seed)
        graph = graph.__dask_graph__() if hasattr(graph, "__dask_graph__") else graph       # of a newer dask
        tasks = convert_legacy_graph(ensure_dict(graph))
        done = {}
        while len(done) < len(tasks):
            ready = [key for key, task in tasks.items() if key not in done and task.dependencies <= done.keys()]
            key = ready[generator.integers(len(ready))]
            done[key] = tasks[key]({name: done[name] for name in tasks[key].dependencies})

        def values(key):
            return [values(one) for one in key] if isinstance(key, list) else done[key]

        return values(keys)

    return get
