"""The Python of the README runs as it stands, from top to bottom."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_code_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    assert names["m"].n.max() == 2 * 65536
    assert names["y"].shape == (65536, 256)
    assert names["images"].dtype == "float32"
    assert names["bn"].running_mean == pytest.approx(1e6, rel=1e-6)
    assert "effective_n" in capsys.readouterr().out
