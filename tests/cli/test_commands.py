"""The commands on files, as a user runs them: their options and messages. The functions behind have their own tests."""

import csv
import io
import json
import shutil
import signal
import zipfile

import numpy as np
import pytest
from support.cases import CAMPAIGN
from support.command import invoke, main, run, run_without

import bnstream
from bnstream.cli.progress import progress_bar
from bnstream.statefiles import write as write_state
from bnstream.streams import fitting

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COMMANDS = ("fit", "show", "merge", "subtract", "apply", "convert", "plot")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(10, 2, (100, 3))
    np.save(tmp_path / "x.npy", x)
    missing = pa.array(x[:, 1], mask=np.arange(100) % 5 == 0)
    table = pa.table({"a": x[:, 0], "b, c": missing, "text": ["t"] * 100})
    parquet.write_table(table, tmp_path / "t.parquet")
    bnstream.fit(x, tmp_path / "x.npz", columns=["a", "b", "c"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def done(*arguments):
    result = invoke(*map(str, arguments))
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command):
    assert f"\n  Example: bnstream {command} " in invoke(command, "--help").output


def test_help_of_fit_explains_ctrl_c():
    assert "A second Ctrl-C ends the command at once" in " ".join(invoke("fit", "--help").output.split())


def test_fit(folder):
    result = done("fit", "t.parquet", "-o", "t.npz", "--columns", 'a,"b, c"', "--nan", "omit", "--threads", "1")
    m = bnstream.load("t.npz")
    assert m.names == ("a", "b, c")
    assert m.n.tolist() == [100, 80]
    assert m == bnstream.fit("t.parquet", columns=["a", "b, c"], nan_policy="omit")
    assert result.stdout == ""
    assert result.stderr == "t.npz: 2 channels, n = 100\n"


@pytest.mark.parametrize("columns", [
    ("--columns", "a,b"), ("--columns", "a", "--columns", "b"), ("--columns", "a, b"),
    ("--columns", "a", "--columns", '"b"'),
], ids=" ".join)
def test_columns(folder, columns):
    parquet.write_table(pa.table({name: [1.0, 2.0] for name in "abc"}), "abc.parquet")
    done("fit", "abc.parquet", "-o", "abc.npz", *columns)
    assert bnstream.load("abc.npz").names == ("a", "b")


def test_fit_with_weights(folder):
    weights = np.linspace(0, 2, 100)
    parquet.write_table(parquet.read_table("t.parquet").append_column("w", pa.array(weights)), "w.parquet")
    result = done("fit", "w.parquet", "-o", "w.npz", "--columns", "a", "--weights", "w")
    m = bnstream.load("w.npz")
    assert m == bnstream.fit("w.parquet", columns=["a"], weights="w")
    assert m.mean == pytest.approx(np.average(np.load("x.npy")[:, 0], weights=weights), rel=1e-14)
    assert result.stderr == "w.npz: 1 channel, n = 100\n"


def test_weights_of_arrays(folder):
    result = main("fit", "x.npy", "-o", "y.npz", "--weights", "w")
    assert result.returncode == 1
    assert "x.npy holds arrays, but weights='w' names a column of a table; give arrays" in result.stderr
    assert "Traceback" not in result.stderr


def test_fit_options(folder):
    done("fit", "x.npy", "-o", "y.npz", "--channel-axis", "0", "--chunk-rows", "2", "--checkpoint-every", "0",
         "--resume")
    assert bnstream.load("y.npz").shape == (100,)


@pytest.mark.parametrize(("has_checkpoint", "advice"), [
    (True, "the same command with --resume continues from y.npz.checkpoint"), (False, "there is no checkpoint yet"),
])
def test_interrupt_says_how_to_resume(folder, monkeypatch, has_checkpoint, advice):
    def fit(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit", fit)
    if has_checkpoint:
        write_state("y.npz.checkpoint", bnstream.Moments(), progress={})
    result = invoke("fit", "x.npy", "-o", "y.npz")
    assert (result.exit_code, result.stderr) == (130, f"bnstream: interrupted; {advice}\n")


def test_ignored_signals_stay_ignored():
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)]
    try:
        with progress_bar("fit"):
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != before[1]
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN, before[1]]
    finally:
        signal.signal(signal.SIGINT, before[0])


