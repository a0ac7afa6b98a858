"""compare.py writes its tables where the README wants them, and nowhere else."""

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


@pytest.fixture
def asv_bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "asv_bench")


@pytest.fixture
def readme(asv_bench):
    import readme

    return readme


def test_blocks_are_replaced(readme):
    written = readme.replaced(TEXT, {"one": r"| 1 \g<1> |", "two": "| 2 |"})
    assert written == (
        "Words.\n\n<!-- compare: one -->\n\n| 1 \\g<1> |\n\n<!-- compare: end -->\nMore words.\n"
        "<!-- compare: two -->\n\n| 2 |\n\n<!-- compare: end -->\n")
    assert readme.replaced(written, {"one": r"| 1 \g<1> |", "two": "| 2 |"}) == written


@pytest.mark.parametrize(("text", "message"), [
    (TEXT.replace("<!-- compare: two -->", ""), "takes an <!-- compare: end -->"),
    (TEXT.replace("old\n\n<!-- compare: end -->", "old"), "takes an <!-- compare: end -->"),
    (TEXT.replace("<!-- compare: two -->\n<!-- compare: end -->", ""), "has 0 blocks <!-- compare: two -->"),
    (TEXT + TEXT, "has 2 blocks <!-- compare: one -->"),
    (TEXT + "<!-- compare: three -->\n<!-- compare: end -->\n", "blocks that nobody writes: three"),
])
def test_wrong_blocks(readme, text, message):
    with pytest.raises(ValueError, match=message):
        readme.replaced(text, dict.fromkeys(["one", "two"], ""))


def test_the_readme_has_the_blocks(asv_bench):
    import compare
    import readme

    readme.check(compare.README.read_text(encoding="utf-8"), compare.BLOCKS)
    assert compare.PLOT.exists()
    assert f"({compare.PLOT.relative_to(ROOT).as_posix()})" in compare.README.read_text(encoding="utf-8")


def test_a_part_is_not_written(asv_bench, monkeypatch, capsys):
    import compare

    monkeypatch.setattr("sys.argv", ["compare.py", "--write", "--only", "x"])
    with pytest.raises(SystemExit):
        compare.main()
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_table_is_what_was_printed(asv_bench, capsys):
    from table import Table

    table = Table("of a", "what", {"ms": "{:.1f}", "peer": "{:.0f}x"})
    table.row("of a", {"ms": 1, "peer": 2.2})
    table.row("of b", {"ms": 1})
    table.row("of another", {"ms": 3, "no column": 4})
    printed = capsys.readouterr().out
    assert printed.strip() == str(table) == (
        "| what | ms | peer |\n|---|---|---|\n| of a | 1.0 | 2x |\n| of another | 3.0 |  |")
