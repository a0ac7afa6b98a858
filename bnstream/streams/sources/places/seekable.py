"""The place of a reader in a file: what readers of files that lie elsewhere, or are already open, share."""

import io


class Seekable(io.RawIOBase):
    """A reader that can move to any place. A class derived from it has `readinto`, which reads at `at`.

    size: of the file in bytes; None if it is known only at its end.
    """

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self.size = size
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self.size is None:
            raise io.UnsupportedOperation("the size of the file is not known before its end")
        self.at = max(0, offset + (0, self.at, self.size or 0)[whence])
        return self.at
