"""Sources: anything that holds a stream, read as batches of named channels and never as a whole.

    path, folder or glob -> places/, files.py: one source for each file --> text/   (CSV, JSON)
                                                                          tables/ (Parquet, Arrow, ORC, Avro, Excel)
                                                                          arrays/ (.npy, .npz, images, HDF5, NetCDF,
                                                                                   Zarr)
    table of another library, query of DuckDB --------------------------> tables/frames.py
    array in memory ----------------------------------------------------> arrays/array.py
    array read by slices, Dataset --------------------------------------> arrays/grid.py
    iterable of these, or of mappings with arrays ----------------------> iterables.py

Images are one source, and so are many small tables (smallfiles.py). A source is divided into pieces. The thread that
works on a piece also loads it: it reads, decompresses and decodes the piece into arrays or pyarrow record batches.
Reading can resume wherever a piece stops: the pieces that follow are those of an uninterrupted read.
"""

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.opening import open_sources
from bnstream.streams.sources.options import Reading, options_of
from bnstream.streams.sources.source import Piece, Source, Wanted

__all__ = ["Piece", "Reading", "Source", "SourceError", "Wanted", "open_sources", "options_of"]
