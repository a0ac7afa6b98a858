"""Statistics in the JSON files of LeRobot and transformers. A file that is updated keeps what else it holds."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bnstream.core.dtypes import NamedArrays
from bnstream.core.optional import needing
from bnstream.exchange.imageprocessors import REQUIRED
from bnstream.exchange.lerobot import nested

LARGEST = 64 << 20          # Bytes of a JSON file, and of a line of a file of JSON lines.
IN_METADATA = ("meta/stats.json", "meta/episodes_stats.jsonl", "meta/episodes/**/*.parquet")   # the first that exists
OF_EPISODES = "stats/"      # how the columns with statistics begin in meta/episodes/
RESCALE_FACTOR = 1 / 255


def lerobot_parts(path: Path) -> Iterator[Mapping[str, Any]]:
    """The statistics in a stats.json, or of the episodes in an episodes_stats.jsonl or a Parquet file of meta/episodes.

    Of the folder of a data set, those in its stats.json, or of its episodes if it has none.

    Raises
    ------
    ValueError
        If the file is not JSON, or has no statistics.
    OSError
        If it cannot be read.
    """
    if path.is_dir():
        found = next((files for pattern in IN_METADATA if (files := sorted(path.glob(pattern)))), None)
        if found is None:
            raise ValueError(f"the folder {path} has neither {' nor '.join(IN_METADATA)}; give a file with statistics, "
                             "or compute them with bnstream fit")
        for file in found:
            yield from lerobot_parts(file)
        return
    if path.suffix == ".jsonl":
        yield from of_lines(path)
    elif path.suffix == ".parquet":
        yield from of_rows(path)
    else:
        yield read_object(path)


def of_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for i, line in enumerate(iter(lambda: file.readline(LARGEST), b"")):
            episode = parsed(line, f"{path}, line {i + 1}") if line.strip() else {"stats": {}}
            if not isinstance(episode.get("stats"), dict):
                raise ValueError(f"{path}, line {i + 1}: expected an object with the member 'stats', got "
                                 f"{', '.join(map(repr, episode)) or 'none'}")
            if episode["stats"]:
                yield episode["stats"]


def of_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with needing("reading Parquet files", '"bnstream[streams]"'):
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name.startswith(OF_EPISODES)]
            if not columns:
                raise ValueError(f"{path} has no column such as 'stats/action/mean'; give a file of meta/episodes of "
                                 "a data set of LeRobot, or compute statistics of others with bnstream fit")
            for batch in file.iter_batches(1 << 8, columns=columns):
                for row in batch.to_pylist():
                    yield {name.removeprefix(OF_EPISODES): value for name, value in row.items() if value is not None}
    except pa.ArrowException as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def processor_arrays(path: Path) -> dict[str, Any]:
    """image_mean and image_std of a preprocessor_config.json, or those that it has."""
    settings = settings_in(read_object(path))
    return {name: values for name in REQUIRED if (values := settings.get(name)) is not None}


def settings_in(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the image processor, which are a member of those of a processor of images and text."""
    inner = config.get("image_processor")
    return inner if isinstance(inner, dict) else config


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    with path.open("rb") as file:
        return parsed(file.read(LARGEST + 1), str(path))


def parsed(data: bytes, name: str) -> dict[str, Any]:
    """The object in JSON."""
    if len(data) > LARGEST:
        raise ValueError(f"{name} has more than {LARGEST >> 20} MiB; expected statistics or settings in JSON")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} must hold a JSON object, got {type(found).__name__}")
    return found


def lerobot_text(arrays: NamedArrays, out: Path) -> str:
    """A stats.json, with the other features of an old one."""
    old = read_object(out) if out.is_file() else {}
    return json.dumps(old | nested(arrays), indent=4, ensure_ascii=False)


def processor_text(arrays: NamedArrays, out: Path) -> str:
    """A preprocessor_config.json, with the other settings of an old one.

    Raises
    ------
    ValueError
        If the old one has its images on another scale than from 0 to 1.
    """
    config = read_object(out) if out.is_file() else {}
    settings = settings_in(config)
    factor = settings.setdefault("rescale_factor", RESCALE_FACTOR)
    rescales = settings.setdefault("do_rescale", True)
    if rescales is not True or not isinstance(factor, int | float) or not np.isclose(factor, RESCALE_FACTOR, rtol=1e-6):
        raise ValueError(f"{out} has do_rescale {rescales!r} and rescale_factor {factor!r:.60}, and statistics are of "
                         "images from 0 to 1; write to another file, and take its image_mean and image_std to your "
                         "scale")
    settings |= {"do_normalize": True} | {name: values.tolist() for name, values in arrays.items()}
    return json.dumps(config, indent=2, sort_keys=True) + "\n"