def test_rate_excludes_what_was_read_before(monkeypatch, capsys):
    """The rows that a resumed pass skips do not count."""
    now = [0.0]
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    with progress_bar("fit") as progress:
        for share, n_rows in ((0.5, 1_000_000), (0.6, 1_000_600)):
            now[0] += 2
            progress(bnstream.streams.fitting.Progress(share, n_rows, "x.npy"))
    assert "1,000,600 rows, 300 rows/s" in capsys.readouterr().err


def test_show_as_csv(folder):
    m = bnstream.load("x.npz")
    rows = list(csv.DictReader(io.StringIO(done("show", "x.npz", "--csv").stdout)))
    assert [row["channel"] for row in rows] == ["a", "b", "c"]
    assert [int(row["n"]) for row in rows] == [100] * 3
    for title, values in {"mean": m.mean, "std": m.std(), "var": m.var()}.items():
        assert [float(row[title]) for row in rows] == values.tolist()       # Every digit is printed.


def test_show_as_json(folder):
    bnstream.save("one.npz", bnstream.Moments(nan_policy="propagate").update([[1.0, np.nan]]))
    printed = json.loads(done("show", "one.npz", "--json").stdout)
    assert printed["kind"] == "moments"
    assert printed["completeness"] == "complete"
    assert printed["channels"] == [
        {"channel": "0", "n": 1, "mean": 1.0, "std": 0.0, "var": 0.0},
        {"channel": "1", "n": 1, "mean": None, "std": None, "var": None},
    ]


def test_show_of_weights(folder):
    bnstream.save("weights.npz", bnstream.Moments().update([1.0, 2.0, 4.0], weights=[1.0, 0.5, 0.5]))
    channels = json.loads(done("show", "weights.npz", "--json").stdout)["channels"]
    assert channels == [{"channel": "0", "n": 2.0, "mean": 2.0, "std": 1.5**0.5, "var": 1.5, "effective_n": 4 / 1.5}]


@pytest.mark.parametrize("affine", [True, False])
def test_show_of_a_layer(folder, affine):
    bn = bnstream.BatchNorm(2, affine=affine, names=["u", "v"])
    bn(np.array([[1.0, 2.0], [3.0, 5.0]]))
    bnstream.save("bn.npz", bn)
    rows = list(csv.DictReader(io.StringIO(done("show", "bn.npz", "--csv").stdout)))
    assert [float(row["running_mean"]) for row in rows] == bn.running_mean.tolist()
    assert [row["channel"] for row in rows] == ["u", "v"]
    assert ("gamma" in rows[0]) == affine


def test_show_layers_by_domain(folder):
    bn = bnstream.DomainBatchNorm(2, names=["u", "v"], bias=False)
    bnstream.save("bn.npz", bn)
    assert done("show", "bn.npz", "--csv").stdout == "domain,channel,running_mean,running_var\n"
    x = np.arange(8.0).reshape(4, 2)
    bn(np.concatenate([x, x]), {"site": ["a", "b", "a", "b"] * 2, "night": [0, 0, 1, 0] * 2})
    bnstream.save("bn.npz", bn)
    rows = list(csv.DictReader(io.StringIO(done("show", "bn.npz", "--csv").stdout)))
    assert [(row["domain"], row["channel"]) for row in rows] == [
        (domain, channel) for domain in ("a, 0", "a, 1", "b, 0") for channel in "uv"]
    assert [float(row["running_mean"]) for row in rows] == [mean for one in bn.values() for mean in one.running_mean]
    assert {row["gamma"] for row in rows} == {"1.0"}
    assert json.loads(done("show", "bn.npz", "--json").stdout)["domains"] == [["a", 0], ["a", 1], ["b", 0]]
    assert "running_mean" in done("show", "bn.npz").stdout


def test_show_a_table(folder):
    text = done("show", "x.npz").stdout
    m = bnstream.load("x.npz")
    assert "x.npz: moments, complete" in text
    for name, mean in zip("abc", m.mean, strict=True):
        assert f"{name} " in text
        assert f"{mean:.6g}" in text


def test_show_of_channels_of_two_axes(folder):
    bnstream.save("two.npz", bnstream.Moments().update(np.arange(8.0).reshape(2, 2, 2)))
    assert [line.partition(",")[0] for line in done("show", "two.npz", "--csv").stdout.splitlines()] == [
        "channel", '"0', '"0', '"1', '"1']
    assert json.loads(done("show", "two.npz", "--json").stdout)["channels"][1]["channel"] == "0, 1"


