"""docs/reference/file-format.md says what the files hold: its tables name their members, its programs read them."""

import json
import re
import shutil
import subprocess
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.arrays import normal
from support.forgery import forge, npy
from support.states import SAVED, trained

from bnstream import BatchNorm, DomainBatchNorm, GroupedMoments, InstanceNorm, Moments, save
from bnstream.statefiles import StateError, read, write
from bnstream.statefiles.description import DEFAULT_K
from bnstream.statefiles.members import VERSIONS
from bnstream.statefiles.statefile import KINDS, VERSION

FILE = Path(__file__).parents[2] / "docs" / "reference" / "file-format.md"
if not FILE.exists():
    pytest.skip("the pages are not beside the tests, as where wheels are tested", allow_module_level=True)
PAGE = FILE.read_text(encoding="utf-8")
STATES = Path(__file__).parent / "states"


def tables():
    """The tables under each heading: lists of rows, which are dicts by the names of the columns."""
    found = {}
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.M | re.S)
    for title, text in re.findall(r"^#+ (.*)\n((?:(?!#).*\n)*)", prose, re.M):
        found[title] = []
        for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
            head, _, *rows = ([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                              for line in table.splitlines())
            found[title].append([dict(zip(head, row, strict=True)) for row in rows])
    return found


TABLES = tables()


def rows(title, first):
    """The rows of the table under a heading that begins with this column, by their names."""
    found = [table for table in TABLES[title] if next(iter(table[0])) == first]
    assert len(found) == 1, (title, first)
    return {row[first].strip("`"): row for row in found[0]}


def functions():
    """What the Python of the page defines, without what it runs."""
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S):
        exec("\n\n".join(re.findall(r"^(?:import|from) .*|^def .*\n(?:(?:    .*)?\n)*", code, re.M)), names)
    return names


PROGRAM = functions()


def grouped(**options):
    g = GroupedMoments(**options).update(normal((30, 3)), {"a": ["x", None, "y"] * 10, "b": [True] * 30})
    return g if g.exact else g.update(normal((3, 3)), {"a": ["x", "x", "z"], "b": [True] * 3}, weights=[1, 2, 0.5])


def domains(**options):
    bn = DomainBatchNorm(3, **options)
    bn(normal((30, 3)), {"site": ["a", "b", "c"] * 10})
    return bn


def pooled_that_track():
    bn = BatchNorm(3, track_pooled=True)
    bn.recalibrate(Moments(track=["min", "skewness"]).update(normal((9, 3))))
    return bn


ALL = {
    **SAVED,
    "weights": lambda: Moments().update(normal((9, 3)), weights=np.arange(9)),
    "huge": lambda: Moments().update(normal((9, 3)) * [1, 1e200, 1e-200]),
    "huge, weights": lambda: Moments().update(normal((9, 3)) * [1, 1e200, 1e-200], weights=np.arange(9)),
    "tracked": lambda: Moments(nan_policy="omit", track=["min", "missing", "skewness"]).update(normal((9, 3))),
    "tracked, exact": lambda: Moments(exact=True, track=["min", "missing"]).update(normal((9, 3))),
    "tracked, empty": lambda: Moments(track=["min"]),
    "exact, one channel": lambda: Moments(None, exact=True).update(normal((9, 3))),
    "exact, zeros": lambda: Moments(exact=True).update(np.zeros((9, 3))),
    "groups": lambda: grouped(missing_keys="keep", names=["u", "v", "w"]),
    "groups, exact": lambda: grouped(missing_keys="keep", exact=True, track=["min"]),
    "groups, tracked": lambda: grouped(missing_keys="omit", track=["missing", "skewness"]),
    "no groups": lambda: GroupedMoments(),
    "domains": lambda: domains(track_pooled=True),
    "domains, exact": lambda: domains(track_pooled="exact", momentum=None),
    "no domains": lambda: DomainBatchNorm(3),
    "pooled that track": pooled_that_track,
    "instance norm, averaged, new": lambda: InstanceNorm(2, momentum=None, track_running_stats=True),
    "quantiles": lambda: Moments(track=["quantiles"]).update(normal((2000, 3))),
}


def content(path):
    """The description and the arrays of a file, by zipfile and NumPy."""
    with zipfile.ZipFile(path) as archive, np.load(path) as arrays:
        return json.loads(archive.read("bnstream.json")), {name: arrays[name] for name in arrays.files[1:]}


