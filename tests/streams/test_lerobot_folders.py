"""The folder of a data set of LeRobot is a source: the rows in data/, without metadata and videos."""

import numpy as np
import pytest
from support.command import main
from support.lerobot import aggregated, episode_statistics, episodes, write

import bnstream
from bnstream.exchange import from_arrays

pytest.importorskip("pyarrow")


@pytest.fixture(params=["2.1", "3.0"])
def folder(tmp_path, request):
    write(tmp_path / "set", request.param)
    return tmp_path / "set"


def together(name):
    return np.concatenate([columns[name] for columns in episodes()])


def test_columns(folder):
    m = bnstream.fit(folder, columns=["observation.state", "action"])
    assert m.names == tuple(f"{name}[{i}]" for name, n in (("observation.state", 3), ("action", 2)) for i in range(n))
    x = np.column_stack([together("observation.state"), together("action")])
    assert m.n.tolist() == [66] * 5
    assert m.mean == pytest.approx(x.mean(0, float), rel=1e-13)
    assert m.std() == pytest.approx(x.std(0, dtype=float), rel=1e-12)


def test_all_numbers_are_those_of_lerobot(folder):
    """Every feature but the videos, with the values that LeRobot writes."""
    m = bnstream.fit(folder)
    expected = aggregated(episode_statistics())
    del expected["observation.images.top"]
    assert m.names == from_arrays(expected, "lerobot").names
    assert m.mean == pytest.approx(np.concatenate([own["mean"] for own in expected.values()]), rel=1e-9, abs=1e-12)
    assert m.std() == pytest.approx(np.concatenate([own["std"] for own in expected.values()]), rel=1e-9, abs=1e-12)


def test_in_another_place(folder):
    fsspec = pytest.importorskip("fsspec")
    fs = fsspec.filesystem("memory")
    fs.rm("/", recursive=True)
    for path in folder.rglob("*"):
        if path.is_file():
            fs.pipe(f"/set/{path.relative_to(folder).as_posix()}", path.read_bytes())
    assert bnstream.fit("memory://set", columns=["action"]) == bnstream.fit(folder, columns=["action"])
    fs.rm("/", recursive=True)


def test_command(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    done = main("fit", "set", "-o", "stats.npz", "--columns", "action")
    assert done.returncode == 0, done.stderr
    assert bnstream.load("stats.npz") == bnstream.fit("set", columns=["action"])


def test_other_folders_are_read_whole(tmp_path):
    """A folder data/ beside others is nothing special without the metadata of LeRobot."""
    for name in ("data", "more"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", np.ones((2, 1)))
    assert bnstream.fit(tmp_path).n == [4]
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{}")
    assert bnstream.fit(tmp_path).n == [2]
