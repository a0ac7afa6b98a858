"""The command that compares bnstream with its peers, and the blocks of Markdown that it writes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = """Words.

<!-- compare: one -->
old

<!-- compare: end -->
More words.
<!-- compare: two -->
<!-- compare: end -->
"""
BLOCKS = {"one": r"| 1 \g<1> |", "two": "| 2 |"}


def called(compare, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["compare", *arguments])
    compare.command.main()


@pytest.fixture
def pages(compare, tmp_path, monkeypatch):
    """Two pages in place of the repository's."""
    first, second = tmp_path / "README.md", tmp_path / "benchmarks.md"
    first.write_text(TEXT, encoding="utf-8")
    second.write_text("<!-- compare: three -->\n<!-- compare: end -->\n", encoding="utf-8")
    names = {"README": first, "DOCS": second, "PAGES": {first: ("one", "two"), second: ("three",)}}
    for name, value in names.items():
        monkeypatch.setattr(compare.command, name, value)
    return first, second


def test_blocks_are_replaced(compare):
    written = compare.writing.replaced("page.md", TEXT, BLOCKS, BLOCKS)
    assert written == (
        "Words.\n\n<!-- compare: one -->\n\n| 1 \\g<1> |\n\n<!-- compare: end -->\nMore words.\n"
        "<!-- compare: two -->\n\n| 2 |\n\n<!-- compare: end -->\n")
    assert compare.writing.replaced("page.md", written, BLOCKS, BLOCKS) == written


def test_a_block_without_a_new_table_stays(compare):
    written = compare.writing.replaced("page.md", TEXT, BLOCKS, {"two": "| 2 |"})
    assert "-->\nold\n\n<!--" in written
    assert written == TEXT.replace("<!-- compare: two -->\n", "<!-- compare: two -->\n\n| 2 |\n\n")