def parts_of(description):
    """What describes a state: its kind, the description, the prefix of its arrays, and those of the parts in it."""
    kind = description["kind"]
    yield kind, description, ""
    layers = [("", description)] if kind == "batchnorm" else []
    if kind == "domainbatchnorm":
        layers = [("new_", description["new"]), *((f"{i}_", one) for i, one in enumerate(description["layers"]))]
        yield from (("batchnorm", layer, prefix) for prefix, layer in layers)
    layers += [("", description)] if kind == "instancenorm" else []
    for prefix, layer in layers:
        for name in ("pooled", "averages"):
            if layer.get(name) is not None:
                yield "moments", layer[name], f"{prefix}{name}_"


def keys_in_page(kind):
    statistics = rows("Statistics", "key")
    return {"moments": statistics, "groups": statistics | rows("Groups", "key"), "batchnorm": rows("BatchNorm", "key"),
            "domainbatchnorm": rows("DomainBatchNorm", "key")}.get(kind) or rows("Other layers", "key")


def arrays_in_page(kind, description):
    """What may be in the file, or must be, of such a description."""
    if kind in ("moments", "groups"):
        own = rows("Exact sums" if "exact" in description else "Statistics", "array")
        tracked = {name: row for name, row in rows("What is tracked", "array").items()
                   if row["in the file"] in description.get("track", ())}
        return {} if description["shape"] is None else own | tracked
    return {} if kind == "domainbatchnorm" else rows("BatchNorm" if kind == "batchnorm" else "Other layers", "array")


def shape_of(text, description, array):
    """What a cell of the column of shapes stands for."""
    shape, settings = tuple(description.get("shape") or ()), description.get("settings", {})
    n = settings.get("num_features", settings.get("num_channels"))
    return {"`shape`": shape, "`(*shape, limbs)`": (*shape, array.shape[-1] if array.ndim else 0), "`(C,)`": (n,),
            "`(bytes,)`": (array.size,), "`parameters`": tuple(settings.get("normalized_shape", [n]))}[text]


