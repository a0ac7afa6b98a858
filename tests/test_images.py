"""Folders of images: every mode, any sizes, nothing lost."""

import numpy as np
import pytest
from arrays import of_dtype
from oracle import assert_within, exact_states

from bnstream import fit

image = pytest.importorskip("PIL.Image")

MODES = {"L": ((), "u1", ("L",)), "LA": ((2,), "u1", ("L", "A")), "RGB": ((3,), "u1", ("R", "G", "B")),
         "RGBA": ((4,), "u1", ("R", "G", "B", "A")), "I;16": ((), "u2", ("I",)), "F": ((), "f4", ("F",))}


@pytest.mark.parametrize("mode", MODES)
def test_images(mode, tmp_path, monkeypatch):
    """Of different sizes, without loss."""
    monkeypatch.chdir(tmp_path)
    shape, dtype, names = MODES[mode]
    pixels = []
    for i, size in enumerate([(5, 7), (4, 3), (1, 1)]):
        x = of_dtype(dtype, (*size, *shape), i)
        image.fromarray(x).save(f"{i}.tif" if mode == "F" else f"{i}.png")
        pixels.append(x.reshape(-1, len(names)))
    x = np.concatenate(pixels)
    for source, columns in ((".", names), ("*.*", names[:1])):
        m = fit(source, columns=None if columns == names else columns)
        assert_within(m.mean, m.var(), exact_states(x[:, :len(columns)]))
        assert (m.n, m.names) == (len(x), columns)
