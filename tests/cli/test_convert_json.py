"""convert from and to the JSON files of LeRobot and transformers."""

import json

import numpy as np
import pytest
from support.command import main
from support.lerobot import aggregated, episode_statistics, in_json, write

from bnstream import Moments, fit, load, save
from bnstream.exchange.lerobot import from_lerobot
from bnstream.statefiles import read

pytest.importorskip("pyarrow")

CONFIG = {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
          "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 2,
          "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for version in ("2.1", "3.0"):
        write(tmp_path / version, version)
    save("images.npz", Moments((0, 1, 2)).update(np.random.default_rng(0).random((4, 5, 6, 3))))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def done(*arguments):
    found = main(*arguments)
    assert found.returncode == 0, found.stderr


def test_from_the_episodes_of_a_folder(folder):
    (folder / "3.0/meta/stats.json").unlink()
    done("convert", "3.0", "--from", "lerobot", "-o", "stats.npz")
    assert load("stats.npz") == from_lerobot(episode_statistics())


@pytest.mark.parametrize("source", ["2.1", "2.1/meta/episodes_stats.jsonl", "3.0", "3.0/meta/stats.json",
                                    "3.0/meta/episodes/chunk-000/file-000.parquet"])
def test_from_lerobot(folder, source):
    done("convert", source, "--from", "lerobot", "-o", "stats.npz")
    m, parts = load("stats.npz"), episode_statistics()
    expected = from_lerobot([aggregated(parts)])
    assert m.names == expected.names
    assert m.n.tolist() == expected.n.tolist()
    assert m.mean == pytest.approx(expected.mean, rel=1e-12)
    assert m.std() == pytest.approx(expected.std(), rel=1e-8, abs=1e-12)
    assert read("stats.npz").metadata["lacks"] == ["mean_lo", "m2_lo"]


def test_to_lerobot(folder):
    done("fit", "3.0", "-o", "stats.npz", "--columns", "observation.state,action", "--track", "min,max")
    done("convert", "stats.npz", "--to", "lerobot", "-o", "new.json")
    found, m = json.loads((folder / "new.json").read_text()), fit("3.0", columns=["observation.state", "action"])
    assert list(found) == ["observation.state", "action"]
    assert found["action"]["mean"] == m.mean[3:].tolist()
    assert list(found["action"]) == ["min", "max", "mean", "std", "count"]
    assert found["action"]["max"] == aggregated(episode_statistics())["action"]["max"].tolist()
    assert found["action"]["count"] == [66]


def test_an_old_file_of_lerobot_keeps_its_other_features(folder):
    out = folder / "3.0/meta/stats.json"
    before = json.loads(out.read_text())
    done("fit", "3.0", "-o", "stats.npz", "--columns", "action", "--track", "min,max")
    refused = main("convert", "stats.npz", "--to", "lerobot", "-o", str(out))
    assert refused.returncode == 1
    assert "stats.json exists; give another name, or replace it with force=True (--force)" in refused.stderr
    assert json.loads(out.read_text()) == before
    done("convert", "stats.npz", "--to", "lerobot", "-o", str(out), "--force")
    after = json.loads(out.read_text())
    assert list(after) == list(before)
    assert after["action"]["mean"] == load("stats.npz").mean.tolist()
    assert {name: own for name, own in after.items() if name != "action"} == {
        name: own for name, own in before.items() if name != "action"}
    assert not {"q01", "q99"} & set(after["action"])        # of other data, perhaps


def test_to_transformers(folder):
    done("convert", "images.npz", "--to", "transformers", "-o", "new.json")
    m, found = load("images.npz"), json.loads((folder / "new.json").read_text())
    assert found == {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255,
                     "image_mean": m.mean.tolist(), "image_std": m.std().tolist()}


@pytest.mark.parametrize("config", [CONFIG, {"processor_class": "P", "image_processor": CONFIG}],
                         ids=["alone", "in a processor"])
def test_an_old_config_keeps_its_other_settings(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    done("convert", "images.npz", "--to", "transformers", "-o", "config.json", "--force")
    m, found = load("images.npz"), json.loads((folder / "config.json").read_text())
    assert found.get("processor_class") == config.get("processor_class")
    expected = CONFIG | {"image_mean": m.mean.tolist(), "image_std": m.std().tolist()}
    assert found.get("image_processor", found) == expected
    done("convert", "config.json", "--from", "transformers", "-o", "layer.npz")
    assert load("layer.npz").running_mean.tolist() == m.mean.tolist()
    assert load("layer.npz").running_var == pytest.approx(m.var(), rel=1e-14)
    assert read("layer.npz").metadata["lacks"] == ["n", "num_batches_tracked", "momentum"]


@pytest.mark.parametrize(("name", "content", "arguments", "message"), [
    ("s.json", "{", ("s.json", "--from", "lerobot"), "s.json is not JSON: Expecting property name"),
    ("s.json", "[" * 100_000, ("s.json", "--from", "lerobot"), "s.json is not JSON: "),
    ("s.json", "[1]", ("s.json", "--from", "lerobot"), "s.json must hold a JSON object, got list"),
    ("s.json", json.dumps(CONFIG), ("s.json", "--from", "lerobot"), "s.json: expected the statistics of features"),
    ("s.json", '{"action": {"mean": [[1], [1, 2]], "std": [1], "count": [1]}}', ("s.json", "--from", "lerobot"),
     "s.json: "),
    ("s.jsonl", '{"episode_index": 0, "length": 5}\n', ("s.jsonl", "--from", "lerobot"),
     "s.jsonl, line 1: expected an object with the member 'stats', got 'episode_index', 'length'"),
    ("s.jsonl", "\n", ("s.jsonl", "--from", "lerobot"), "s.jsonl: expected the statistics of a part, such as"),
    ("s.json", "{}", (".", "--from", "lerobot"), "the folder . has neither meta/stats.json nor meta/epi"),
    ("s.json", "{}", ("missing.json", "--from", "lerobot"), "missing.json"),
    ("s.json", "{}", ("s.json", "--from", "lerobot", "--prefix", "a"), "prefix='a' (--prefix) selects"),
    ("s.parquet", "PAR1", ("s.parquet", "--from", "lerobot"), "s.parquet cannot be read: "),
    ("s.json", "{}", ("3.0/meta/tasks.parquet", "--from", "lerobot"), "no column such as 'stats/action/mean'"),
    ("s.json", json.dumps(in_json(episode_statistics()[0])), ("s.json", "--from", "transformers"),
     "s.json: expected the arrays image_mean, image_std, got none"),
    ("y.json", json.dumps(CONFIG | {"rescale_factor": 1 / 127.5}), ("images.npz", "--to", "transformers", "--force"),
     "y.json has do_rescale True and rescale_factor 0.00784313725490196, and statistics are of images from 0 to 1"),
    ("y.json", json.dumps(CONFIG | {"do_rescale": False}), ("images.npz", "--to", "transformers", "--force"),
     "y.json has do_rescale False and"),
    ("y.json", "text", ("images.npz", "--to", "transformers", "--force"), "y.json is not JSON"),
])
def test_refused(folder, name, content, arguments, message):
    (folder / name).write_text(content)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    found = main("convert", *arguments, "-o", "y.json")
    assert (found.returncode, found.stdout) == (1, "")
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