def require_types(values, table, name):
    """Each value has a type that the table names, and what is always there is."""
    for key, row in table.items():
        if key in values:
            assert ((values[key] is None and "null") or type(values[key]).__name__) in row["type"], (name, key)
        else:
            assert row["in the file"] != "always", (name, key)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each state, what it holds, and where."""
    folder = tmp_path_factory.mktemp("files")
    found = {}
    for i, (name, make) in enumerate(ALL.items()):
        path = folder / f"{i}.npz"
        try:
            save(path, make())
        except ModuleNotFoundError:     # of what sketches and bfloat16 need
            continue
        found[name] = (path, *content(path))
    write(folder / "part.npz", trained(), progress={"row": 3})
    write(folder / "other.npz", trained(), lacks=["n"])
    found |= {name: (folder / f"{name}.npz", *content(folder / f"{name}.npz")) for name in ("part", "other")}
    return found | {path.stem: (path, *content(path)) for path in sorted(STATES.glob("*.npz"))}


def test_every_kind_is_tried(files):
    assert {description["kind"] for _, description, _ in files.values()} == KINDS.keys()
    in_page = set(re.findall(r'`"(\w+)"`', rows("Every file", "key")["kind"]["meaning"]))
    assert in_page == KINDS.keys()


def test_the_page_names_the_arrays_of_each_file(files):
    """All of them, with their dtypes and shapes; and what is always there is."""
    met = {}
    for name, (_, description, arrays) in files.items():
        left = dict(arrays)
        for kind, part, prefix in parts_of(description):
            table = arrays_in_page(kind, part)
            met.setdefault((kind, "exact" in part), set())
            for array, row in table.items():
                values = left.pop(prefix + array, None)
                if values is None:
                    assert row["in the file"] not in ("always", *part.get("track", ())), (name, prefix + array)
                    continue
                met[kind, "exact" in part].add(array)
                assert values.dtype.str in re.findall(r"`(.\w\d)`", row["dtype"]), (name, prefix + array)
                assert values.shape == shape_of(row["shape"], part, values), (name, prefix + array)
        assert not left, name
    for title, kinds in {"Statistics": [("moments", False), ("groups", False)], "Exact sums": [("moments", True)],
                         "BatchNorm": [("batchnorm", False)], "What is tracked": [("moments", False)],
                         "Other layers": [(kind, False) for kind in files_of_norms()]}.items():
        unmet = rows(title, "array").keys() - set().union(*(met[kind] for kind in kinds))
        assert unmet <= ({"quantiles"} if "quantiles" not in files else set()), title


def files_of_norms():
    return KINDS.keys() - {"moments", "groups", "batchnorm", "domainbatchnorm"}


def test_the_page_names_the_keys_of_each_description(files):
    """All of them, with their types; and no others."""
    of_files = rows("Every file", "key")
    met = {}
    for name, (_, description, _) in files.items():
        require_types(description, of_files, name)
        for kind, part, prefix in parts_of(description):
            table = keys_in_page(kind)
            found = part.keys() - (of_files.keys() if prefix == "" else set())
            assert found <= table.keys(), (name, prefix)
            require_types(part, table, name)
            met.setdefault(kind, set()).update(found)
        met.setdefault("files", set()).update(description.keys() & of_files.keys())
    assert met["files"] == of_files.keys()
    norms = set().union(*(met[kind] for kind in files_of_norms()))
    assert norms == rows("Other layers", "key").keys()
    for kind in ("moments", "groups", "batchnorm", "domainbatchnorm"):
        assert met[kind] == keys_in_page(kind).keys(), kind


def test_the_page_names_the_settings_of_each_layer(files):
    table = rows("Settings", "setting")
    for name, (_, description, _) in files.items():
        for kind, part, _ in parts_of(description):
            if "settings" in part:
                own = {setting: row for setting, row in table.items() if kind in row["kinds"].split(", ")}
                assert part["settings"].keys() == own.keys(), name
                for setting, row in own.items():
                    value = part["settings"][setting]
                    assert ("null" if value is None else type(value).__name__) in row["type"], name


def test_versions_and_limits():
    assert [int(version) for version in rows("Versions", "version")] == list(range(1, VERSION + 1))
    needed = rows("The archive", "part")["version needed"]["what is in a state file"]
    assert [int(n) for n in re.findall(r"\d+", needed.partition(";")[0])] == list(VERSIONS)
    assert f"k, which is {DEFAULT_K}" in PAGE


def test_the_reader_of_the_page(files):
    """n, mean and variance of all statistics in files of every kind, bit for bit."""
    tried = 0
    for name, (path, _, _) in files.items():
        state = read(path).state
        description, arrays = PROGRAM["read_state"](path)
        for kind, part, prefix in parts_of(description):
            if kind not in ("moments", "groups") or part["shape"] is None:
                continue
            m = statistics_of(state, prefix)
            for ddof in (0, 1):
                n, mean, var = PROGRAM["moments_of"](part, arrays, prefix, ddof)
                np.testing.assert_array_equal(n, m.n, name)
                np.testing.assert_array_equal(mean, m.mean, name)
                np.testing.assert_array_equal(var, m.var(ddof), name)
            if kind == "moments" and prefix == "" and m.exact:
                assert PROGRAM["digest_of"](part, arrays) == m.digest()
            tried += 1
    assert tried > 30


def statistics_of(state, prefix):
    """The statistics whose arrays have this prefix."""
    if not prefix:
        return state
    if isinstance(state, DomainBatchNorm):
        domain, _, prefix = prefix.partition("_")
        state = [*state.values()][int(domain)]
    return state.pooled if prefix == "pooled_" else state.state_dict().pooled


def test_the_reader_of_the_page_refuses(tmp_path):
    path = tmp_path / "stats.npz"
    save(path, trained())
    whole = bytearray(path.read_bytes())
    whole[whole.index(trained().gamma.tobytes())] ^= 1
    path.write_bytes(whole)
    with pytest.raises(zipfile.BadZipFile, match="Bad CRC-32"):
        PROGRAM["read_state"](path)


def test_bnstream_reads_what_the_page_writes(tmp_path):
    """Also what zip has packed, where it is installed."""
    path = tmp_path / "stats.npz"
    x = normal((50, 2)) + 3
    PROGRAM["write_moments"](path, [50, 50], x.mean(0), x.var(0) * 50, ["a", "b"])
    m = read(path).state
    assert (m.names, m.n.tolist(), m.mean.tolist()) == (("a", "b"), [50, 50], x.mean(0).tolist())
    zip_program = shutil.which("zip")
    if zip_program is None:
        pytest.skip("there is no zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
        names = archive.namelist()
    subprocess.run([zip_program, "-q", "-0", "-X", "packed.npz", *names], cwd=tmp_path, check=True)
    assert read(tmp_path / "packed.npz").state == m


def form_of(values):
    """The limbs and the unit of fractions, by the rules of the page."""
    unit = 0
    if any(values):
        unit = -(max(value.denominator for value in values).bit_length() - 1)
        while all((value / Fraction(2) ** (unit + 1)).denominator == 1 for value in values):
            unit += 1
    found = [int(value / Fraction(2) ** unit) for value in values]
    n_limbs = max(abs(value) for value in found).bit_length() // 64 + 1
    data = b"".join(value.to_bytes(8 * n_limbs, "little", signed=True) for value in found)
    return np.frombuffer(data, "<i8").reshape(-1, n_limbs), unit


@pytest.mark.parametrize("columns", [
    [[-2.0**63], [1.0]], [[2.0**63], [3.0]], [[0.0, 0.0]], [[1e300, -5e-324, 0.1]], [[1.7e308] * 3, [1, 2, 3]],
    [[12.0, 4.0], [40.0, 8.0]], [[1e200, -1e-200], [0.1, 0.3], [-2.0**62, -2.0**62]],
])
def test_exact_sums_by_the_rules_of_the_page(columns, tmp_path):
    """They are those that bnstream writes, and it accepts no other form."""
    path = tmp_path / "stats.npz"
    m = Moments(exact=True).update(np.array(columns).T)
    save(path, m)
    s, s_unit = form_of([sum(map(Fraction, column)) for column in columns])
    q, q_unit = form_of([sum(Fraction(x) ** 2 for x in column) for column in columns])
    description, arrays = content(path)
    assert description["exact"] == {"sum_unit": s_unit, "sum_of_squares_unit": q_unit}
    np.testing.assert_array_equal(arrays["sum"], s)
    np.testing.assert_array_equal(arrays["sum_of_squares"], q)
    forge(path, arrays={"sum.npy": npy(s), "sum_of_squares.npy": npy(q)})
    assert read(path).state == m
    sign = np.where(s[:, -1:] < 0, -1, 0)
    forge(path, arrays={"sum.npy": npy(np.concatenate([s, sign], axis=1))})
    with pytest.raises(StateError, match="must have the fewest limbs that hold them, in the largest unit"):
        read(path)


def test_the_program_in_c(tmp_path, files):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    code, = re.findall(r"^```c\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "moments.c").write_text(code)
    options = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-o", "moments"]
    subprocess.run([compiler, *options, "moments.c"], cwd=tmp_path, check=True)
    for name in ("columns", "many updates", "holes", "one channel", "tracked"):
        m = read(files[name][0]).state
        done = subprocess.run([tmp_path / "moments", files[name][0]], capture_output=True, text=True, check=True)
        found = np.array([line.split() for line in done.stdout.splitlines()], float).reshape(-1, 3)
        assert found[:, 0].tolist() == m.n.ravel().tolist()
        some = found[:, 0] > 0
        assert found[some, 1].tolist() == m.mean.ravel()[some].tolist()
        assert found[some, 2].tolist() == m.var().ravel()[some].tolist()
    whole = bytearray(files["columns"][0].read_bytes())
    whole[whole.index(read(files["columns"][0]).state.mean.tobytes())] ^= 1
    (tmp_path / "damaged.npz").write_bytes(whole)
    (tmp_path / "cut.npz").write_bytes(whole[:300])
    for path, why in ((tmp_path / "damaged.npz", "a member is damaged"), (files["weights"][0], "no plain statistics"),
                      (files["huge"][0], "no plain statistics"), (files["exact"][0], "no plain statistics"),
                      (files["layer"][0], "no plain statistics"), (tmp_path / "cut.npz", "streamed, or cut")):
        done = subprocess.run([tmp_path / "moments", path], capture_output=True, text=True, check=False)
        assert (done.returncode, why in done.stderr) == (1, True), done.stderr
