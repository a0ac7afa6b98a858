"""Iterables of arrays, tables or rows, or of mappings with an array and its weights."""

from collections.abc import Callable, Iterator
from typing import Any

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.items import Items
from bnstream.streams.sources.source import Piece, Source, Wanted, require_same

OWN = frozenset({"item", "key"})        # the options of reading of the iterable itself


class Iterable(Source):
    """An iterable. Each batch is finished before the next is requested, as the iterable may reuse its buffers.

    `Piece.stop` counts pieces.
    """

    in_turn = True

    def __init__(self, source: Any, wanted: Wanted, open_batch: Callable[[Any, Wanted], Source]) -> None:
        items = Items(source, wanted.reading)
        self.name, self.mark = items.name, [type(source).__name__]
        self.batches = items.batches()
        self.open_batch = open_batch
        self.wanted = wanted._replace(reading={key: wanted.reading[key] for key in wanted.reading.keys() - OWN})
        self.first = first = self.opened(*next(self.batches))
        self.takes = first.takes | OWN
        self.take_channels(first)

    def opened(self, place: str, batch: Any) -> Source:
        try:
            source = self.open_batch(batch, self.wanted)
        except SourceError as error:
            raise SourceError(f"{place}: {error}") from error
        except TypeError as error:
            raise TypeError(f"{place}: {error}") from error
        source.name = place
        return source

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        n_pieces = 0
        for source in self.sources():
            place = source.name.removesuffix(f" of {self.name}")
            for piece in source.pieces(0, chunk_rows):
                n_pieces += 1
                if n_pieces > start:
                    yield piece._replace(stop=n_pieces, place=f"{place}, {piece.place}")

    def sources(self) -> Iterator[Source]:
        """Yield the batches, each as a source."""
        yield self.first
        for place, batch in self.batches:
            source = self.opened(place, batch)
            require_same(self.first, source)
            yield source
