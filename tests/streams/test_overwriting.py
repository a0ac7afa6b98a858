"""Outputs replace what they may: a state a state, and anything else where the caller insists."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.command import invoke
from support.passes import Stop, stop_after, write

import bnstream
from bnstream import apply, fit, load, save
from bnstream.statefiles import is_state, read
from bnstream.statefiles import write as write_state

X = np.arange(12.0).reshape(6, 2)


@pytest.fixture
def files(folder):
    """A source, statistics of it, and a file of somebody else."""
    np.save("x.npy", X)
    fit("x.npy", "s.npz")
    save("s.npy", load("s.npz"))
    Path("precious.csv").write_text("a\n1\n")
    return folder


def test_a_state_replaces_a_state(files):
    for path in ("s.npz", "s.npy"):
        fit("x.npy", path, channel_axis=0)
        assert load(path).shape == (6,)
    write_state("old", load("s.npz"), progress={})       # a checkpoint, under a name that is not one
    assert is_state("old")
    fit("x.npy", "old")
    assert load("old") == fit(X)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("out", "message"), [
    ("precious.csv", r"precious\.csv exists and is not a state file; give another name, or replace it with force=True"),
    ("empty.npz", r"empty\.npz exists and is not a state file"),
    ("x.npy", r"x\.npy is one of the sources and would be replaced; give another name, or replace it with force=True"),
    ("./x.npy", r"x\.npy is one of the sources"), ("link.npy", r"link\.npy is one of the sources"),
    ("hard.npy", r"hard\.npy is one of the sources"),
])
def test_fit_replaces_nothing_by_mistake(out, message, force, files):
    Path("empty.npz").touch()
    Path("link.npy").symlink_to("x.npy")
    Path("hard.npy").hardlink_to("x.npy")
    before = Path(out).read_bytes()
    if force:
        m = fit("x.npy", out, force=True)
        assert load(out) == m == fit(X)
        assert Path("link.npy").is_symlink()
        return
    with pytest.raises((ValueError, FileExistsError), match=message):
        fit("x.npy", out)
    assert Path(out).read_bytes() == before
    assert not list(Path().glob("*.checkpoint"))


@pytest.mark.parametrize(("out", "message"), [
    ("y.npy", r"^y\.npy exists; give another name, or replace it with force=True \(--force\)$"),
    ("s.npy", r"^s\.npy is one of the sources and would be replaced"),
    ("x.npy", r"^x\.npy is one of the sources and would be replaced"),
])
def test_apply_replaces_nothing_by_mistake(out, message, files):
    apply("s.npz", "x.npy", "y.npy")
    y = np.load("y.npy")
    before = Path(out).read_bytes()
    with pytest.raises((ValueError, FileExistsError), match=message):
        apply("s.npy", "x.npy", out, force=False)
    if out == "y.npy":
        apply("s.npy", "x.npy", out)        # In Python an older output is replaced, as by numpy.save.
    else:
        with pytest.raises(ValueError, match=message):
            apply("s.npy", "x.npy", out)
    assert Path(out).read_bytes() == before
    apply("s.npy", "x.npy", out, force=True)
    assert np.load(out).tolist() == y.tolist()


def test_what_is_no_file_is_written_to(files):
    if not Path("/dev/null").exists():
        pytest.skip("there is no /dev/null")
    fit("x.npy", "/dev/null")
    assert invoke("merge", "s.npz", "-o", "/dev/null").exit_code == 0


@pytest.mark.parametrize(("command", "outs"), [
    (("fit", "x.npy"), ["precious.csv", "x.npy"]), (("apply", "s.npz", "x.npy"), ["s.npy", "x.npy", "y.npy"]),
    (("merge", "s.npz"), ["precious.csv"]), (("subtract", "whole", "part"), ["precious.csv"]),
    (("convert", "s.npz"), ["precious.csv", "s.npz"]), (("convert", "s.npz", "--to", "keras"), ["other.npz", "s.npz"]),
    (("plot", "s.npz"), ["old.png"]),
], ids=str)
def test_commands(command, outs, files):
    if command[0] == "plot":
        pytest.importorskip("matplotlib")
    save("whole", fit(X, exact=True))
    save("part", fit(X[:3], exact=True))
    save("other.npz", load("s.npz"))
    for name in ("y.npy", "old.png"):
        Path(name).write_text("old")
    for out in outs:
        before = Path(out).read_bytes()
        refused = invoke(*command, "-o", out)
        assert str(refused.exception).endswith("or replace it with force=True (--force)")
        assert Path(out).read_bytes() == before
    before = Path(outs[0]).read_bytes()
    assert invoke(*command, "-o", outs[0], "--force").exit_code == 0
    assert Path(outs[0]).read_bytes() != before


def folder_of_data():
    Path("data").mkdir()
    for stem, part in zip("ab", np.split(X, 2), strict=True):
        write(".csv", part, f"data/{stem}")
    return fit(["data/a.csv", "data/b.csv"])


@pytest.mark.parametrize("source", ["data", "data/*", ["data/a.csv", "data/b.csv", "data/stats.npz"]], ids=str)
def test_an_output_among_the_data(source, folder):
    """The second pass gives what the first gave."""
    wanted = folder_of_data()
    if isinstance(source, str):
        assert fit(source, "data/stats.npz") == wanted
    save("data/stats.npz", wanted)
    before = Path("data/stats.npz").read_bytes()
    assert fit(source, "data/stats.npz") == wanted
    assert Path("data/stats.npz").read_bytes() == before


def test_states_in_folders_are_not_read(folder):
    wanted = folder_of_data()
    save("data/stats.npz", wanted)
    with pytest.raises(Stop):
        fit("data/a.csv", "data/stop.npz", progress=stop_after(1))
    assert Path("data/stop.npz.checkpoint").exists()
    for options in ({}, {"format": "csv"}):
        assert fit("data", **options) == wanted
    with pytest.raises(bnstream.SourceError, match=r"data/stats\.npz holds more than arrays, as state files do; leave"):
        fit(["data/a.csv", "data/stats.npz"])
    for name in "ab":
        Path(f"data/{name}.csv").unlink()
    with pytest.raises(bnstream.SourceError, match="data holds only state files and the output; give files of data"):
        fit("data")


@pytest.mark.parametrize(("sources", "message"), [
    (["data/a.csv"] * 2, r"^data/a\.csv is named twice, and would be counted twice; name each file once$"),
    (["data/a.csv", "data"],
     r"^data/a\.csv is named twice, by data/a\.csv and by data, and would be counted twice; name each file once$"),
    (["data", "data/../data/b.csv"], r"^data/b\.csv and data/\.\./data/b\.csv are one file, which is named twice, by"),
    (["data/*.csv", "data/b*"], r"^data/b\.csv is named twice, by data/\*\.csv and by data/b\*, and would be"),
    (["data", "link.csv"], r"^data/a\.csv and link\.csv are one file, which is named twice, by data and by link\.csv,"),
    (["data", "hard.csv"], r"^data/a\.csv and hard\.csv are one file"),
    ("*.csv", None), ("store", None), ("latest", r"^latest/2\.csv and latest/last\.csv are one file, which is named "
                                                 "twice, by latest, and would be counted twice"),
], ids=str)
def test_a_file_named_twice(sources, message, folder):
    """Two entries of one folder that are links to a file elsewhere are two files, as in stores of equal files."""
    folder_of_data()
    Path("hard.csv").hardlink_to("data/a.csv")
    Path("link.csv").symlink_to("data/a.csv")
    for name in ("store", "latest"):
        Path(name).mkdir()
    for i in range(2):
        Path(f"store/{i}.csv").symlink_to("../data/a.csv")
    write(".csv", X, "latest/2")
    Path("latest/last.csv").symlink_to("2.csv")
    if message is None:
        assert set(fit(sources).n.tolist()) == {6}
        return
    for call in (lambda: fit(sources), lambda: apply(fit("data"), sources, "y.npy")):
        with pytest.raises(bnstream.SourceError, match=message):
            call()


@pytest.mark.parametrize("out", ["data/y.csv", "data/sub/y.parquet"])
def test_apply_into_the_folder_of_its_source(out, folder):
    m = folder_of_data()
    Path("data/sub").mkdir()
    message = rf"^{out} would lie in data, which is a source, and the next pass would take it for data; give another"
    with pytest.raises(ValueError, match=message):
        apply(m, "data", out)
    for _ in range(2):
        assert apply(m, "data", out, force=True) == len(X)
    assert apply(m, "data/*.csv", "data/_y.csv") == (2 if out == "data/y.csv" else 1) * len(X)


def test_apply_onto_one_of_several_sources(folder):
    m = folder_of_data()
    with pytest.raises(ValueError, match=r"^data/b\.csv is one of 2 sources, and would be normalized again"):
        apply(m, ["data/a.csv", "data/b.csv"], "data/b.csv", force=True)


def faulty():
    """A pass over three files that has read two of them; the third has a fault."""
    files = [write(".parquet", X, stem) for stem in "12"]
    files.append(write(".parquet", np.array([[1, np.nan]]), "3"))
    with pytest.raises(bnstream.SourceError, match=r"3\.parquet"):
        fit(files, "out", checkpoint_every=0)
    assert "3.parquet" in read("out.checkpoint").metadata["progress"]["fault"]
    return files


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"restart": True}, {"columns": ["a"]}], ids=str)
def test_a_mended_file(options, folder):
    """Neither the plain call nor one that resumes is in the way; a plain one with other arguments begins anew."""
    files = faulty()
    if "columns" not in options:
        write(".parquet", X[:4], "3")
    seen = []
    m = fit(files, "out", progress=seen.append, **options)
    assert m == fit(files, columns=options.get("columns"))
    assert m == load("out")
    assert {now.source for now in seen} == ({files[2]} if "resume" in options else set(files))
    assert not Path("out.checkpoint").exists()


def test_a_fault_that_stays(folder):
    files = faulty()
    before = Path("out.checkpoint").read_bytes()
    message = (r"there is a checkpoint, out\.checkpoint, of a pass that ended at a fault \(3\.parquet, .*\); resume "
               r"from it with resume=True \(--resume\), or begin anew with restart=True \(--restart\)$")
    with pytest.raises(bnstream.SourceError, match=message):
        fit(files, "out")
    os.utime("2.parquet", ns=(1, 1))        # which was read
    with pytest.raises(bnstream.SourceError, match=r"was made from \['2\.parquet'.*or begin anew with restart=True"):
        fit(files, "out", resume=True)
    assert Path("out.checkpoint").read_bytes() == before


def test_restart_of_an_interrupted_pass(folder):
    path = write(".npy", X)
    with pytest.raises(Stop):
        fit(path, "out", progress=stop_after(1))
    Path("out.checkpoint").write_bytes(b"damaged")
    assert fit(path, "out", restart=True) == fit(path)
    assert not Path("out.checkpoint").exists()
    with pytest.raises(ValueError, match=r"resume=True \(--resume\) continues .* restart=True \(--restart\) begins"):
        fit(path, "out", restart=True, resume=True)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_statistics_of_grids_are_written_by_xarray(suffix, folder):
    with pytest.raises(ValueError, match=r"^out is a state file, as stats\.npz, got s\.\w+; for NetCDF or Zarr, "):
        fit(np.ones((3, 2)), f"s{suffix}")