@pytest.mark.parametrize("x", [None, [[1.0, 3.0]]])
def test_show_of_no_axis(folder, x):
    m = bnstream.Moments(axis=None)
    bnstream.save("one.npz", m if x is None else m.update(x))
    rows = done("show", "one.npz", "--csv").stdout.splitlines()
    assert rows == ["channel,n,mean,std,var"] + ["0,2,2.0,1.0,1.0"] * (x is not None)
    assert "one.npz: moments" in done("show", "one.npz").stdout


NAMES = ("x[/b]", "price[usd]", ":smile:", "\x1b[2J", "a" * 100, "幅" * 60)


def save_named(path):
    m = bnstream.Moments(names=NAMES).update(np.arange(6.0) * 123.456 + [[0.0], [1e-3]])
    bnstream.save(path, m)
    return [f"{value:.6g}" for values in (m.mean, m.std(), m.var()) for value in values]


def test_show_keeps_names_and_numbers_in_a_pipe(folder):
    path = f"names[b] {'of all ' * 25}.npz"
    numbers = save_named(path)
    text = done("show", path).stdout
    assert text.splitlines()[0] == f"{path}: moments, complete"
    for name in (*NAMES[:3], r"'\x1b[2J'", *NAMES[4:]):
        assert f" {name} " in text
    assert all(f" {number} " in text for number in numbers)


@pytest.mark.parametrize("width", [20, 49, 50, 80])
def test_show_folds_names_on_a_terminal(folder, monkeypatch, width):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(width)}.items():
        monkeypatch.setenv(name, value)
    numbers = save_named("names.npz")
    text = done("show", "names.npz").stdout
    assert all(f" {number} " in text for number in numbers)
    cells = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert "".join(cells) == "".join((*NAMES[:3], r"'\x1b[2J'", *NAMES[4:]))


def test_merge(folder):
    shutil.copy("x.npz", "again.npz")
    done("merge", "x.npz", "again.npz", "-o", "twice.npz")
    m = bnstream.load("x.npz")
    assert bnstream.load("twice.npz") == m + m


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_merge_counts_a_file_once(folder, link):
    getattr(folder / "link.npz", link)(folder / "x.npz")
    message = str(invoke("merge", "x.npz", "link.npz", "-o", "y.npz").exception)
    assert message == "x.npz and link.npz are one file, which would be counted twice; name each file once"


def test_merge_and_convert_keep_what_is_unknown(folder):
    write_state("sd.npz", bnstream.load("x.npz"), lacks=["mean_lo", "m2_lo"])
    write_state("other.npz", bnstream.load("x.npz"), lacks=["names", "m2_lo"])
    done("merge", "x.npz", "sd.npz", "other.npz", "-o", "all.npz")
    done("convert", "sd.npz", "-o", "copy.npz")
    for path, lacks in (("all.npz", ["mean_lo", "m2_lo", "names"]), ("copy.npz", ["mean_lo", "m2_lo"])):
        metadata = json.loads(done("show", path, "--json").stdout)
        assert (metadata["completeness"], metadata["lacks"]) == ("imported", lacks)


def test_apply(folder):
    done("fit", "t.parquet", "-o", "t.npz", "--columns", "a", "--threads", "2")
    result = done("apply", "t.npz", "t.parquet", "-o", "y.parquet", "--eps", "0.5")
    assert result.stderr == "y.parquet: 100 rows\n"
    y = parquet.read_table("y.parquet")
    assert y.column_names == ["a", "b, c", "text"]
    m, x = bnstream.load("t.npz"), np.load("x.npy")[:, :1]
    assert y["a"].to_numpy().tolist() == bnstream.normalize(x, m.mean, m.var(), eps=0.5).ravel().tolist()


