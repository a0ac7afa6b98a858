"""Iterables of arrays, tables or record batches, or of mappings with an array and its weights."""

from collections.abc import Callable, Iterator
from typing import Any

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.files import is_path
from bnstream.streams.sources.source import Piece, Source, Wanted, require_same


class Iterable(Source):
    """An iterable. Each item is finished before the next is requested, as the iterable may reuse its buffers."""

    extent = None       # `Piece.stop` counts pieces
    in_turn = True

    def __init__(self, source: Any, wanted: Wanted, open_item: Callable[[Any, Wanted], list[Source]]) -> None:
        try:
            self.items = iter(source)
        except TypeError:
            raise TypeError(f"expected a path, an array, a table or an iterable of these, got {type(source).__name__}"
                            ) from None
        self.name = f"the {type(source).__name__}"
        self.wanted, self.open_item = wanted, open_item
        self.mark = [type(source).__name__]
        first = self.next_item(0)
        if first is None:
            raise SourceError(f"{self.name} is empty: it yielded no batch")
        self.first: Source = first
        self.names, self.batch_axes, self.rows_first = first.names, first.batch_axes, first.rows_first
        self.n_channels = first.n_channels

    def next_item(self, index: int) -> Source | None:
        """Open the next item; None at the end."""
        for item in self.items:
            if is_path(item):
                raise SourceError(f"item {index} of {self.name} is a path, {str(item)!r}; give a list that holds only "
                                  "paths")
            try:
                source, *others = self.open_item(item, self.wanted)
            except SourceError as error:
                raise SourceError(f"item {index} of {self.name}: {error}") from error
            except TypeError as error:
                raise TypeError(f"item {index} of {self.name}: {error}") from error
            if others:
                raise SourceError(f"item {index} of {self.name} is a list of paths; give a list that holds only paths")
            source.name = f"item {index} of {self.name}"
            if index:
                require_same(self.first, source)
            return source
        return None

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        index, n_pieces = 0, 0
        item: Source | None = self.first
        while item is not None:
            for piece in item.pieces(0, chunk_rows):
                n_pieces += 1
                if n_pieces > start:
                    yield piece._replace(stop=n_pieces, place=f"item {index}, {piece.place}")
            index += 1
            item = self.next_item(index)
