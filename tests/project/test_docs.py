"""The code of README.md and of every page in docs/ runs as it stands: Python, and the command.

The Python blocks of a page run from top to bottom in one namespace, so each page is complete in itself. A block marked
"python needs PACKAGE" runs after the plain blocks above it, and is skipped without the package.
"""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from support.cases import thorough
from support.frameworks import require
from support.oracle import PROMISED

import bnstream

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
         for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
BLOCK = re.compile(r"^```(\w+)(?: needs ([\w.]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
N_ROWS = 1000
IN_C = "docs/reference/file-format.md"        # a program that tests/statefiles/test_file_format.py compiles and runs
COMMAND = f'set -euo pipefail\nbnstream() {{ "{sys.executable}" -m bnstream "$@"; }}\n'

# What must hold after the plain Python blocks of a page; `printed` is what they printed. Elsewhere these blocks only
# prepare what those with a package need.
PYTHON = {
    "README.md": [
        "assert (m.n == 2 * 65536).all()",
        "assert abs(m.mean - 1e5 - 0.5).max() < 0.05",
        "assert bnstream.load('stats.npz') == m",
        "assert abs(y - 1).max() < 1e-2",        # what the loop trains for
        "assert abs(bn.running_mean - 1e5).max() < 0.05",
        "assert 'effective_n' in printed",
    ],
    "docs/moments.md": [
        "assert abs(y.mean(dtype=float)) < 1e-5",
        "assert abs(y.std(dtype=float) - 1) < 1e-5",
        "assert total.mean.tolist() == [pytest.approx(value, rel=1e-14) for value in x.mean(axis=0, dtype=float)]",
        "assert f'{m.effective_n[0]:.0f}' == '49152'",     # 3/4 of the rows, of weights from 0 on
        "assert mean.shape == var.shape == (64,)",
        "assert rms.count == 100",
    ],
    "docs/groups.md": [
        "assert list(g) == ['AA', 'DL', 'UA'] and g.total().n.tolist() == [100_000] * 4",
        "assert abs(y[carrier == 'DL'].mean(0)).max() < 1e-5",
        "assert z.shape == x.shape and list(domains) == ['AA', 'DL', 'UA']",
    ],
    "docs/layers.md": [
        "assert not (other.state_dict()['running_mean'] - bn.state_dict()['running_mean']).any()",
        "assert mask.sum() == 520",
        "assert m.mean == pytest.approx(1e6, rel=1e-6)",
        "assert weight.shape == (10, 256)",
        "assert images.dtype == 'uint8' and y.dtype == 'float32'",
        "assert abs(y.mean(axis=(0, 2, 3))).max() < 1e-5",
        "assert 'initial weight' in printed",
    ],
    "docs/norms.md": [
        "assert z.mean() == pytest.approx(9000, rel=0.01)",
        "assert grad_beta.mean() == pytest.approx(-1024, rel=1e-4)",
    ],
    "docs/files.md": [
        "assert 'complete' in printed",
        "assert \"('distance', 'air_time')\" in printed",
        "assert np.load('normalized.npy').mean(axis=(0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-12)",
        "assert m.n.tolist() == [2000]",
        "back = bnstream.fit('restored.parquet', columns=['distance'])",
        "assert back.mean == pytest.approx(bnstream.fit('data', columns=['distance']).mean, rel=1e-6)",
        "assert speed.names == ('speed',) and speed.mean == [2]",
        "assert whole.n[0] == 2000 and whole.exact",
        "assert channels.names[63] == 'emb[63]' and pooled.n.tolist() == [64_000]",
        "assert (chosen.names, numbers.names) == (('air_time', 'distance'), ('distance',))",
        "assert weighted.n == pytest.approx([64_000] * 3) and weighted.effective_n[0] < 60_000",
        "assert arrays['momentum'] == 0.9 and bn.momentum == 0.1",
    ],
    "docs/adapters/gymnasium.md": ["assert (a + b).mean.tolist() == [3, 4]"],
    "docs/how-to/masks-and-weights.md": [
        "assert m.n.shape == (3,) and (m.effective_n < m.n[1] * 2).all() and abs(m.mean - 5).max() < 0.3",
        "assert mean.shape == (2,)",
    ],
    "docs/how-to/merge-and-subtract.md": [
        "assert total.n.tolist() == [9000] * 3 and total.mean == pytest.approx(x.mean(0), rel=1e-14)",
        "assert parts[0].n[0] == 6000 and year.digest() == february.digest()",
    ],
    "docs/how-to/recalibrate.md": [
        "assert m.n[0] == 6400 and y.mean() == pytest.approx(0, abs=0.05)",
        "assert all(abs(bn.running_mean).max() > 1e-3 for weight, bn in layers)",
        "ends = [forward(batch, layers[:2]) @ layers[2][0] for batch in batches]",
        "assert layers[2][1].running_mean == pytest.approx(np.concatenate(ends).mean(0, dtype=float), rel=1e-6)",
    ],
    "docs/how-to/reproduce-bits.md": ["assert printed.split()[0] == 'False' and float(printed.split()[1]) < 1e-15"],
    "docs/how-to/small-batches.md": [
        "assert np.round([*map(float, printed.split())], 2).tolist() == [4, 76, 0.43, 0.05]",
    ],
    "docs/how-to/threads.md": ["assert bnstream.get_num_threads() == 2", "bnstream.set_num_threads(None)"],
    "docs/reference/file-format.md": ["assert bnstream.load('survey.npz').std().tolist() == [9, 12]"],
}
# The same for the blocks that need a package.
PACKAGES = {
    ("docs/layers.md", "matplotlib"): [
        "assert len(figure.axes) > 1",
        "assert Path('running.png').read_bytes().startswith(b'\\x89PNG')",
        "assert history.num_batches == list(range(1, 65))",
    ],
    ("docs/quantiles.md", "datasketches"): [
        "assert q.rank_error == pytest.approx([0.00345] * 3, rel=0.01)",
        "assert q.n.tolist() == again.n.tolist() == [200_000] * 3 and again == a",
        "assert abs(q.quantile(0.5) - 1).max() < 0.05 and counts.sum() == 200_000",
    ],
    ("docs/groups.md", "pandas"): ["assert 'delay_std' in printed"],
    ("docs/groups.md", "dask"): ["assert parts['AA'].n.tolist() == g['AA'].n.tolist()"],
    ("docs/files.md", "fsspec"): [
        "import bnstream; assert flights.mean == again.mean == bnstream.fit('data', columns=['distance']).mean",
        "import bnstream; assert one == bnstream.fit('data/january.parquet', columns=['distance'])",
    ],
    ("docs/files.md", "duckdb"): ["assert joined.names == ('speed',) and joined.mean == pytest.approx([8])"],
    ("docs/files.md", "pandas"): ["assert m.mean == pytest.approx(frame['distance'].mean(), rel=1e-15)"],
    ("docs/adapters/scikit-learn.md", "sklearn"): [
        "assert scaler.n_samples_seen_ == 65536",
        "assert abs(scaler.mean_ - 1e6).max() < 1",
        "assert scaler.mean_.tolist() == StandardScaler().fit(x).mean_.tolist()",
    ],
    ("docs/adapters/dask.md", "dask"): [
        "assert (stats.compute().n == 100_000).all()",
        "assert abs(y.compute().std() - 1) < 1e-9",
        "assert f'{weighted.compute().effective_n[0]:.0f}' == '75000'",      # 3/4 of the rows
        "assert (a == b, a.exact) == (True, True)",
    ],
    ("docs/adapters/dask.md", "dask.dataframe"): [
        "assert stats.compute().n.tolist() == [2, 3]",
        "assert bnstream.dask.normalize(frame, stats).compute()['age'].mean() == pytest.approx(0, abs=1e-12)",
    ],
    ("docs/adapters/xarray.md", "xarray"): [
        "assert abs(y.mean()).to_array().max() < 1e-6 and y.t.dtype == 'float32'",
        "assert again.equals(y)",
        "assert sorted(m.names) == ['p', 't[level=500]', 't[level=700]', 't[level=850]']",
        "assert stats.t.attrs == {'units': 'K'} and stats.t.dims == ('statistic', 'level')",
        "assert float(steps.t.sel(statistic='std', level=500)) == pytest.approx(200**0.5, rel=0.05)",
        "assert float(weighted.p.sel(statistic='n')) == pytest.approx(4920, rel=0.1)",
    ],
    ("docs/adapters/frameworks.md", "torch"): ["assert abs(bn(z) - net[1](z).detach().numpy()).max() < 1e-5"],
    ("docs/adapters/frameworks.md", "keras"): [
        "assert layer.name == 'normalize'",
        "assert (bn.channel_axis, bn.momentum) == (-1, 0.01)",
    ],
    ("docs/adapters/frameworks.md", "flax"): [
        "assert variables['batch_stats']['mean'].shape == layer.mean.shape == (256,)",
        "assert bn.channel_axis == -1",
    ],
    ("docs/adapters/frameworks.md", "onnx"): ["assert bn.num_features == 256"],
    ("docs/how-to/recalibrate.md", "torch"): [
        "z = torch.cat([net[:4](torch.from_numpy(batch)) for batch in batches]).detach().double()",
        "assert net[4].running_mean.numpy() == pytest.approx(z.mean(0).numpy(), abs=1e-6)",
    ],
    ("docs/adapters/gymnasium.md", "gymnasium"): [
        "assert rms.count > 100",
        "assert abs(observations).max() < 10",
    ],
    ("docs/adapters/beam.md", "apache_beam"): [
        "assert 'n    1000' in printed",
        "import bnstream; assert bnstream.Moments(exact=True).update(x).digest() in printed",
    ],
    ("docs/adapters/mpi.md", "mpi4py"): [
        "assert total == m == bnstream.Moments().update(x)",
        "assert whole.digest() in printed",
    ],
}
# The same for the lines of bash blocks that call bnstream; `printed` is their output.
BASH = {
    "README.md": [
        "assert 'distance' in printed",
        "again = bnstream.fit('normalized.parquet', columns=['distance', 'air_time'], nan_policy='omit')",
        "assert again.mean == pytest.approx([0, 0], abs=1e-12)",
        "assert again.std() == pytest.approx([1, 1], rel=1e-12)",
        "assert np.load('scaler.npz')['n_samples_seen_'].tolist() == again.n.tolist()",
    ],
    "docs/files.md": [
        "assert 'air_time' in printed",
        "assert bnstream.load('piped.npz') == bnstream.fit('data/january.parquet', columns=['distance'])",
        "assert Path('stats.csv').read_text().startswith('channel,n,mean,')",
        "assert bnstream.load('numbers.npz').names == ('distance',)",
        "assert bnstream.load('weighted.npz').mean > bnstream.load('stats.npz').mean[1]",
        "assert bnstream.load('both.npz').n.tolist() == bnstream.load('stats.npz').n.tolist()",
        "assert bnstream.load('both.npz').mean == pytest.approx(bnstream.load('stats.npz').mean, rel=1e-15)",
        "assert Path('again.npz').read_bytes() == Path('all.npz').read_bytes()",
        "assert bnstream.load('all.npz').digest() in printed",
        "options = {'columns': ['distance', 'air_time'], 'nan_policy': 'omit', 'exact': True}",
        "assert bnstream.load('rest.npz') == bnstream.fit('data/february.parquet', **options)",
        "assert bnstream.load('imported.npz').mean.tolist() == bnstream.load('stats.npz').mean.tolist()",
        "again = bnstream.fit('normalized.parquet', columns=['distance', 'air_time'], nan_policy='omit')",
        "assert again.std() == pytest.approx([1, 1], rel=1e-12)",
        "assert sorted(path.name for path in Path('normalized').iterdir()) == ['february.parquet', 'january.parquet']",
        "again = bnstream.fit('restored.parquet', columns=['distance', 'air_time'], nan_policy='omit')",
        "assert again.mean == pytest.approx(bnstream.load('stats.npz').mean, rel=1e-6)",
        "assert Path('stats.png').read_bytes().startswith(b'\\x89PNG')",
    ],
    "docs/groups.md": [
        "g = bnstream.load('carriers.npz')",
        "assert list(g) == ['AA', 'UA'] and 'carrier' in printed",
        "again = bnstream.fit('normalized.parquet', by='carrier', columns=['distance', 'air_time'], nan_policy='omit')",
        "assert again.mean == pytest.approx(np.zeros((2, 2)), abs=1e-12)",
        "assert again.std() == pytest.approx(np.ones((2, 2)), rel=1e-12)",
    ],
    "docs/building.md": ["assert bnstream.show_config('dicts')['level'] in printed"],
}

# Calls that raise the errors in the tables of a page, in their order, after its plain Python blocks.
ERRORS = {
    "docs/how-to/masks-and-weights.md": [
        "bnstream.mean_var(x, where=weights)", "bnstream.mean_var(x, where=valid[1:])",
        "bnstream.mean_var(x, weights=x)", "bnstream.mean_var(x, weights=-weights)",
        "bnstream.mean_var(x, weights=weights, exact=True)",
        "bnstream.Moments(track='quantiles').update(x, weights=weights)", "bnstream.Moments().update(x)",
        "bnstream.mean_var(np.ma.masked_invalid(x))",
    ],
    "docs/how-to/merge-and-subtract.md": [
        "bnstream.Moments(names=['a', 'b']).update(x[:, :2]) + bnstream.Moments(names=['b', 'a']).update(x[:, :2])",
        "total + bnstream.Moments().update(x[:, :2])", "total + year",
        "total + bnstream.Moments(nan_policy='propagate').update([[np.nan] * 3])", "total - total",
        "january - bnstream.Moments(exact=True).update(x)",
        "(a := bnstream.Moments(exact=True, track='min').update(x)) - a",
    ],
    "docs/how-to/recalibrate.md": [
        "bnstream.BatchNorm(16).recalibrate([])", "bnstream.BatchNorm(16).recalibrate(batches[0])",
        "bnstream.BatchNorm(16).recalibrate([np.where(np.arange(16) == 3, np.nan, batches[0])])",
        "bnstream.BatchNorm(16).recalibrate([np.ones((2, 3, 16))])",
        "bnstream.BatchNorm(16).recalibrate([batches[0][:1]])",
    ],
    "docs/how-to/reproduce-bits.md": [
        "a.digest()", "bnstream.Moments(exact=True).update(x, weights=np.full(len(x), 0.5))",
        "bnstream.Moments(exact=True, track='kurtosis')",
    ],
    "docs/how-to/small-batches.md": [
        "bn.train()(x[:1])", "bn.train()(x[:0])", "bn.train()(x[:4], where=np.zeros(4, bool))",
        "bnstream.instance_norm(x[:2])",
    ],
    "docs/how-to/threads.md": ["bnstream.set_num_threads(0)", "bnstream.set_num_threads('2')"],
}


def blocks(page, language):
    """The blocks of a page in a language, each with the package it needs, or ''."""
    return [(package, code) for found, package, code in BLOCK.findall(PAGES[page]) if found == language]


def command_lines(page):
    return [line for _, code in blocks(page, "bash") for line in code.splitlines() if line.startswith("bnstream ")]


def check(statements, **names):
    for statement in statements:
        exec(statement, names)


def run(page, package, capsys):
    """The plain blocks of a page, and those that need a package, in their order."""
    names = {}
    for needed, code in blocks(page, "python"):
        if needed in ("", package):
            exec(code, names)
    return names | {"printed": capsys.readouterr().out, "pytest": pytest, "np": np, "Path": Path}


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    """An empty working folder; for a page that reads files, with the files it reads."""
    monkeypatch.chdir(tmp_path)
    if "data/" not in PAGES[request.getfixturevalue("page")]:
        return
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for month in ("january", "february"):
        distance = rng.integers(100, 5000, N_ROWS)
        air_time = pa.array(distance / 8, mask=rng.random(N_ROWS) < 0.1)
        table = pa.table({"carrier": ["AA", "UA"] * (N_ROWS // 2), "distance": distance, "air_time": air_time})
        parquet.write_table(table, tmp_path / "data" / f"{month}.parquet")


@pytest.mark.parametrize("page", PYTHON)
@pytest.mark.usefixtures("folder")
def test_python(page, capsys):
    check(PYTHON[page], **run(page, "", capsys))


@pytest.mark.parametrize(("page", "package"), PACKAGES)
@pytest.mark.usefixtures("folder")
def test_packages(page, package, capsys):
    """The plain blocks, and those that need one package."""
    require(package)
    check(PACKAGES[page, package], **run(page, package, capsys))


@pytest.mark.parametrize("page", ERRORS)
@pytest.mark.usefixtures("folder")
def test_errors(page, capsys):
    """Each message in a table of errors is raised by the call that has its place in `ERRORS`."""
    names = run(page, "", capsys)
    _, _, *rows = re.findall(r"^\|.*$", PAGES[page].partition("## Errors")[2], re.MULTILINE)
    assert len(rows) == len(ERRORS[page])
    for row, call in zip(rows, ERRORS[page], strict=True):
        message, = re.findall(r"^\| `(.*?)` \|", row)
        if "quantiles" in call:
            pytest.importorskip("datasketches")
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            exec(call, names)


@pytest.mark.parametrize("page", thorough(list(BASH), ["README.md"]))
@pytest.mark.usefixtures("folder")
def test_commands(page):
    """Each line that calls bnstream, in the shell."""
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("there is no bash")
    process = subprocess.run([shell, "-c", COMMAND + "\n".join(command_lines(page))], capture_output=True,
                             encoding="utf-8", timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    check(BASH[page], printed=process.stdout, bnstream=bnstream, pytest=pytest, np=np, Path=Path)


def test_every_block_runs():
    """Code blocks but those of Sphinx are of a form that the tests find; a page with code has something to check."""
    for page, text in PAGES.items():
        own = re.sub(r"^```\{.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        fences = [line for line in own.splitlines() if line.lstrip().startswith("```")]
        assert len(fences) == 2 * len(BLOCK.findall(text)), page
        languages = {language for language, *_ in BLOCK.findall(text)}
        assert languages <= {"python", "bash"} | ({"c"} if page == IN_C else set()), page
    assert PACKAGES.keys() == {(page, needed) for page in PAGES for needed, _ in blocks(page, "python") if needed}
    assert ERRORS.keys() == {page for page, text in PAGES.items() if "## Errors\n" in text and "/how-to/" in page}
    with_python = {page for page in PAGES if blocks(page, "python")}
    assert PYTHON.keys() | {page for page, _ in PACKAGES} == with_python
    assert BASH.keys() == {page for page in PAGES if command_lines(page)}


def heading_ids(text):
    """The anchors that GitHub makes of the headings of a page."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)}


def prose(text):
    """A page without its code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links(page):
    """Each relative link leads to a file, and to a heading of it."""
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), f"{page} links to {target}, which is not there"
        if anchor:
            assert anchor in heading_ids(file.read_text(encoding="utf-8")), f"{page} links to {target}"


def test_quick_start():
    """The two commands of the README, to the letter; the checks run them from there."""
    for command in ('pip install ".[demo]" && bnstream demo', 'pip install -e ".[test]" && pytest'):
        assert f"```bash\n{command}\n```" in PAGES["README.md"]


def test_the_reference_has_every_public_name():
    """In the lists of docs/reference, from which Sphinx makes a page for each."""
    lists = "".join(text for page, text in PAGES.items() if page.startswith("docs/reference/"))
    listed = set(re.findall(r"^   ([\w.]+)$", lists, re.MULTILINE))
    modules = ("", "sketches.", "exchange.", "plots.", "runningmeanstd.")
    for module in modules:
        names = importlib.import_module(f"bnstream.{module}".rstrip(".")).__all__
        assert {module + name for name in names if not name.startswith("__")} <= listed, module
    assert not [name for name in listed if name.count(".") == 0 and not hasattr(bnstream, name)]


def test_the_promise_is_the_same_everywhere():
    texts = {**PAGES, "CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
             "mean_var": bnstream.mean_var.__doc__, "Moments": bnstream.Moments.__doc__}
    found = {}
    for name, text in texts.items():
        words = " ".join(text.replace("`", "").split())
        for mean in re.findall(r"(\d+) eps of max\(", words):
            found.setdefault((int(mean), *map(int, re.findall(r"relative (\d+) eps", words))), []).append(name)
    stated = {"README.md", "CHANGELOG.md", "docs/conventions.md", "docs/benchmarks.md", "docs/explanation/bounds.md",
              "mean_var", "Moments"}
    assert stated <= {*found.pop(PROMISED)}
    twice = tuple(2 * bound for bound in PROMISED)          # for the difference of two results
    assert found == {twice: ["docs/explanation/sameness.md"]}


def test_the_licenses_are_those_of_all_packages_that_users_need():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    ours = {"test", "lint", "bench", "docs", "peers"}
    named = {re.match(r"[\w.-]+", one)[0] for extra in extras.keys() - ours for one in extras[extra]}
    (listed,) = re.findall("--packages (.*)", (ROOT / "docs/dependencies.md").read_text(encoding="utf-8"))
    assert sorted((named | {"numpy"}) - {"bnstream"}) == listed.split()


def test_the_code_of_notebooks_is_python():
    """It runs where the site is made. Here it is checked that tutorials have code, and that all code compiles."""
    notebooks = {page: text for page, text in PAGES.items() if "```{code-cell}" in text}
    tutorials = {page for page in PAGES if "/tutorials/" in page and not page.endswith("index.md")}
    assert len(tutorials) >= 2
    assert tutorials < notebooks.keys()
    for page, text in notebooks.items():
        cells = re.findall(r"^```\{code-cell\} ipython3\n((?::[^\n]*\n)*)(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert len(cells) == text.count("```{code-cell}") >= (3 if page in tutorials else 1), page
        for _, code in cells:
            compile(code, page, "exec")