def test_apply_options(folder):
    done("fit", "t.parquet", "-o", "t.npz", "--columns", "a")
    for columns in (("--keep", ""), ("--keep", 'te*,"b, c"')):
        options = ("--dtype", "float32", "--clip=-1,0.5", *columns, "--force")
        done("apply", "t.npz", "t.parquet", "-o", "y.parquet", *options)
        y = parquet.read_table("y.parquet")
        assert y.column_names == (["a"] if columns[1] == "" else ["a", "b, c", "text"])
        x = np.load("x.npy")[:, :1]
        m = bnstream.load("t.npz")
        assert y["a"].to_numpy().tolist() == np.clip(bnstream.normalize(x, m.mean, m.var()), -1, 0.5).astype(
            "f4").ravel().tolist()
    done("apply", "x.npz", "x.npy", "-o", "there/")
    result = done("apply", "x.npz", "there/x.npy", "-o", "back/", "--inverse", "--out-format", "npy")
    assert result.stderr == "back/: 100 rows\n"
    np.testing.assert_allclose(np.load("back/x.npy"), np.load("x.npy"), rtol=1e-15)


def test_interrupt_of_apply_to_a_folder(folder, monkeypatch):
    def apply(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bnstream.streams.applying.apply", apply)
    (folder / "there").mkdir()
    for out, advice in (("y.npy", "is as it was"),
                        ("there/", "holds what is complete; the same command with --resume continues")):
        result = invoke("apply", "x.npz", "x.npy", "-o", out)
        assert (result.exit_code, result.stderr) == (130, f"bnstream: interrupted; {out} {advice}\n")


def test_convert_there_and_back(folder):
    done("convert", "x.npz", "--to", "scikit-learn", "-o", "scaler.npz")
    m = bnstream.load("x.npz")
    with np.load("scaler.npz") as arrays:
        assert arrays["mean_"].tolist() == m.mean.tolist()
    done("convert", "scaler.npz", "--from", "scikit-learn", "-o", "back.npz")
    back = bnstream.load("back.npz")
    assert np.all(back.n == m.n)
    assert back.mean.tolist() == m.mean.tolist()
    assert json.loads(done("show", "back.npz", "--json").stdout)["completeness"] == "imported"


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(folder, suffix):
    pytest.importorskip("matplotlib")
    done("plot", "x.npz", "-o", f"x.{suffix}", "--after", "x.npz")
    assert (folder / f"x.{suffix}").stat().st_size > 1000


def test_plot_appears_when_whole(folder, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure").Figure

    def savefig(self, file, **options):
        file.write(b"half")
        raise OSError("no more ink")

    monkeypatch.setattr(figure, "savefig", savefig)
    (folder / "x.png").write_text("old")
    assert str(invoke("plot", "x.npz", "-o", "x.png", "--force").exception) == "no more ink"
    assert (folder / "x.png").read_text() == "old"
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(("arguments", "message"), [
    (("fit", "nowhere.csv", "-o", "y.npz"), "there is no file nowhere.csv"),
    (("fit", "t.parquet", "-o", "y.npz"), "'text' is of type string; select numeric columns"),
    (("fit", "t.parquet", "-o", "y.npz", "--columns", "a,z"), "has no column 'z'; its columns are a, b, c, text"),
    (("fit", "t.parquet", "-o", "y.npz", "--columns", '"b, c"'), "column 'b, c' has 20 missing values"),
    (("fit", "x.npy", "-o", "nowhere/y.npz"), "there is no folder nowhere"),
    (("fit", "x.npz.txt", "-o", "y.npz"), "there is no file"),
    (("show", "x.npy"), "x.npy"),
    (("show", "nowhere.npz"), "nowhere.npz"),
    (("fit", "x.npy", "-o", "memory://y.npz"), "memory://y.npz is a URL, but outputs are written to this machine"),
    (("merge", "x.npz", "bn.npz", "-o", "y.npz"), "bn.npz holds a BatchNorm"),
    (("merge", "x.npz", "two.npz", "-o", "y.npz"), "two.npz: expected channels"),
    (("merge", "x.npz", "./x.npz", "-o", "y.npz"), "x.npz is named twice, and would be counted twice; name each"),
    (("apply", "x.npz", "t.parquet", "-o", "y.parquet"), "has no column 'b'"),
    (("apply", "norm.npz", "x.npy", "-o", "y.npy"), "norm.npz holds a LayerNorm, which apply does not take"),
    (("merge", "norm.npz", "x.npz", "-o", "y.npz"), "norm.npz holds a LayerNorm; only Moments and GroupedMoments"),
    (("plot", "norm.npz", "-o", "y.png"), "before must be a Moments or a BatchNorm, got LayerNorm"),
    (("apply", "x.npz", "x.npy", "-o", "y.txt"), "out must end in"),
    (("apply", "x.npz", "x.npy", "-o", "x.npy"), "x.npy is one of the sources and would be replaced; give another "
                                                 "name, or replace it with force=True (--force)"),
    (("apply", "x.npz", "x.npy", "-o", "old.npy"), "old.npy exists; give another name, or replace it with force=True"),
    (("apply", "x.npz", "x.npy", "-o", "y.npy", "--clip", "wide"), "clip must be a number, or numbers separated by"),
    (("apply", "x.npz", "x.npy", "-o", "y.npy", "--clip", "-1"), "clip must be a positive number, or a pair of incr"),
    (("apply", "x.npz", "x.npy", "-o", "y.npy", "--dtype", "int8"), "dtype must be float16, float32 or float64, got"),
    (("apply", "x.npz", "x.npy", "-o", "y.npy", "--resume"), "resume=True (--resume) is for a folder of outputs"),
    (("apply", "x.npz", "x.npy", "-o", "y/", "--keep", "a"), "x.npy holds arrays, but keep (--keep) names columns"),
    (("fit", "x.npy", "x.npy", "-o", "y.npz"), "x.npy is named twice, and would be counted twice; name each file once"),
    (("fit", "x.npy", "-o", "y.npz", "--resume", "--restart"), "resume=True (--resume) continues from the checkpoint"),
    (("fit", "t.parquet", "-o", "y.npz", "--columns", "a", "--channel-axis", "1"),
     "the channels of t.parquet are its columns; leave out channel_axis=1 (--channel-axis), which is for arrays"),
    (("merge", "x.npz", "x.checkpoint", "-o", "y.npz"), "x.checkpoint is the checkpoint of an unfinished pass"),
    (("convert", "x.npy", "--from", "keras", "-o", "y.npz"), "x.npy is a .npy file of one array; expected a .npz file"),
    (("convert", "empty.npz", "--from", "keras", "-o", "y.npz"), "empty.npz is empty; expected a .npz file of arrays"),
    (("convert", "text.npz", "--from", "keras", "-o", "y.npz"), "text.npz is text; expected a .npz file of arrays"),
    (("convert", "cut.npz", "--from", "pytorch", "-o", "y.npz"), "cut.npz is damaged, or holds more than"),
    (("convert", "deflated.npz", "--from", "flax", "-o", "y.npz"), "deflated.npz is damaged, or holds more than"),
    (("convert", "objects.npz", "--from", "scikit-learn", "-o", "y.npz"), "objects.npz is damaged, or holds more than"),
    (("convert", "x.npz", "--from", "keras", "-o", "y.npz"), "moving_mean"),
    (("plot", "x.npz", "-o", "y.nothing"), "out must end in .png, .svg or .pdf, got 'y.nothing'"),
    (("plot", "x.npz", "-o", "y"), "out must end in .png, .svg or .pdf, got 'y'"),
], ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None)
def test_every_error_is_one_line(folder, arguments, message):
    bnstream.save("bn.npz", bnstream.BatchNorm(3))
    bnstream.save("norm.npz", bnstream.LayerNorm(3))
    bnstream.save("two.npz", bnstream.Moments().update([[1.0, 2.0]]))
    write_state("x.checkpoint", bnstream.load("x.npz"), progress={})
    (folder / "old.npy").touch()
    (folder / "empty.npz").touch()
    (folder / "text.npz").write_text("a,b\n1,2\n")
    (folder / "cut.npz").write_bytes((folder / "x.npz").read_bytes()[:500])
    np.savez_compressed("deflated.npz", mean=np.arange(1000.0))
    data = bytearray((folder / "deflated.npz").read_bytes())
    data[200:400] = bytes(200)
    (folder / "deflated.npz").write_bytes(data)
    np.savez("objects.npz", mean_=np.zeros(1), feature_names_in_=np.array(["a"], object))
    process = run(*arguments) if CAMPAIGN or "bn.npz" in arguments else main(*arguments)
    assert process.returncode == 1, process.stderr
    assert process.stdout == ""
    assert process.stderr.startswith("bnstream: ")
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
    assert not list(folder.glob("y*"))


@pytest.mark.parametrize("arguments", [
    ("fit", "-o", "y.npz"), ("fit", "x.npy"), ("fit", "x.npy", "-o", "y.npz", "--nan", "maybe"),
    ("fit", "x.npy", "-o", "y.npz", "--chunk-rows", "0"), ("show", "x.npz", "--json", "--csv"),
    ("merge", "-o", "y.npz"),
], ids=" ".join)
def test_wrong_usage(folder, arguments):
    assert invoke(*arguments).exit_code == 2


@pytest.mark.parametrize(("package", "arguments", "extra"), [
    ("typer", ("fit", "x.npy", "-o", "y.npz"), "streams"), ("pyarrow", ("fit", "t.parquet", "-o", "y.npz"), "streams"),
    ("matplotlib", ("plot", "x.npz", "-o", "x.png"), "plot"),
])
def test_missing_packages(folder, package, arguments, extra):
    process = run_without(package, *arguments)
    assert process.returncode == 1
    assert f'pip install "bnstream[{extra}]"' in process.stderr
    assert process.stderr.count("\n") == 1


def test_npy_needs_no_pyarrow(folder):
    process = run_without("pyarrow", "fit", "x.npy", "-o", "y.npz")
    assert process.returncode == 0, process.stderr
    assert bnstream.load("y.npz") == bnstream.load("x.npz")


def npz_with_header(path, header, data=b"", compression=zipfile.ZIP_STORED):
    """A .npz file of the arrays of a Keras layer, one of them with this header."""
    np.savez(path, moving_variance=np.ones(3), gamma=np.ones(3), beta=np.ones(3))
    header = header.encode().ljust(118) + b"\n"
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr("moving_mean.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data)


HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}}}"


