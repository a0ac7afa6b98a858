"""Images, read with Pillow: a piece is one image, in the dtype that is stored, with its channels last."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places import File
from bnstream.streams.sources.source import Piece, Source, Wanted

# The modes of Pillow that are arrays of numbers, with the names of their channels.
MODES = {
    "L": ("L",), "LA": ("L", "A"), "RGB": ("R", "G", "B"), "RGBA": ("R", "G", "B", "A"), "CMYK": ("C", "M", "Y", "K"),
    "YCbCr": ("Y", "Cb", "Cr"), "HSV": ("H", "S", "V"), "LAB": ("L", "A", "B"), "I;16": ("I",),
    "I": ("I",), "F": ("F",),
}


class Images(Source):
    """Images of one mode and any size."""

    takes = frozenset({"format"})
    batch_axes = (0, 1)
    rows_first = False
    in_turn = False

    def __init__(self, files: Sequence[File], wanted: Wanted) -> None:
        columns = wanted.columns
        self.name = str(files[0].path.parent)
        self.files, self.extent = files, len(files)
        self.mark = self.mark_now()
        self.mode = self.mode_of(files[0])
        channels = MODES[self.mode]
        self.names = channels if columns is None else tuple(map(str, columns))
        for name in self.names:
            if name not in channels:
                raise SourceError(f"{files[0]} has no channel {name!r}; its channels are {', '.join(channels)}")
        self.n_channels = len(self.names)
        self.indices = None if columns is None else [channels.index(name) for name in self.names]

    def mark_now(self) -> list[Any]:
        marks = json.dumps([file.mark() for file in self.files])
        return [self.name, len(self.files), hashlib.sha256(marks.encode()).hexdigest()]

    def require_unchanged(self) -> None:
        if self.mark_now() != self.mark:
            raise SourceError(f"an image in {self.name} changed while the images were read; start again")

    def mode_of(self, file: File) -> str:
        with self.open(file) as image:
            if image.mode not in MODES:
                raise SourceError(f"{file} has mode {image.mode}; convert it to one of {', '.join(MODES)}")
            return str(image.mode)

    def open(self, file: File) -> Any:
        try:
            image: Any = Image.open(file.for_library())
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
            if image.mode != self.mode:
                raise SourceError(f"{file} has mode {image.mode}, but {self.files[0]} has {self.mode}; convert it, or "
                                  "process the images of each mode separately")
            try:
                x = np.asarray(image)
            except (OSError, SyntaxError, ValueError) as error:
                raise SourceError(f"{file} cannot be decoded; it is truncated or damaged: {error}") from error
        x = x.reshape(*x.shape[:2], -1)
        return x if self.indices is None else x[..., self.indices]

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        for index in range(start, len(self.files)):
            yield Piece(partial(self.load, index), 1, index + 1, f"image {self.files[index].path.name}")

    def load(self, index: int) -> list[NDArray[Any]]:
        return [self.decode(index)]
