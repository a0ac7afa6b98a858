"""Folders of images: every mode and size, without loss."""

import numpy as np
import pytest
from support.arrays import of_dtype
from support.oracle import assert_within, exact_states

from bnstream import SourceError, apply, fit

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


def saved(name, x, mode=None):
    image.fromarray(x).convert(mode).save(name)
    return x


def test_gray_and_color_mixed(folder):
    color = saved("a.png", of_dtype("u1", (4, 5, 3), 1))
    gray = saved("b.png", of_dtype("u1", (3, 2), 2))
    palette = np.asarray(image.fromarray(color).quantize(4).convert("RGB"))
    image.fromarray(palette).convert("P", palette=image.Palette.ADAPTIVE, colors=4).save("c.png")
    with pytest.raises(SourceError, match=r"b\.png has mode L, but a\.png has RGB; convert all of them with mode= or "
                                          r"--mode, or process the images of each mode separately$"):
        fit(".")
    pixels = np.concatenate([color.reshape(-1, 3), np.repeat(gray.reshape(-1, 1), 3, axis=1), palette.reshape(-1, 3)])
    m = fit(".", mode="RGB")
    assert_within(m.mean, m.var(), exact_states(pixels))
    assert (m.names, m.n.tolist()) == (("R", "G", "B"), [len(pixels)] * 3)
    assert fit("b.png", mode="RGB", columns=["G"]).mean == fit("b.png").mean
    apply(m, "b.png", "y.npy", mode="RGB")
    np.testing.assert_allclose(np.load("y.npy"), [(gray[..., None] - m.mean) / m.std()], rtol=1e-6, atol=1e-6)


def test_modes_that_mode_does_not_convert(folder):
    """No message advises what is then refused."""
    image.fromarray(of_dtype("u2", (4, 5))).save("a.png")
    image.fromarray(of_dtype("u1", (4, 5))).save("b.png")
    with pytest.raises(SourceError, match=r"b\.png has mode L, but a\.png has I;16; process the images of each mode s"):
        fit(".")
    image.fromarray(of_dtype("u1", (4, 5)) > 100).save("c.png")
    with pytest.raises(SourceError, match=r"c\.png has mode 1; convert it to one of CMYK, HSV, L, .*; mode= "):
        fit("c.png")
    assert fit("c.png", mode="L").n == 20


def test_modes_that_lose_digits(folder):
    saved("x.png", of_dtype("u2", (4, 5)))
    with pytest.raises(SourceError, match=r"x\.png has mode I;16, which mode='RGB' \(--mode\) would reduce to 8 bits"):
        fit("x.png", mode="RGB")
    with pytest.raises(SourceError, match=r"^mode must be one of CMYK, .*RGBA, YCbCr, got 'I;16'$"):
        fit("x.png", mode="I;16")
    image.new("LAB", (4, 5)).save("l.tif")
    with pytest.raises(SourceError, match=r"l\.tif of mode LAB cannot be converted to L: .*; choose another mode="):
        fit("l.tif", mode="L")


def test_scale(folder):
    x = saved("a.png", of_dtype("u1", (6, 5, 3)))
    m = fit("a.png", scale=True)
    unit = x.astype("f4") / np.float32(255)
    assert_within(m.mean, m.var(), exact_states(unit.reshape(-1, 3)))
    y = saved("b.png", of_dtype("u2", (6, 5)))
    assert_within(*(lambda m: (m.mean, m.var()))(fit("b.png", scale=True)),
                  exact_states((y / np.float32(65535)).astype("f4").reshape(-1, 1)))
    apply(m, "a.png", "y.npy", scale=True)
    got = np.load("y.npy")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [(unit - m.mean) / m.std()], rtol=2e-7, atol=1e-7)
    saved("f.tif", of_dtype("f4", (4, 5)))
    with pytest.raises(SourceError, match=r"f\.tif has pixels of dtype float32, which have no largest value; leave "):
        fit("f.tif", scale=True)


def test_each_pixel(folder):
    x = np.stack([saved(f"{i}.png", of_dtype("u1", (4, 5, 3), i)) for i in range(6)])
    m = fit(".", per_pixel=True)
    assert (m.shape, m.names, m.n.max(), m.n.min()) == ((4, 5, 3), None, 6, 6)
    assert_within(m.mean.ravel(), m.var().ravel(), exact_states(x.reshape(6, -1)))
    apply(m, "*.png", "y.npy", per_pixel=True)
    np.testing.assert_allclose(np.load("y.npy"), (x - m.mean) / m.std(), rtol=1e-6, atol=1e-6)
    assert fit("*.png", per_pixel=True, columns=["G"]).mean.tolist() == m.mean[..., 1:2].tolist()
    saved("small.png", x[0, :2])
    with pytest.raises(SourceError, match=r"small\.png has 5 x 2 pixels, but 0\.png has 5 x 4 pixels; statistics of "
                                          "each pixel need images of one size"):
        fit("*.png", per_pixel=True)


@pytest.mark.parametrize("option", ["scale", "per_pixel", "numeric"])
def test_options_that_are_true_or_false(option, folder):
    with pytest.raises(TypeError, match=rf"^{option} must be True or False, got 'no'$"):
        fit("x.png", **{option: "no"})
