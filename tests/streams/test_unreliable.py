"""Web servers that fail: what passes is tried again, and what does not is said in one line. Nothing read is lost."""

import re

import pytest
from support.command import main

import bnstream
from bnstream.streams.sources.places import ranges
from bnstream.streams.sources.text import content

pytest.importorskip("pyarrow")

from support.formats import FILES, X, local


@pytest.fixture
def short(monkeypatch):
    """Requests so short that each file needs many."""
    monkeypatch.setattr(ranges, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(ranges, "LEAST_BYTES", 500)
    monkeypatch.setattr(content, "HEAD_BYTES", 500)


def once(fault, only=("GET", "HEAD")):
    """The fault, for the first request of every second range."""
    seen = {}

    def of_request(number, method, first):
        known = (method, first) in seen
        seen.setdefault((method, first), len(seen) % 2)
        return fault if not known and seen[method, first] and method in only else None

    return of_request


@pytest.mark.parametrize("fault", [503, 500, 429, "drop"])
@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.parquet", "x.npz"])
@pytest.mark.usefixtures("short")
def test_faults_that_pass(folder, web, name, fault):
    web.files[f"/{name}"] = FILES[name]
    web.fault = once(fault)
    assert bnstream.fit(f"{web.url}/{name}") == bnstream.fit(local(name, folder))
    assert len(set(web.log)) + 4 < len(web.log)


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.parquet"])
def test_faults_that_pass_without_ranges(folder, web, name):
    """The file is read again up to the place of the fault."""
    web.ranges = False
    web.files[f"/{name}"] = FILES[name]
    web.fault = once("drop", only=("GET",))
    assert bnstream.fit(f"{web.url}/{name}") == bnstream.fit(local(name, folder))


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.parquet", "x.arrow"])
@pytest.mark.usefixtures("short")
def test_faults_that_stay(folder, web, name):
    """The checkpoint is kept, and --resume continues."""
    web.files[f"/{name}"] = FILES[name]
    url = f"{web.url}/{name}"
    middle = 12_000
    web.fault = lambda number, method, first: 503 if (first or 0) > middle and len(web.log) > 12 else None
    done = main("fit", f"{url}?signature=secret", "-o", "out.npz")
    assert done.returncode == 1
    assert re.fullmatch(rf"bnstream: {url}, bytes [\d,]+ to [\d,]+: the server answers 503 Service Unavailable, after "
                        r"4 tries; the same call with resume=True \(--resume\) continues when the server is back\n",
                        done.stderr)
    assert (folder / "out.npz.checkpoint").exists()
    web.fault = lambda number, method, first: None
    web.log.clear()
    done = main("fit", f"{url}?signature=other", "-o", "out.npz", "--resume")
    assert done.returncode == 0, done.stderr
    bnstream.fit(local(name, folder), "whole.npz")
    assert (folder / "out.npz").read_bytes() == (folder / "whole.npz").read_bytes()
    assert not (folder / "out.npz.checkpoint").exists()


@pytest.mark.parametrize(("fault", "message"), [
    (503, "{url}: the server answers 503 Service Unavailable, after 4 tries"),
    (404, "there is no file {url}"),
    (403, "{url}: the server answers 403 Forbidden; give credentials with storage_options= (--storage-option), or for "
          "public data anon=true"),
    (400, "{url}: the server answers 400 Bad Request"),
])
def test_faults_at_the_start(folder, web, fault, message):
    web.files["/x.csv"] = FILES["x.csv"]
    web.fault = lambda number, method, first: fault
    url = f"{web.url}/x.csv"
    done = main("fit", f"{url}?signature=secret", "-o", "out.npz")
    assert (done.returncode, done.stderr) == (1, f"bnstream: {message.format(url=url)}\n")
    assert not list(folder.iterdir())


def test_no_server(web):
    web.server_close()
    with pytest.raises(bnstream.SourceError, match=r"x\.csv: .*(Cannot connect|Connect call failed).*, after 4 tries$"):
        bnstream.fit(f"{web.url}/x.csv")


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.parquet"])
@pytest.mark.usefixtures("short", "folder")
def test_a_file_that_changes(web, name):
    """An ETag that is another at the end is noticed."""
    web.files[f"/{name}"] = FILES[name]

    def change(number, method, first):
        web.salt = number > 10
        return

    web.fault = change
    with pytest.raises(bnstream.SourceError, match=rf"^{web.url}/{name} changed while it was read; start again when"):
        bnstream.fit(f"{web.url}/{name}")


@pytest.mark.usefixtures("short", "folder")
def test_a_file_that_shrinks(web):
    web.files["/x.npy"] = FILES["x.npy"]

    def shrink(number, method, first):
        web.files["/x.npy"] = FILES["x.npy"][:10_000 if number > 10 else None]

    web.fault = shrink
    with pytest.raises(bnstream.SourceError, match=r"x\.npy, bytes .*: the server sent [\d,]+ bytes; the file changed"):
        bnstream.fit(f"{web.url}/x.npy")


@pytest.mark.usefixtures("folder")
def test_a_server_that_only_claims_ranges(web):
    """It answers with the whole file, which is then read in order."""
    web.files["/x.npy"] = FILES["x.npy"]
    web.ranges, web.claims_ranges = False, True
    assert bnstream.fit(f"{web.url}/x.npy", exact=True) == bnstream.fit(X, exact=True)


@pytest.mark.usefixtures("short")
def test_a_file_without_a_version(folder, web):
    """No checkpoint is kept, because a resumed pass could not tell that the file is the same."""
    web.files["/x.csv"] = FILES["x.csv"]
    web.tells_version = False
    url = f"{web.url}/x.csv"

    def stop(now):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bnstream.fit(url, "out.npz", progress=stop)
    assert not list(folder.iterdir())
    with pytest.raises(bnstream.SourceError, match=rf"^{url} has no version, an ETag or a time, by which a resumed"):
        bnstream.fit(url, "out.npz", resume=True)
    last = len(FILES["x.csv"]) - 1      # which is asked for to find out about ranges
    web.fault = lambda number, method, first: 503 if first and 12_000 < first < last else None
    with pytest.raises(bnstream.SourceError, match=r"4 tries; start again when the server is back$") as error:
        bnstream.fit(url, "out.npz")
    assert "--resume" not in str(error.value)