@pytest.mark.parametrize(("header", "message"), [
    (HEADER.format("'<M8[s/0]'", "(3,)"), "moving_mean.npy has dtype <M8[s/0]; expected real numbers"),
    (HEADER.format("'(1,f4'", "(3,)"), "moving_mean.npy has dtype (1,f4; expected real numbers"),
    (HEADER.format("'<U99999'", "(3,)"), "which do not fit <U99999 of shape (3,)"),
    (HEADER.format("'<f8'", "(4,)"), "it has 24 bytes, which do not fit float64 of shape (4,)"),
    (HEADER.format("[('a', '<f8')]", "(3,)"), "moving_mean.npy has dtype [('a', '<f8')]; expected real numbers"),
    (HEADER.format("'|O'", "(3,)"), "moving_mean.npy has dtype |O; expected real numbers"),
    ("[" * 110, "its header does not give"),
])
def test_convert_reads_no_header_of_a_stranger_with_a_parser(header, message, folder, monkeypatch):
    npz_with_header("strange.npz", header, np.ones(3).tobytes())
    monkeypatch.setattr(np, "load", None)
    found = invoke("convert", "strange.npz", "--from", "keras", "-o", "y.npz").exception
    assert isinstance(found, ValueError)
    assert str(found).startswith("strange.npz is damaged, or holds more than numbers and names: ")
    assert message in str(found)


