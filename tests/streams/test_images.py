"""Folders of images: every mode and size, without loss."""

import numpy as np
import pytest
from support.arrays import of_dtype
from support.oracle import assert_within, exact_states

from bnstream import SourceError, fit

image = pytest.importorskip("PIL.Image")

MODES = {"L": ((), "u1", ("L",)), "LA": ((2,), "u1", ("L", "A")), "RGB": ((3,), "u1", ("R", "G", "B")),
         "RGBA": ((4,), "u1", ("R", "G", "B", "A")), "I;16": ((), "u2", ("I",)), "F": ((), "f4", ("F",))}


@pytest.mark.parametrize("mode", MODES)
def test_images(mode, tmp_path, monkeypatch):
    """The images of a folder may differ in size."""
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
        assert (m.n.tolist(), m.names) == ([len(x)] * len(m.mean), columns)


def raw_png(mode, depth, pixels):
    """A PNG file of a kind that Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, mode, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("mode", "n_channels"), [(2, 3), (4, 2), (6, 4)], ids=["RGB", "LA", "RGBA"])
def test_channels_of_16_bits(tmp_path, mode, n_channels):
    """Pillow would silently reduce them to 8 bits."""
    pixels = np.arange(4 * 5 * n_channels, dtype=">u2").reshape(4, 5, n_channels) * 256
    (tmp_path / "x.png").write_bytes(raw_png(mode, 16, pixels))
    with pytest.raises(SourceError, match=r"x\.png has several channels of 16 bits, of which Pillow reads only 8"):
        fit(tmp_path)


@pytest.mark.parametrize("suffix", ["tif", "webp", "png"])
def test_frames(tmp_path, suffix):
    first, *others = (image.new("RGB", (8, 10), (level, 0, 0)) for level in (0, 100, 200))
    first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=others)
    with pytest.raises(SourceError, match=r"x\.\w+ has 3 frames; save each in its own file"):
        fit(tmp_path)


def test_images_take_no_channel_axis(folder):
    image.fromarray(np.zeros((2, 3, 3), np.uint8)).save("a.png")
    with pytest.raises(SourceError, match="are the last axis of its images; leave out channel_axis=0 "):
        fit("a.png", channel_axis=0)
