"""Members of archives as sources, and archives as folders."""

import io
import os
import tarfile
import time

import numpy as np
import pytest
from support.command import main

import bnstream
from bnstream.streams.sources.places import remote

pytest.importorskip("pyarrow")
fsspec = pytest.importorskip("fsspec")

from support.formats import FILES, X, local, zipped  # noqa: E402


def tarred(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, member in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(member)
            archive.addfile(info, io.BytesIO(member))
    return content.getvalue()


ARCHIVES = {"zip": zipped, "tar": tarred}
PARTS = [X[:300], X[300:]]


def two_parts(suffix):
    """Two files, and what tools leave beside them."""
    def content(x):
        if suffix == "npy":
            file = io.BytesIO()
            np.save(file, x)
            return file.getvalue()
        lines = [",".join(map(repr, row)) for row in x.tolist()]
        return "\n".join(["a,b,c", *lines, ""]).encode()

    return {f"data/1.{suffix}": content(PARTS[0]), f"data/2.{suffix}": content(PARTS[1]),
            f"__MACOSX/data/._1.{suffix}": b"...", "data/.DS_Store": b"...", "README.md": b"..."}


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("name", FILES)
def test_every_format(folder, kind, name):
    (folder / f"archive.{kind}").write_bytes(ARCHIVES[kind]({f"folder/{name}": FILES[name]}))
    assert bnstream.fit(f"{kind}://folder/{name}::archive.{kind}") == bnstream.fit(local(name, folder))


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_an_archive_is_a_folder(folder, web, kind, suffix):
    content = ARCHIVES[kind](two_parts(suffix))
    path = folder / f"archive.{kind}"
    path.write_bytes(content)
    web.files[f"/archive.{kind}"] = content
    m = bnstream.fit(str(path))
    expected = bnstream.fit(PARTS)
    assert m.n.tolist() == expected.n.tolist()
    assert m.mean == pytest.approx(expected.mean, rel=1e-15)
    assert bnstream.fit(f"{web.url}/archive.{kind}") == m
    assert bnstream.fit(f"{kind}://data/*.{suffix}::archive.{kind}") == m
    assert bnstream.fit(f"{kind}://data::{web.url}/archive.{kind}") == m
    bnstream.apply(bnstream.Moments().update(X) if suffix == "npy" else m, path, f"y.{suffix}")
    y = np.load("y.npy") if suffix == "npy" else np.loadtxt("y.csv", delimiter=",", skiprows=1)
    assert y == pytest.approx((X - X.mean(axis=0)) / X.std(axis=0), abs=1e-9)


def test_faults_of_its_server_pass(folder, web):
    web.files["/archive.zip"] = zipped(two_parts("csv"))
    m = bnstream.fit(f"{web.url}/archive.zip")
    seen = set()

    def fault(number, method, first):
        new = (method, first) not in seen
        seen.add((method, first))
        return 503 if new else None

    web.fault = fault
    assert bnstream.fit(f"{web.url}/archive.zip") == m


def test_resume(folder):
    path = folder / "archive.zip"
    path.write_bytes(zipped(two_parts("csv")))

    def stop(now):
        raise KeyboardInterrupt

    for change in (False, True):
        with pytest.raises(KeyboardInterrupt):
            bnstream.fit("archive.zip", "out.npz", progress=stop, restart=True)
        if change:
            os.utime(path, (0, 0))
            with pytest.raises(bnstream.SourceError, match="resume with the same sources"):
                bnstream.fit("archive.zip", "out.npz", resume=True)
        else:
            assert bnstream.fit("archive.zip", "out.npz", resume=True) == bnstream.fit("archive.zip")


@pytest.mark.parametrize(("members", "message"), [
    ({"a.csv": b"x\n1\n", "b.npy": FILES["x.npy"]}, "bnstream: the files have different formats, such as "
     "zip://a.csv::archive.zip and zip://b.npy::archive.zip; process each format separately and merge the "),
    ({"a.txt": b"..."}, "bnstream: archive.zip holds no file with a supported suffix: .npy"),
    (None, "bnstream: archive.zip is no .zip archive, or is damaged: File is not a zip file\n"),
])
def test_what_is_refused(folder, members, message):
    (folder / "archive.zip").write_bytes(b"no archive" if members is None else zipped(members))
    done = main("fit", "archive.zip", "-o", "out.npz")
    assert done.returncode == 1
    assert done.stderr.startswith(message)


def test_the_archive_is_not_replaced(folder):
    content = zipped(two_parts("csv"))
    (folder / "archive.zip").write_bytes(content)
    (folder / "link.npz").symlink_to("archive.zip")
    with pytest.raises(ValueError, match=r"^link\.npz is one of the sources and would be replaced"):
        bnstream.fit("archive.zip", "link.npz")
    assert (folder / "archive.zip").read_bytes() == content


def test_what_is_not_there(folder):
    (folder / "archive.zip").write_bytes(zipped({"a.csv": b"x\n1\n"}))
    for path, message in (("none.zip", "there is no file none.zip"),
                          ("zip://b.csv::archive.zip", "there is no file zip://b.csv::archive.zip"),
                          ("zip://a.csv::none.zip", "there is no file none.zip"),
                          ("zip://a.csv::*.zip.*", "no file matches *.zip.*")):
        with pytest.raises(bnstream.SourceError) as error:
            bnstream.fit(path)
        assert str(error.value) == message


def test_shards(folder):
    """Several archives are as many folders, also where a glob names them."""
    for i, part in enumerate(PARTS):
        file = io.BytesIO()
        np.save(file, part)
        (folder / f"shard-{i}.tar").write_bytes(tarred({"x.npy": file.getvalue(), "x.cls": b"1"}))
    m = bnstream.fit(X)
    assert bnstream.fit("shard-*.tar", exact=True) == bnstream.fit(X, exact=True)
    np.testing.assert_allclose(bnstream.fit(["shard-0.tar", "shard-1.tar"]).mean, m.mean, rtol=1e-14)
    (folder / "none.tar").write_bytes(tarred({"x.cls": b"1"}))
    with pytest.raises(bnstream.SourceError, match=r"^none\.tar holds no file with a supported suffix: "):
        bnstream.fit("*.tar")


@pytest.mark.parametrize("kind", ARCHIVES)
def test_members_are_read_one_at_a_time(folder, kind, monkeypatch):
    """The members of an archive share its file, and each moves it to its place."""
    image = pytest.importorskip("PIL.Image")
    png = io.BytesIO()
    image.new("L", (3, 4)).save(png, "png")
    (folder / f"a.{kind}").write_bytes(ARCHIVES[kind]({f"{i}.png": png.getvalue() for i in range(20)}))
    n_reading, most = 0, 0
    persist = remote.RemoteFile.persist

    def counted(self, read, place):
        nonlocal n_reading, most
        n_reading += 1
        most = max(most, n_reading)
        time.sleep(1e-4)        # lets another thread begin
        got = persist(self, read, place)
        n_reading -= 1
        return got

    monkeypatch.setattr(remote.RemoteFile, "persist", counted)
    assert bnstream.fit(f"a.{kind}", n_threads=4).n == 20 * 12
    assert most == 1


def test_archives_that_are_not_read(folder):
    """No format= would read them."""
    (folder / "x.tar.gz").write_bytes(b"x")
    with pytest.raises(bnstream.SourceError, match=r"^x.tar.gz is an archive of another kind .*; unpack it"):
        bnstream.fit("x.tar.gz")


def test_a_glob_of_folders(folder):
    (folder / "year=2024").mkdir()
    with pytest.raises(bnstream.SourceError, match=r"^no file matches year=\*, only folders do; give year=\*/\*$"):
        bnstream.fit("year=*")
