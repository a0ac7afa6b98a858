"""Data sets as LeRobot writes them, versions 2.1 and 3.0, and its statistics in plain NumPy."""

import json

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
LENGTHS = (40, 1, 25)       # of the episodes


def statistics(x):
    """Of the rows of an array, as LeRobot computes those of a feature; a 1-d array is a feature of one number."""
    x = np.asarray(x, float).reshape(len(x), -1)
    return {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0), "count": np.array([len(x)]),
            **{name: np.quantile(x, q, axis=0) for name, q in QUANTILES.items()}}


def of_images(frames):
    """Of uint8 images (frames, channels, height, width), scaled to 0 to 1; the count is that of the frames."""
    found = statistics(np.moveaxis(frames, 1, -1).reshape(-1, frames.shape[1]) / 255)
    return {name: np.array([len(frames)]) if name == "count" else values.reshape(-1, 1, 1)
            for name, values in found.items()}


def aggregated(parts):
    """Of several episodes: features that some lack are those of the others; quantiles are averages."""
    total = {}
    for feature in dict.fromkeys(feature for part in parts for feature in part):
        own = [part[feature] for part in parts if feature in part]
        n = np.stack([part["count"] for part in own]).reshape(-1, *[1] * own[0]["mean"].ndim)
        mean = sum(k * part["mean"] for k, part in zip(n, own, strict=True)) / n.sum()
        var = sum(k * (part["std"] ** 2 + (part["mean"] - mean) ** 2) for k, part in zip(n, own, strict=True)) / n.sum()
        total[feature] = {"min": np.min([part["min"] for part in own], 0),
                          "max": np.max([part["max"] for part in own], 0),
                          "mean": mean, "std": np.sqrt(var), "count": n.sum().reshape(1)}
        total[feature] |= {q: sum(k * part[q] for k, part in zip(n, own, strict=True)) / n.sum() for q in QUANTILES}
    return total


def episodes(seed=0):
    """The columns of each episode, with the dtypes of LeRobot; the images are videos, which are no columns."""
    rng, found, first = np.random.default_rng(seed), [], 0
    for i, n in enumerate(LENGTHS):
        found.append({
            "observation.state": (1000 + rng.normal(size=(n, 3))).astype(np.float32),
            "action": rng.normal(size=(n, 2)).astype(np.float32),
            "next.reward": rng.random(n).astype(np.float32),
            "next.done": np.arange(n) == n - 1,
            "timestamp": (np.arange(n) / 30).astype(np.float32),
            "frame_index": np.arange(n), "episode_index": np.full(n, i), "index": first + np.arange(n),
            "task_index": np.zeros(n, int),
        })
        first += n
    return found


def videos(seed=1):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 200, (n + 1, 3, 4, 6)).astype(np.uint8) for n in LENGTHS]


def episode_statistics():
    return [{name: statistics(x) for name, x in columns.items()} | {"observation.images.top": of_images(frames)}
            for columns, frames in zip(episodes(), videos(), strict=True)]


def in_json(stats):
    return {feature: {name: values.tolist() for name, values in own.items()} for feature, own in stats.items()}


def table(columns):
    import pyarrow as pa

    def column(x):
        if x.ndim == 1:
            return pa.array(x)
        return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])

    return pa.table({name: column(x) for name, x in columns.items()})


def write(root, version):
    """Write a data set of version 2.1 or 3.0."""
    import pyarrow as pa
    from pyarrow import parquet

    found, stats = episodes(), episode_statistics()
    for folder in ("meta", "data/chunk-000", "videos/observation.images.top/chunk-000"):
        (root / folder).mkdir(parents=True)
    info = {"codebase_version": f"v{version}", "fps": 30, "total_episodes": len(found), "total_frames": sum(LENGTHS),
            "features": {name: {"dtype": str(x.dtype), "shape": list(x.shape[1:]) or [1], "names": None}
                         for name, x in found[0].items()}}
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))
    (root / "videos/observation.images.top/chunk-000/file-000.mp4").write_bytes(b"ftyp")
    if version == "2.1":
        for i, columns in enumerate(found):
            parquet.write_table(table(columns), root / f"data/chunk-000/episode_{i:06d}.parquet")
        (root / "meta/episodes.jsonl").write_text("".join(
            json.dumps({"episode_index": i, "tasks": ["push"], "length": n}) + "\n" for i, n in enumerate(LENGTHS)))
        (root / "meta/episodes_stats.jsonl").write_text("".join(
            json.dumps({"episode_index": i, "stats": in_json(own)}) + "\n" for i, own in enumerate(stats)))
        return
    together = {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}
    parquet.write_table(table(together), root / "data/chunk-000/file-000.parquet")
    (root / "meta/stats.json").write_text(json.dumps(in_json(aggregated(stats)), indent=4))
    parquet.write_table(pa.table({"task_index": [0], "task": ["push"]}), root / "meta/tasks.parquet")
    rows = [{"episode_index": i, "tasks": ["push"], "length": n}
            | {f"stats/{feature}/{name}": values for feature, found in in_json(own).items()
               for name, values in found.items()}
            for i, (n, own) in enumerate(zip(LENGTHS, stats, strict=True))]
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