def test_convert_reads_what_savez_writes(folder):
    npz_with_header("layer.npz", HEADER.format("'>f4'", "(3,)"), np.arange(3, dtype=">f4").tobytes())
    with zipfile.ZipFile("layer.npz", "a") as archive, archive.open("other/kernel.npy", "w") as file:
        np.lib.format.write_array(file, np.ones((2, 2), "c8"))
    done("convert", "layer.npz", "--from", "keras", "-o", "bn.npz")
    assert bnstream.load("bn.npz").running_mean.tolist() == [0, 1, 2]
    m = bnstream.Moments(names=["a", "longer"]).update(np.eye(2))
    np.savez_compressed("scaler.npz", **bnstream.exchange.to_arrays(m, "scikit-learn"))
    done("convert", "scaler.npz", "--from", "scikit-learn", "-o", "back.npz")
    assert bnstream.load("back.npz").names == ("a", "longer")


def test_convert_does_not_expand_a_small_file_to_gigabytes(folder):
    zeros = np.zeros(20 << 20)
    npz_with_header("bomb.npz", HEADER.format("'<f8'", f"({zeros.size},)"), zeros.tobytes(), zipfile.ZIP_DEFLATED)
    found = invoke("convert", "bomb.npz", "--from", "keras", "-o", "y.npz").exception
    assert "its arrays are more than 20 times as large as the file" in str(found)
