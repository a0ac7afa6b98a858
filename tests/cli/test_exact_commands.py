"""Exact statistics by the command: fit --exact, merge in any order, subtract, and the digest that show prints."""

import itertools
import json

import numpy as np
import pytest
from support.arrays import normal, rng
from support.command import invoke, main

import bnstream
from bnstream import Moments
from bnstream.cli.options import naming
from bnstream.statefiles import write as write_state

X = normal((60, 3)) * 10.0 ** rng(1).integers(-200, 200, (60, 3))
PARTS = {"1": X[:11], "2": X[11:50], "3": X[50:]}


def done(*arguments):
    result = invoke(*map(str, arguments))
    assert result.exit_code == 0, result.output
    return result


def digest_of(path):
    return json.loads(done("show", path, "--json").stdout)["digest"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """All rows and three parts of them, as .npy files and as state files of `fit --exact`."""
    monkeypatch.chdir(tmp_path)
    for name, x in {"whole": X, **PARTS}.items():
        np.save(f"{name}.npy", x)
        done("fit", f"{name}.npy", "-o", f"{name}.npz", "--exact")
    return tmp_path


def test_fit(folder):
    """The same file for any cut and order."""
    m = bnstream.load("whole.npz")
    assert m == Moments(exact=True).update(X)
    for files in itertools.permutations(f"{name}.npy" for name in PARTS):
        result = done("fit", *files, "-o", "cut.npz", "--exact", "--chunk-rows", "7")
        assert result.stderr == "cut.npz: 3 channels, n = 60\n"
        assert (folder / "cut.npz").read_bytes() == (folder / "whole.npz").read_bytes()
    done("fit", "1.npy", "-o", "plain.npz")
    assert not bnstream.load("plain.npz").exact


def test_fit_with_weights(folder):
    """A row of weight 3 counts like three rows, and its file is a part like theirs."""
    lines = ["1,0.1", "2,0.2", "3,", "4,0.4"]
    for name, times in (("w", (3, 0, 5, 1)), ("once", (1, 1, 1, 1)), ("twice", (2, 0, 4, 0))):
        rows = [f"{line},{weight}\n" for line, weight in zip(lines, times, strict=True)]
        (folder / f"{name}.csv").write_text("".join(["a,b,w\n", *rows]), encoding="utf-8")
        repeats = [f"{line}\n" for line, weight in zip(lines, times, strict=True) for _ in range(weight)]
        (folder / f"{name}-rows.csv").write_text("".join(["a,b\n", *repeats]), encoding="utf-8")
        done("fit", f"{name}.csv", "-o", f"{name}.npz", "--exact", "--nan", "omit", "--weights", "w")
        done("fit", f"{name}-rows.csv", "-o", f"{name}-rows.npz", "--exact", "--nan", "omit")
        assert (folder / f"{name}.npz").read_bytes() == (folder / f"{name}-rows.npz").read_bytes()
    done("subtract", "w.npz", "twice.npz", "-o", "rest.npz")
    assert bnstream.load("rest.npz").n.tolist() == [3, 2]
    done("merge", "rest.npz", "twice-rows.npz", "-o", "again.npz")
    assert (folder / "again.npz").read_bytes() == (folder / "w.npz").read_bytes()


def test_options_in_errors():
    """An error names the option where it names an argument, unless the option is there already."""
    for error, message in (
        (ValueError("leave exact=True, or exact=True"), "leave exact=True (--exact), or exact=True (--exact)"),
        (bnstream.SourceError("use exact=True (--exact)"), "use exact=True (--exact)"),
        (ValueError("with exact=False"), "with exact=False"),
    ):
        with pytest.raises(ValueError) as raised, naming({"exact=True": "--exact"}):
            raise error
        assert str(raised.value) == message
        assert raised.value.__cause__ is error
    with pytest.raises(TypeError, match=r"^exact=True$"), naming({"exact=True": "--exact"}):
        raise TypeError("exact=True")


def test_the_digest_names_the_data(folder):
    digest = bnstream.load("whole.npz").digest()
    assert digest_of("whole.npz") == digest
    assert done("show", "whole.npz").stdout.endswith(f"\nexact, digest {digest}\n")
    other = X.copy()
    other[20, 2] = np.nextafter(other[20, 2], np.inf)
    np.save("whole.npy", other)
    done("fit", "whole.npy", "-o", "other.npz", "--exact")
    assert digest_of("other.npz") != digest
    bnstream.save("plain.npz", Moments().update(X))
    assert "digest" not in json.loads(done("show", "plain.npz", "--json").stdout)
    assert "digest" not in done("show", "plain.npz").stdout


def test_merge_in_any_order(folder):
    for paths in itertools.permutations(f"{name}.npz" for name in PARTS):
        done("merge", *paths, "-o", "all.npz")
        assert (folder / "all.npz").read_bytes() == (folder / "whole.npz").read_bytes()
    done("merge", "1.npz", "2.npz", "-o", "1.npz")      # The output may be one of the parts.
    done("merge", "3.npz", "1.npz", "-o", "all.npz")
    assert digest_of("all.npz") == digest_of("whole.npz")


def test_merge_of_other_settings_in_any_order(folder):
    """Policies, batch axes and names, which an object would keep as it has them."""
    table, holes, images = X[:4, :2], np.array([[np.nan, 1.0], [2.0, np.inf]]), X[:12, :2].reshape(2, 2, 3, 2)
    bnstream.save("table.npz", Moments(exact=True, names=["a", "b"]).update(table))
    bnstream.save("arrays.npz", Moments((0,), exact=True, nan_policy="omit").update(holes))
    bnstream.save("images.npz", Moments((0, 1, 2), exact=True).update(images))
    bnstream.save("empty.npz", Moments(exact=True))
    bnstream.save("NaN.npz", Moments(exact=True, nan_policy="propagate").update(holes))
    for paths in (["table.npz", "arrays.npz", "images.npz", "empty.npz"], ["table.npz", "NaN.npz", "arrays.npz"]):
        found = set()
        for order in itertools.permutations(paths):
            done("merge", *order, "-o", "all.npz")
            found.add((folder / "all.npz").read_bytes())
        assert len(found) == 1
        m = bnstream.load("all.npz")
        assert m.names == ("a", "b")
        assert (m.axis, m.nan_policy) == ((0, 1, 2), "omit") if "images.npz" in paths else (0, "propagate")


def test_merge_of_plain_statistics_is_as_it_was(folder):
    """In the order of the arguments, with the bits of `Moments.merge`."""
    total = Moments()
    for name, x in PARTS.items():
        bnstream.save(f"plain{name}.npz", Moments().update(x))
        total.merge(Moments().update(x))
    done("merge", *(f"plain{name}.npz" for name in PARTS), "-o", "all.npz")
    bnstream.save("total.npz", total)
    assert (folder / "all.npz").read_bytes() == (folder / "total.npz").read_bytes()


def test_subtract(folder):
    """What is left is what fit computes of the other data."""
    done("subtract", "whole.npz", "3.npz", "1.npz", "-o", "rest.npz")
    assert (folder / "rest.npz").read_bytes() == (folder / "2.npz").read_bytes()
    done("subtract", "whole.npz", "2.npz", "-o", "rest.npz")
    done("merge", "2.npz", "rest.npz", "-o", "again.npz")
    assert (folder / "again.npz").read_bytes() == (folder / "whole.npz").read_bytes()
    done("subtract", "whole.npz", "1.npz", "-o", "whole.npz")
    done("merge", "3.npz", "2.npz", "-o", "both.npz")
    assert (folder / "whole.npz").read_bytes() == (folder / "both.npz").read_bytes()


def test_subtract_everything(folder):
    done("subtract", "whole.npz", "whole.npz", "-o", "nothing.npz")
    nothing = bnstream.load("nothing.npz")
    assert nothing.n.tolist() == [0, 0, 0]
    assert np.isnan(nothing.mean).all()
    done("merge", "nothing.npz", "whole.npz", "-o", "again.npz")
    done("subtract", "whole.npz", "nothing.npz", "-o", "same.npz")
    for path in ("again.npz", "same.npz"):
        assert (folder / path).read_bytes() == (folder / "whole.npz").read_bytes()


def test_subtract_keeps_names_and_what_is_unknown(folder):
    """A part without names is taken as one with those of the whole."""
    bnstream.save("named.npz", Moments(exact=True, names=["a", "b", "c"]).update(X))
    done("subtract", "named.npz", "1.npz", "-o", "rest.npz")
    assert bnstream.load("rest.npz").names == ("a", "b", "c")
    write_state("imported.npz", bnstream.load("1.npz"), lacks=["names"])
    done("subtract", "named.npz", "imported.npz", "-o", "rest.npz")
    metadata = json.loads(done("show", "rest.npz", "--json").stdout)
    assert (metadata["completeness"], metadata["lacks"]) == ("imported", ["names"])


REFUSED = [
    (("merge", "1.npz", "2.npz", "plain.npz"),
     "plain.npz holds plain statistics, but 1.npz holds exact ones; fit all parts with --exact, or none"),
    (("merge", "plain.npz", "1.npz"), "1.npz holds exact statistics, but plain.npz holds plain ones; fit all parts"),
    (("merge", "empty plain.npz", "1.npz"), "1.npz holds exact statistics, but empty plain.npz holds plain ones"),
    (("merge", "named.npz", "other names.npz"), "other names.npz: expected channels named ['a', 'b', 'c'] as here"),
    (("subtract", "plain.npz", "1.npz"),
     "plain.npz holds plain statistics, which are rounded; only exact ones, as fit --exact writes them, can be subtr"),
    (("subtract", "whole.npz", "1.npz", "plain.npz"), "plain.npz holds plain statistics, which are rounded"),
    (("subtract", "whole.npz", "two.npz"),
     "two.npz is not a part of whole.npz: expected channels of shape (3,) as here, got (2,)"),
    (("subtract", "named.npz", "other names.npz"),
     "other names.npz is not a part of named.npz: expected channels named ['a', 'b', 'c'] as here, got ['c', 'b'"),
    (("subtract", "1.npz", "whole.npz"),
     "whole.npz is not a part of 1.npz: expected a part of these statistics to take out, got other data: no data has "
     "the statistics of channel 0 that would be left"),
    (("subtract", "whole.npz", "far.npz"), "far.npz is not a part of whole.npz: expected a part of these statistics"),
    (("subtract", "whole.npz", "1.npz", "1.npz", "whole.npz"),
     "whole.npz is not a part of what is left of whole.npz: expected a part of these statistics to take out"),
    (("subtract", "whole.npz", "NaN.npz"), "NaN.npz is not a part of whole.npz: expected a part of these statistics"),
    (("merge", "whole.npz", "many.npz"), "many.npz: expected at most 2**62 values in a channel, got 4,611,686,018,427"),
    (("fit", "t.csv", "--exact", "--weights", "half"),
     "t.csv, bytes 11 to 54: column 'half': weights of exact statistics count how often a row is there: expected "
     "integers from 0 to below 2**53, got 1.5; scale them to integers, or make the Moments without exact=True "
     "(--exact)"),
    (("fit", "NaN.npy"), "NaN.npy, rows 0 to 2: NaN or inf in the only channel; clean the data, "
                         "or pass nan_policy='omit' (--nan omit) to leave such elements out, or 'propagate'"),
    (("subtract", "bn.npz", "1.npz"), "bn.npz holds a BatchNorm; only Moments, as fit writes, can be subtracted"),
    (("subtract", "whole.npz", "bn.npz"), "bn.npz holds a BatchNorm; only Moments, as"),
    (("subtract", "whole.npz", "nowhere.npz"), "nowhere.npz"),
    (("subtract", "whole.npz", "1.npy"), "1.npy is not a bnstream state file"),
    (("subtract", "whole.npz", "checkpoint"), "checkpoint is the checkpoint of an unfinished pass"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=lambda value: " ".join(value) * (type(value) is tuple))
def test_every_error_is_one_line(folder, arguments, message):
    states = {"plain": Moments().update(X), "empty plain": Moments(), "two": Moments(exact=True).update(X[:2, :2]),
              "named": Moments(exact=True, names=["a", "b", "c"]).update(X),
              "other names": Moments(exact=True, names=["c", "b", "a"]).update(X[:2]),
              "far": Moments(exact=True).update([[1e300, 0.0, 0.0]]), "bn": bnstream.BatchNorm(3),
              "NaN": Moments(exact=True, nan_policy="propagate").update([[np.nan, 0.0, 0.0]]),
              "many": Moments(exact=True).update(np.ones((1024, 3)), weights=np.full(1024, 2**52))}
    (folder / "t.csv").write_text("a,b,w,half\n1,0.1,3,1.5\n2,0.2,0,2.0\n3,,5,0.0\n4,0.4,1,2\n", encoding="utf-8")
    np.save("NaN.npy", [np.nan, 1.0])
    for name, state in states.items():
        bnstream.save(f"{name}.npz", state)
    write_state("checkpoint", bnstream.load("1.npz"), progress={})
    (folder / "y.npz").write_bytes(b"old")
    process = main(*arguments, "-o", "y.npz", "--force")
    assert process.returncode == 1, process.stderr
    assert process.stdout == ""
    assert process.stderr.startswith(f"bnstream: {message}" if message != "nowhere.npz" else "bnstream: ")
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
    assert (folder / "y.npz").read_bytes() == b"old"


@pytest.mark.parametrize("arguments", [("subtract", "whole.npz", "-o", "y.npz"), ("subtract", "-o", "y.npz"),
                                       ("subtract", "whole.npz", "1.npz")], ids=" ".join)
def test_wrong_usage(folder, arguments):
    assert invoke(*arguments).exit_code == 2


def test_what_else_reads_exact_statistics(folder):
    """The commands that take statistics take exact ones, and give what plain ones give, but for the last bits."""
    x = normal((50, 3)) + 5
    np.save("x.npy", x)
    for option, name in (("--exact", "exact"), ("--resume", "plain")):
        done("fit", "x.npy", "-o", f"{name}.npz", option)
        done("apply", f"{name}.npz", "x.npy", "-o", f"{name}.npy")
        done("convert", f"{name}.npz", "--to", "scikit-learn", "-o", f"{name}-scaler.npz")
    np.testing.assert_allclose(np.load("exact.npy"), np.load("plain.npy"), rtol=1e-13)
    with np.load("exact-scaler.npz") as scaler:
        assert scaler["mean_"].tolist() == bnstream.load("exact.npz").mean.tolist()
    done("convert", "exact.npz", "-o", "copy.npz")
    assert (folder / "copy.npz").read_bytes() == (folder / "exact.npz").read_bytes()
