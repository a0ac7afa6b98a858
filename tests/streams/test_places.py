"""Where files lie does not matter: all formats from memory, a web server, an object store and archives."""

import io
import logging

import numpy as np
import pytest
from support.command import main

import bnstream
from bnstream.streams.folders import RECORD
from bnstream.streams.sources.places import remote, retrying

pa = pytest.importorskip("pyarrow")
fsspec = pytest.importorskip("fsspec")

from pyarrow import parquet  # noqa: E402
from support.formats import CSV, FILES, TABLE, X, local, written  # noqa: E402
from support.passes import Stop, stop_after  # noqa: E402


@pytest.fixture
def memory():
    """The file system of fsspec in memory, emptied."""
    fs = fsspec.filesystem("memory")
    fs.rm("/", recursive=True)
    yield fs
    fs.rm("/", recursive=True)


@pytest.fixture(scope="module")
def store():
    """The options of an S3 object store on this machine, with a bucket."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    options = {"key": "name", "secret": "pass-word", "endpoint_url": "http://{}:{}".format(*running.get_host_and_port())}
    fsspec.filesystem("s3", **options).mkdir("bucket")
    yield options
    running.stop()


@pytest.mark.parametrize("name", FILES)
def test_every_format_in_memory(folder, memory, name):
    memory.pipe(f"/data/{name}", FILES[name])
    assert bnstream.fit(f"memory://data/{name}") == bnstream.fit(local(name, folder))


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("name", FILES)
def test_every_format_from_a_web_server(folder, web, name, ranges):
    web.files[f"/{name}"] = FILES[name]
    web.ranges = ranges
    assert bnstream.fit(f"{web.url}/{name}?signature=1") == bnstream.fit(local(name, folder))


@pytest.mark.parametrize("name", FILES)
def test_every_format_from_an_object_store(folder, store, name):
    fsspec.filesystem("s3", **store).pipe(f"bucket/{name}", FILES[name])
    assert bnstream.fit(f"s3://bucket/{name}", storage_options=store) == bnstream.fit(local(name, folder))


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("name", FILES)
def test_web_server_that_says_nothing_of_ranges(folder, web, name, ranges):
    """As ``python -m http.server``, which sends no parts."""
    web.files[f"/{name}"] = FILES[name]
    web.ranges, web.tells_ranges = ranges, False
    assert bnstream.fit(f"{web.url}/{name}") == bnstream.fit(local(name, folder))


def test_web_server_that_tells_no_size(folder, web):
    """A stream of unknown length is read in order."""
    web.tells_size = web.ranges = False
    for name in ("x.csv", "x.npy", "x.parquet"):
        web.files[f"/{name}"] = FILES[name]
        assert bnstream.fit(f"{web.url}/{name}") == bnstream.fit(local(name, folder))


def test_only_the_columns_asked_for_are_fetched(web, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.places.ranges.LEAST_BYTES", 1)
    monkeypatch.setattr("bnstream.streams.sources.places.ranges.BLOCK_BYTES", 1)
    table = pa.table({name: np.random.default_rng(0).random(90_000) for name in "abc"})
    content = written(lambda file: parquet.write_table(table, file, row_group_size=10_000))
    web.files["/x.parquet"] = content
    stored = [parquet.ParquetFile(io.BytesIO(content)).metadata.row_group(group).column(1) for group in range(9)]
    bnstream.fit(f"{web.url}/x.parquet", columns=["b"])
    fetched = {first for method, _, first in web.log if method == "GET"}
    starts = {column.dictionary_page_offset for column in stored}
    assert starts <= fetched
    assert min(fetched - starts) >= len(content) - (1 << 16)        # of the footer


def test_images(folder, web, memory):
    images = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(3):
        path = folder / "images" / f"{i}.png"
        images.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).save(path)
        memory.pipe(f"/images/{i}.png", path.read_bytes())
        web.files[f"/images/{i}.png"] = path.read_bytes()
    m = bnstream.fit(folder / "images")
    assert bnstream.fit("memory://images") == bnstream.fit("memory://images/*.png") == m
    assert bnstream.fit(f"{web.url}/images/") == m


@pytest.mark.parametrize("place", ["memory", "s3"])
def test_folders_and_globs(request, folder, place):
    """In the order of names, without hidden files."""
    options = request.getfixturevalue("store") if place == "s3" else {}
    fs = fsspec.filesystem(place, **options)
    names = ["2024/b.csv", "2024/a.csv", "2023/c.csv", ".hidden/d.csv", "_delta_log/e.csv", "2024/_f.csv", "2024/g.md"]
    for i, name in enumerate(names):
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"x\n{i}.5\n")
        fs.pipe(f"bucket/data/{name}", path.read_bytes())
    keywords = {"storage_options": options} if options else {}
    seen = []
    m = bnstream.fit(f"{place}://bucket/data", progress=lambda now: seen.append(now.source), **keywords)
    assert m == bnstream.fit("data")
    assert [name.rpartition("data/")[2] for name in seen] == ["2023/c.csv", "2024/a.csv", "2024/b.csv"]
    assert bnstream.fit(f"{place}://bucket/data/*/?.csv", **keywords) == bnstream.fit("data/*/?.csv")
    with pytest.raises(bnstream.SourceError, match=rf"^no file matches {place}://bucket/data/\*\.parquet$"):
        bnstream.fit(f"{place}://bucket/data/*.parquet", **keywords)
    fs.pipe("bucket/notes/notes.md", b"")
    with pytest.raises(bnstream.SourceError, match=rf"^the folder {place}://bucket/notes holds no file with a "):
        bnstream.fit(f"{place}://bucket/notes", **keywords)


def test_several_files_of_several_places(folder, memory, web):
    memory.pipe("/b.csv", b"x\n2\n")
    web.files["/c.csv"] = b"x\n6\n"
    (folder / "a.csv").write_text("x\n1\n")
    m = bnstream.fit(["a.csv", "memory://b.csv", f"{web.url}/c.csv"])
    assert (m.n, m.mean) == (3, 3)


def test_apply(folder, web):
    web.files["/x.parquet"] = FILES["x.parquet"]
    m = bnstream.fit(f"{web.url}/x.parquet")
    assert bnstream.apply(m, f"{web.url}/x.parquet", "y.parquet") == 900
    y = parquet.read_table("y.parquet")
    assert np.stack([y[name] for name in "abc"], axis=1) == pytest.approx((X - m.mean) / m.std(), abs=1e-9)


def test_paths_of_this_machine(folder):
    """A file that exists is no URL, and a URL of a file is its path."""
    for name in ("a::b.csv", "C:x.csv", "a b.csv"):
        (folder / name).write_text("x\n1\n3\n")
        assert bnstream.fit(name).mean == 2
    assert bnstream.fit((folder / "a b.csv").as_uri()).mean == 2
    with pytest.raises(bnstream.SourceError, match=r"^there is no file C:\\x.csv$"):
        bnstream.fit("C:\\x.csv")


@pytest.mark.parametrize(("url", "message"), [
    ("memory://x.csv", "there is no file memory://x.csv"),
    ("memory://x", "there is no file memory://x"),
    ("nothing://x.csv", "nothing://x.csv: fsspec knows no protocol nothing://; object stores are s3://, gs:// and az://"),
    ("zip://x.csv::memory://x.zip", "there is no file memory://x.zip"),
    ("simplecache::memory://x.csv", "there is no file simplecache::memory://x.csv"),
])
@pytest.mark.usefixtures("folder", "memory")
def test_what_is_not_there(url, message):
    with pytest.raises(bnstream.SourceError) as error:
        bnstream.fit(url)
    assert str(error.value) == message


def test_errors_of_an_object_store(store):
    url = "s3://bucket/none.csv"
    with pytest.raises(bnstream.SourceError, match=f"^there is no file {url}$"):
        bnstream.fit(url, storage_options=store)
    with pytest.raises(bnstream.SourceError, match=r"^there is no file s3://other/none\.csv$"):
        bnstream.fit("s3://other/none.csv", storage_options=store)
    with pytest.raises(bnstream.SourceError, match=f"^{url}: .*unexpected keyword argument 'nonsense'$"):
        bnstream.fit(url, storage_options={**store, "nonsense": 1})


def test_storage_options(folder, memory):
    memory.pipe("/x.csv", b"x\n1\n")
    assert bnstream.fit("memory://x.csv", storage_options={}).mean == 1
    (folder / "x.csv").write_text("x\n1\n")
    with pytest.raises(bnstream.SourceError, match=r"^x\.csv lies on this machine and takes no storage options; leave "
                                                   r"out storage_options= \(--storage-option\)$"):
        bnstream.fit("x.csv", storage_options={"secret": "pass-word"})
    with pytest.raises(bnstream.SourceError, match=r"^the array of shape \(1,\) takes no storage_options; leave it"):
        bnstream.fit(np.ones(1), storage_options={"secret": "pass-word"})


def test_no_record_holds_storage_options(folder, memory):
    for name in ("1.csv", "2.csv"):
        memory.pipe(f"/data/{name}", b"x\n1\n3\n")
    options = {"storage_options": {"secret": "pass-word"}}
    with pytest.raises(Stop):
        bnstream.apply(bnstream.fit("memory://data"), "memory://data", "out/", progress=stop_after(2), **options)
    record = (folder / "out" / RECORD).read_text()
    assert "1.csv" in record
    assert "pass-word" not in record


def test_storage_options_of_the_command(folder, store):
    """A value may be JSON."""
    fsspec.filesystem("s3", **store).pipe("bucket/x.csv", CSV)
    options = [f"{name}={value}" for name, value in {**store, "use_ssl": "false", "client_kwargs": "{}"}.items()]
    arguments = [argument for option in options for argument in ("--storage-option", option)]
    done = main("fit", "s3://bucket/x.csv", "-o", "out.npz", *arguments)
    assert done.returncode == 0, done.stderr
    assert bnstream.load("out.npz") == bnstream.fit(local("x.csv", folder))
    for wrong in ("secret", 3, ["secret"], [3]):
        with pytest.raises(TypeError, match=r"^storage_options \(--storage-option\) must be a mapping, or a list of "
                                            r"texts KEY=VALUE$"):
            bnstream.fit("s3://bucket/x.csv", storage_options=wrong)


def test_checkpoints_hold_no_secrets(folder, store):
    fs = fsspec.filesystem("s3", **store)
    fs.pipe("bucket/x.csv", CSV)

    def stop(now):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnstream.fit("s3://bucket/x.csv", "out.npz", storage_options=store, progress=stop)
    assert b"pass-word" not in (folder / "out.npz.checkpoint").read_bytes()
    m = bnstream.fit("s3://bucket/x.csv", "out.npz", storage_options={**store, "use_ssl": False}, resume=True)
    assert m == bnstream.fit(local("x.csv", folder))


@pytest.mark.parametrize(("url", "shown"), [
    ("https://user:pass@host/x.csv?sig=1#2", "https://host/x.csv"),
    ("https://token@host/x.csv", "https://host/x.csv"),
    ("zip://a.csv::https://user:pass@host/x.zip?sig=1", "zip://a.csv::https://host/x.zip"),
    ("https://host/a?sig=1::https://host/b?sig=1", "https://host/a::https://host/b"),
    ("s3://key:secret@bucket/a@b?.csv", "s3://bucket/a@b?.csv"),
    ("abfs://container@account.dfs.core.windows.net/a.csv", "abfs://container@account.dfs.core.windows.net/a.csv"),
    ("503, url='https://host/x.csv?sig=1'", "503, url='https://host/x.csv'"),
])
def test_secrets_are_not_shown(url, shown):
    assert retrying.without_secrets(url) == shown


def test_outputs_are_local(folder, memory):
    m = bnstream.Moments().update(X)
    for call in (lambda: bnstream.fit(X, "s3://bucket/x.npz"), lambda: bnstream.apply(m, X, "s3://bucket/x.npy")):
        with pytest.raises(ValueError, match=r"^s3://bucket/x.np. is a URL, but outputs are written to this machine; "):
            call()
    assert not list(folder.iterdir())


def test_datasets_of_pyarrow_are_marked(folder, memory):
    """A resumed pass notices other files of a data set, wherever they lie."""
    from pyarrow import dataset

    fs = fsspec.filesystem("memory")
    fs.pipe("/d/x.parquet", FILES["x.parquet"])
    source = dataset.dataset("d/x.parquet", filesystem=fs)

    def stop(now):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnstream.fit(source, "out.npz", progress=stop)
    fs.pipe("/d/x.parquet", written(lambda file: parquet.write_table(TABLE, file)))
    with pytest.raises(bnstream.SourceError, match="was made from"):
        bnstream.fit(dataset.dataset("d/x.parquet", filesystem=fs), "out.npz", resume=True)


def test_packages_that_are_missing(monkeypatch):
    def missing(*arguments, **keywords):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    for url, extra in (("s3://b/x", "s3"), ("gs://b/x", "gcs"), ("abfs://b/x", "azure"), ("sftp://h/x", "remote")):
        with pytest.raises(ModuleNotFoundError, match=rf"^reading {url} needs a package that is not installed; install "
                                                      rf'it with: pip install "bnstream\[{extra}\]"$'):
            remote.file_system(url, {})
