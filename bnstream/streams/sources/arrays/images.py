"""Images, read with Pillow: a piece is one image, in the dtype that is stored, with its channels last."""

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import WHOLE, File
from bnstream.streams.sources.source import FilesSource, Piece, Wanted

# The modes of Pillow that are arrays of numbers, with the names of their channels.
MODES = {
    "L": ("L",), "LA": ("L", "A"), "RGB": ("R", "G", "B"), "RGBA": ("R", "G", "B", "A"), "CMYK": ("C", "M", "Y", "K"),
    "YCbCr": ("Y", "Cb", "Cr"), "HSV": ("H", "S", "V"), "LAB": ("L", "A", "B"), "I;16": ("I",),
    "I": ("I",), "F": ("F",),
}
EIGHT_BITS = {"1", "P", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"}      # the modes that `mode` converts
TARGETS = EIGHT_BITS & MODES.keys()         # and those that it converts to


class Images(FilesSource):
    """Images of one mode, or converted to one, and of any size, or of one size for statistics of each pixel."""

    takes = frozenset({"format", "storage_options", "mode", "scale", "per_pixel"})

    def __init__(self, files: Sequence[File], wanted: Wanted) -> None:
        columns, options = wanted.columns, wanted.reading
        self.convert, self.scale = options.get("mode"), options.get("scale", False)
        if self.convert is not None and self.convert not in TARGETS:
            raise SourceError(f"mode must be one of {', '.join(sorted(TARGETS))}, got {self.convert!r:.60}")
        self.per_pixel = self.rows_first = bool(options.get("per_pixel", False))
        self.batch_axes = (0,) if self.per_pixel else (0, 1)
        super().__init__(files)
        with self.open(files[0]) as image:
            self.mode, self.size_of_first = self.mode_of(files[0], image), image.size
        channels = MODES[self.mode]
        names: tuple[str, ...] = channels if columns is None else tuple(map(str, columns))
        for name in names:
            if name not in channels:
                raise SourceError(f"{files[0]} has no channel {name!r}; its channels are {', '.join(channels)}")
        self.names = None if self.per_pixel else names
        self.n_channels = len(names) * (math.prod(self.size_of_first) if self.per_pixel else 1)
        self.indices = None if columns is None else [channels.index(name) for name in names]

    def each(self) -> list["Images"]:
        """Each image as a source."""
        found = []
        for file in self.files:
            one = copy.copy(self)
            one.name, one.files, one.extent = str(file), [file], 1
            one.mark = one.mark_now()
            found.append(one)
        return found

    def mode_of(self, file: File, image: Any) -> str:
        """The mode of an image, or the one that it will be converted to."""
        if self.convert is None and image.mode not in MODES:
            modes, how = (TARGETS, "; mode= (--mode) does so") if image.mode in EIGHT_BITS else (MODES, "")
            raise SourceError(f"{file} has mode {image.mode}; convert it to one of {', '.join(sorted(modes))}{how}")
        if self.convert is not None and image.mode not in EIGHT_BITS:
            raise SourceError(f"{file} has mode {image.mode}, which mode={self.convert!r} (--mode) would reduce "
                              "to 8 bits; process such images separately")
        return str(self.convert or image.mode)

    def open(self, file: File) -> Any:
        try:
            image: Any = Image.open(file.for_library(WHOLE))
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
            raise SourceError(f"{file} cannot be read as an image: {error}") from error
        # Pillow would drop these silently. An MPO file is a photo with its thumbnails, which may be dropped.
        left_out = ""
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            left_out = f"has {image.n_frames} frames; save each in its own file"
        elif not image.mode.startswith("I") and any(";16" in str(tile) for tile in image.tile):
            left_out = "has several channels of 16 bits, of which Pillow reads only 8; save it as a .npy file"
        if left_out:
            image.close()
            raise SourceError(f"{file} {left_out}")
        return image

    def decode(self, index: int) -> NDArray[Any]:
        file = self.files[index]
        with self.open(file) as image:
            if self.mode_of(file, image) != self.mode:
                way = "convert all of them with mode= or --mode, or " if {image.mode, self.mode} <= EIGHT_BITS else ""
                raise SourceError(f"{file} has mode {image.mode}, but {self.files[0]} has {self.mode}; {way}process "
                                  "the images of each mode separately")
            if self.per_pixel and image.size != self.size_of_first:
                raise SourceError(f"{file} has {counted_pixels(image.size)}, but {self.files[0]} has "
                                  f"{counted_pixels(self.size_of_first)}; statistics of each pixel need images of one "
                                  "size")
            try:
                image.load()
            except (OSError, SyntaxError, ValueError) as error:
                raise SourceError(f"{file} cannot be decoded; it is truncated or damaged: {error}") from error
            x = np.asarray(image if image.mode == self.mode else converted(image, self.mode, file))
        x = x.reshape(*x.shape[:2], -1)
        x = x if self.indices is None else x[..., self.indices]
        x = to_unit(x, str(file)) if self.scale else x
        return x[np.newaxis] if self.per_pixel else x

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        for index in range(start, len(self.files)):
            yield Piece(partial(self.load, index), 1, index + 1, f"image {self.files[index].path.name}")

    def load(self, index: int) -> list[NDArray[Any]]:
        return [self.decode(index)]


def converted(image: Any, mode: str, file: File) -> Any:
    try:
        return image.convert(mode)
    except ValueError as error:
        raise SourceError(f"{file} of mode {image.mode} cannot be converted to {mode}: {error}; choose another mode= "
                          "(--mode)") from error


def to_unit(x: NDArray[Any], name: str) -> NDArray[Any]:
    """Unsigned integers as float32 from 0 to 1, with the bits of ``ToTensor`` of torchvision."""
    if x.dtype.kind != "u":
        raise SourceError(f"{name} has pixels of dtype {x.dtype}, which have no largest value; leave out scale "
                          "(--scale)")
    return x.astype(np.float32) / np.float32(np.iinfo(x.dtype).max)


def counted_pixels(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,} pixels"
