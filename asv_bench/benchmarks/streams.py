"""fit and apply of files, beside a plain read of them, and beside peers that compute mean and variance. All have two
threads unless another number is given."""

from functools import partial
from pathlib import Path

import bnstream

from . import files
from .base import Timed, named, once
from .data import need, set_num_threads
from .timing import optional

NPY, SHAPE = "x.npy", (262144, 256)         # 256 MiB, in the temporary folder that asv makes for setup_cache
TABLES = {"Parquet": "x.parquet", "CSV": "x.csv"}
SMALL = {"Parquet": "small-parquet", "CSV": "small-csv"}
POLICIES = {"Parquet": "omit", "CSV": "raise"}


class Npy(Timed):
    """float32."""

    repeat = (3, 10, 1.0)

    def setup_cache(self):
        files.make_npy(NPY, SHAPE)


class FitNpy(Npy):
    params = ([1, 2],)
    param_names = ("threads",)

    @once
    def setup(self, threads):
        self.call = files.by_bnstream(NPY, threads)

    @named("fit, .npy of 256 MiB")
    def time_fit(self, threads):
        self.call()


class ReadNpy(Npy):
    """With a buffer of 1 MiB, on one thread."""

    @once
    def setup(self):
        self.call = files.plainly(NPY)

    @named("fit, .npy of 256 MiB, plainly read")
    def time_read(self):
        self.call()


class ApplyNpy(Npy):
    """To another file of 256 MiB."""

    @once
    def setup(self):
        need("apply")
        self.state = files.by_bnstream(NPY)()

    @named("apply, .npy of 256 MiB to .npy")
    def time_apply(self):
        bnstream.apply(self.state, NPY, "y.npy")


class ApplyParquet(Timed):
    """A million rows of 16 columns, to another file."""

    repeat = (3, 10, 1.0)
    params = (["bnstream", "polars"],)
    param_names = ("by",)

    def setup_cache(self):
        if optional("pyarrow"):
            files.make_parquet(TABLES["Parquet"], 1_000_000)

    @once
    def setup(self, by):
        files.installed("pyarrow")
        way = {"bnstream": files.apply_by_bnstream, "polars": files.apply_by_polars}[by]
        self.call = way(TABLES["Parquet"], "y.parquet")

    @named("apply, Parquet to Parquet")
    def time_apply(self, by):
        self.call()


class MemoryOfNpy(Npy):
    params = (["imports alone", "fit"],)
    param_names = ("call",)

    def setup(self, call):
        need("fit")
        set_num_threads(2)

    @named("peak memory, fit of .npy of 256 MiB")
    def peakmem_fit(self, call):
        if call == "fit":
            bnstream.fit(NPY)


class Tables(Timed):
    """16 columns: Parquet of a million rows, with 5 % missing in a quarter of the columns, and CSV of 40 MB."""

    repeat = (3, 10, 1.0)
    params = (list(TABLES), ["bnstream", *files.PEERS])
    param_names = ("of", "by")

    def setup_cache(self):
        if optional("pyarrow"):
            files.make_parquet(TABLES["Parquet"], 1_000_000, missing=0.05)
            files.make_csv(TABLES["CSV"], 200_000)

    @once
    def setup(self, of, by):
        files.installed("pyarrow")
        ways = {"bnstream": partial(files.by_bnstream, nan_policy=POLICIES[of])} | files.PEERS
        self.call = ways[by](TABLES[of])

    @named("fit, tables")
    def time_table(self, of, by):
        self.call()


class SmallFiles(Timed):
    """1,000 files of 1,000 rows and 16 columns, beside polars."""

    repeat = (3, 10, 1.0)
    params = (list(TABLES), ["bnstream", "polars"])
    param_names = ("of", "by")

    def setup_cache(self):
        if optional("pyarrow"):
            files.make_small(SMALL["Parquet"], ".parquet", 1000, 1000)
            files.make_small(SMALL["CSV"], ".csv", 1000, 1000)

    @once
    def setup(self, of, by):
        files.installed("pyarrow")
        ways = {"bnstream": partial(files.by_bnstream, nan_policy="omit"), "polars": files.PEERS["polars"]}
        self.call = ways[by](SMALL[of] if by == "bnstream" else f"{SMALL[of]}/*{Path(TABLES[of]).suffix}")

    @named("fit, 1,000 small files")
    def time_small(self, of, by):
        self.call()


class Grids(Timed):
    """HDF5 and Zarr, compressed: float32 of 64 MiB in chunks of 1 MiB, beside reading each chunk once."""

    repeat = (3, 10, 1.0)
    params = (list(files.GRIDS), ["bnstream", "reading the chunks"])
    param_names = ("of", "by")

    def setup_cache(self):
        for suffix, library in files.GRIDS.items():
            if optional(library):
                files.make_grid(f"grid{suffix}", (65536, 256), (1024, 256))

    @once
    def setup(self, of, by):
        files.installed(files.GRIDS[of])
        ways = {"bnstream": files.by_bnstream, "reading the chunks": files.by_chunks}
        self.call = ways[by](f"grid{of}", 2)

    @named("fit, HDF5 and Zarr")
    def time_grid(self, of, by):
        self.call()
