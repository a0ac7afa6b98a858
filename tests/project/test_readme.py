"""The code of the README runs as it stands, from top to bottom: Python, and the command."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.frameworks import require

import bnstream

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
N_ROWS = 1000
SHOWN = {       # what the blocks must have made
    "sklearn": ["assert scaler.n_samples_seen_ == 65536", "assert abs(scaler.mean_ - 1e6).max() < 1",
                "assert scaler.mean_.tolist() == StandardScaler().fit(x).mean_.tolist()"],
    "dask": ["assert (stats.compute().n == 100_000).all()", "assert abs(scaled.compute().std() - 1) < 1e-9"],
    "torch": ["assert abs(bn(z) - net[1](z).detach().numpy()).max() < 1e-5"],
    "keras": ["assert layer.name == 'normalize'", "assert (bn.channel_axis, bn.momentum) == (-1, 0.01)"],
    "flax": ["assert variables['batch_stats']['mean'].shape == layer.mean.shape == (256,)"],
    "onnx": ["assert bn.num_features == 256"],
    "gymnasium": ["assert rms.count > 100", "assert abs(observations).max() < 10"],
    "mpi4py": ["assert m == bnstream.Moments().update(x)"],
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with the files that the README speaks of."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for month in ("january", "february"):
        distance = rng.integers(100, 5000, N_ROWS)
        air_time = pa.array(distance / 8, mask=rng.random(N_ROWS) < 0.1)
        table = pa.table({"carrier": ["AA"] * N_ROWS, "distance": distance, "air_time": air_time})
        parquet.write_table(table, tmp_path / "data" / f"{month}.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("package", re.findall(r"^```python needs (\w+)$", README, re.MULTILINE))
def test_adapters(package, tmp_path, monkeypatch):
    """Each with its package alone, beside what stands above."""
    require(package)
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(1e6, 1.0, (65536, 256)).astype(np.float32)
    names = {"np": np, "bnstream": bnstream, "x": x}
    (block,) = blocks(f"python needs {package}")
    exec(block, names)
    exec("\n".join(SHOWN.get(package, [])), names)


def test_python(capsys, data):
    names = {}
    for block in blocks("python"):
        exec(block, names)
    assert len(blocks("python")) == 3
    assert np.all(names["m"].n == 65536)
    assert not names["z"][~names["mask"]].any()
    assert names["y"].shape == (65536, 256)
    assert names["images"].dtype == "float32"
    assert names["bn"].running_mean == pytest.approx(1e6, rel=1e-6)
    assert bnstream.load("layer.npz") == names["bn"]
    out = capsys.readouterr().out
    assert "effective_n" in out
    assert "('distance', 'air_time')" in out


def test_commands(data):
    """Each line that calls bnstream, in the shell."""
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("there is no bash")
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("bnstream ")]
    assert len(lines) == 8
    script = f'set -euo pipefail\nbnstream() {{ "{sys.executable}" -m bnstream "$@"; }}\n' + "\n".join(lines)
    process = subprocess.run([shell, "-c", script], capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    assert "distance" in process.stdout
    assert bnstream.load("both.npz").n.tolist() == bnstream.load("stats.npz").n.tolist()
    again = bnstream.fit("normalized.parquet", columns=["distance", "air_time"], nan_policy="omit")
    assert again.mean == pytest.approx([0, 0], abs=1e-12)
    assert again.std() == pytest.approx([1, 1], rel=1e-12)
    assert np.load("scaler.npz")["n_samples_seen_"].tolist() == again.n.tolist()
    assert Path("stats.png").read_bytes().startswith(b"\x89PNG")