WRONG = {
    "no name": (TEXT.replace("<!-- compare: two -->", ""), "needs a <!-- compare: end --> after it"),
    "no end": (TEXT.replace("old\n\n<!-- compare: end -->", "old"), "needs a <!-- compare: end --> after it"),
    "missing": (TEXT.replace("<!-- compare: two -->\n<!-- compare: end -->", ""),
                "lacks the marker <!-- compare: two -->"),
    "twice": (TEXT + TEXT, "has 2 markers <!-- compare: one -->, expected one"),
    "unknown": (TEXT + "<!-- compare: three -->\n<!-- compare: end -->\n",
                "markers that no table is written to: three"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_wrong_blocks(compare, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        compare.writing.replaced("page.md", text, BLOCKS, BLOCKS)
    assert str(caught.value).startswith("page.md")


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("arguments", [["--write"], ["--write", "--summary"]])
def test_wrong_pages_are_found_before_anything_is_measured(compare, pages, monkeypatch, text, message, arguments):
    pytest.importorskip("matplotlib")
    pages[0].write_text(text, encoding="utf-8")
    monkeypatch.setattr(compare.command, "measured", None)
    with pytest.raises(SystemExit, match=message):
        called(compare, monkeypatch, *arguments)
    assert pages[0].read_text(encoding="utf-8") == text


def test_the_docs_have_the_blocks(compare):
    command = compare.command
    compare.writing.check(command.DOCS, command.PAGES[command.DOCS])
    assert command.PLOT.exists()
    assert f"({command.PLOT.relative_to(command.DOCS.parent).as_posix()})" in command.DOCS.read_text(encoding="utf-8")


def test_the_readme_has_the_blocks(compare):
    command = compare.command
    compare.writing.check(command.README, command.PAGES[command.README])
    assert f"({command.PLOT.relative_to(ROOT).as_posix()})" in command.README.read_text(encoding="utf-8")


def test_a_part_is_not_written(compare, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        called(compare, monkeypatch, "--write", "--only", "x")
    assert "--write: not allowed with argument --only" in capsys.readouterr().err


def test_the_sweep_writes_its_own_block(compare, pages, monkeypatch):
    page = pages[1]
    page.write_text(TEXT.replace("compare: one", "compare: sweep"), encoding="utf-8")
    monkeypatch.setitem(compare.command.PAGES, page, ("two", "sweep"))
    monkeypatch.setattr(compare.sweep, "main", lambda arguments: f"{arguments.times} rounds")
    called(compare, monkeypatch, "sweep", "--rounds", "3", "--write")
    written = page.read_text(encoding="utf-8")
    assert "<!-- compare: sweep -->\n\n3 rounds\n\n<!-- compare: end -->" in written
    assert "<!-- compare: two -->\n<!-- compare: end -->" in written


def test_a_table_is_what_was_printed(compare, capsys):
    table = compare.table.Table(["of a", "of the last"], "what", {"ms": "{:.1f}", "peer": "{:.0f}x"})
    table.row("of a", {"ms": 1, "peer": 2.2})
    table.row("of b", {"ms": 1})
    table.row("of another", {"ms": 3, "no column": 4})
    table.row("of the last", {})
    printed = capsys.readouterr().out
    assert printed.strip() == str(table) == (
        "| what | ms | peer |\n|---|---|---|\n| of a | 1.0 | 2x |\n| of another | 3.0 |  |\n| of the last |  |  |")


def made(compare, only, heading, rows):
    table = compare.table.Table(only, heading, {})
    for name, values in rows.items():
        table.row(name, values)
    return table


def test_the_summary_takes_its_rows_from_the_tables(compare, capsys):
    only = compare.summary.needed()
    assert only.keys() <= compare.command.TABLES.keys()
    times = {"ms": 4.56, "of plain read, 2 threads": 0.9, "NumPy": 12.34, "PyTorch": 40, "scikit-learn": 100.4}
    layer = {"ms": 1, "ms, reused pages": 2, "NumPy, reused pages": 3, "PyTorch, reused pages": 0.75,
             "NumPy, new pages": 9}
    rows = {
        "mean_var": {"(100000, 256) float32": times, "(128, 64, 56, 56) float32": {"ms": 4, "NumPy": 15}, "other": {}},
        "batch_norm": {f"(32, 64, 56, 56), {kind}": layer for kind in ("training", "inference", "backward")},
        "updates": {"Moments.update": {"us": 0.78, "of Moments.update": 1}, "np.add": {"of Moments.update": 0.8},
                    "gymnasium RunningMeanStd.update": {"of Moments.update": 39.2}},
        "variance_errors": {"100,000, float32": {"bnstream": 2.5e-8, "NumPy": 225, "PyTorch": 2.5e-8, "oneDAL": 1}},
    }
    tables = {name: made(compare, only[name], name, found) for name, found in rows.items()}
    assert [set(table.rows) - {"np.add"} for table in tables.values()] == [
        {"(100000, 256) float32", "(128, 64, 56, 56) float32"},
        {"(32, 64, 56, 56), training", "(32, 64, 56, 56), inference"},
        {"Moments.update", "gymnasium RunningMeanStd.update"}, {"100,000, float32"}]
    lines = [line.split(" | ", 1)[1] for line in compare.summary.text(tables).splitlines() if line.startswith("| ")]
    assert lines == [
        "bnstream | NumPy | PyTorch | others |",
        "4.56 ms | 12.3x | 40.0x | scikit-learn 100x |",
        "4.00 ms | 15.0x |  |  |",
        *["2.00 ms | 3.0x | 0.8x |  |"] * 2,
        "0.78 us |  |  | gymnasium 39.2x |",
        "2.5e-08 | 9e+09x | 1.0x |  |"]


def test_the_table_of_the_cache_holds_ratios(compare):
    seconds = {("bnstream", "training"): 6e-6, ("floor", "training"): 4e-6 * compare.cache.cache.TIMES,
               ("PyTorch", "training"): 9e-6, ("bnstream", "moments"): 1, ("floor", "moments"): 1}
    assert compare.cache.values(seconds, "training", 1000) == {
        "ns": pytest.approx(6), "floors": pytest.approx(1.5), "PyTorch": pytest.approx(1.5)}
    assert compare.cache.values(seconds, "moments", 1000).keys() == {"ns", "floors"}
    names = compare.cache.columns(["x86-64-v3", "x86-64-v4"])
    assert {"ns, v3", "floors, v3", "ns, v4", "floors, v4"} <= names.keys()


def test_the_run_line_names_the_machine(compare, tmp_path, monkeypatch):
    provenance = compare.provenance
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU\nprocessor\t: 1\n", encoding="ascii")
    for name, texts in {"index0": "1 Data 32K", "index1": "1 Instruction 64K", "index2": "2 Unified 1280K",
                        "index3": "3 Unified 32768K"}.items():
        (tmp_path / name).mkdir()
        for file, text in zip(("level", "type", "size"), texts.split(), strict=True):
            (tmp_path / name / file).write_text(f"{text}\n", encoding="ascii")
    monkeypatch.setattr(provenance, "CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(provenance, "CACHES", tmp_path)
    line = provenance.line("--rounds 3", ["x86-64-v3", "x86-64-v4"], [1, 2])
    assert "by `python asv_bench/compare --rounds 3`, on 1 thread and 2 threads: bnstream " in line
    assert ", kernels of level x86-64-v3 and x86-64-v4; Python " in line
    assert re.search(r"\. Some CPU of level [\w-]+, \d+ cores, L1d of 32 KB, L2 of 1.25 MB, L3 of 32 MB\.$", line)


def test_a_system_that_tells_little_of_the_machine(compare, tmp_path, monkeypatch):
    provenance = compare.provenance
    monkeypatch.setattr(provenance, "CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(provenance, "CACHES", tmp_path)
    monkeypatch.setattr(provenance.platform, "processor", lambda: "")
    monkeypatch.setattr(provenance.platform, "machine", lambda: "arm64")
    assert re.fullmatch(r"arm64 of level [\w-]+, \d+ cores", provenance.machine())


def test_the_command(tmp_path, command):
    printed = command(tmp_path, "--rounds", "1", "--threads", "1", "--only", "1,000, float64")
    assert "\n| 1,000, float64 | " in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [["--rounds", "3"], ["--threads", "1"], ["--only", "x"], ["--summary"],
                                     ["--write"]], ids=lambda options: options[0])
def test_options_before_sweep_are_refused(compare, options, monkeypatch, capsys):
    monkeypatch.setattr(compare.sweep, "main", None)
    with pytest.raises(SystemExit):
        called(compare, monkeypatch, *options, "sweep")
    assert f"error: sweep does not use {options[0]} before it; its own options follow it" in capsys.readouterr().err
