"""JSON that is a list of objects, or lines of them: what is read and refused, and what it is left out for."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.formats import X, zipped

from bnstream import SourceError, apply, fit
from bnstream.streams.sources.text import jsonlist

pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")


JSON = {
    "a list": ('[{"a": 1, "t": "]},["}, {"a": 3,\r\n "t": "\\n\\\""}]', 2),
    "a byte-order mark and blanks": ('\ufeff \n[\n{"a": 1}\t,{"a":2.5}\r\n]\n\n', 1.75),
    "lines": ('{"a": 1}\n\n{"a": 3}', 2),
    "lists in it": ('[{"a": [1, 2]}, {"a": [3, 4]}]', [2, 3]),
    "characters beyond the first plane": ('[{"t": "\U0001d11e", "a": 1}, {"a": 3}]', 2),
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("read_bytes", [1, 7, 1 << 20])
def test_json(name, read_bytes, folder, monkeypatch):
    monkeypatch.setattr(jsonlist, "COPY_BYTES", read_bytes)
    monkeypatch.setattr("bnstream.streams.sources.text.jsonl.BLOCK_BYTES", 20)
    text, mean = JSON[name]
    Path("t.json").write_text(text, encoding="utf-8", newline="")
    assert np.array_equal(fit("t.json", columns=["a"]).mean.ravel(), np.ravel(mean))


BAD_LISTS = {
    "empty": ("", "is empty; expected a list of JSON objects, or an object in each line"),
    "no objects": ("[ ]", "is empty; expected a list of JSON objects"),
    "numbers": ("[1, 2]", "its list has '1, 2]' after 0 objects; expected an object"),
    "a number later": ('[{"a": 1}, 2]', "its list has '2]' after 1 objects; expected an object"),
    "no comma": ('[{"a": 1} {"a": 2}]', "its list has '{\"a\": 2}]' after 1 objects; expected ',' or ']'"),
    "a last comma": ('[{"a": 1}, ]', "its list has ']' after 1 objects; expected an object"),
    "no end": ('[{"a": 1}', "its list has the end of the file after 1 objects; expected ',' or ']'"),
    "two lists": ('[{"a": 1}][]', "its list has '[]' after 1 objects; expected nothing more"),
    "half an object": ('[{"a": 1}, {"a"', "object 2 of its list is damaged, or longer than 16 MiB: "),
    "no JSON": ('[{"a": 1}, {a: 1}]', "object 2 of its list is damaged, or longer than 16 MiB: Expecting property"),
    "an object": ('{"a": 1,\n"b": 2}', "begins with '{\"a\": 1,\\n\"b\": 2}'; expected a list of JSON objects"),
    "an object in a line": ('{"a": [1, 2]}\n', "begins with '{\"a\": [1, 2]}\\n'; expected a list of JSON"),
    "an object by itself": ('{"a": 1}', "in each line; pass format='jsonl' (--format jsonl) if an object by itself is"),
    "a number": ("3\n4\n", "begins with '3\\n4\\n'; expected a list of JSON objects, or an object in each line"),
    "another text": ("a,b\n1,2\n", "begins with 'a,b\\n1,2\\n'; expected a list of JSON objects"),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_json_that_is_no_table(name, folder):
    text, message = BAD_LISTS[name]
    Path("t.json").write_text(text)
    with pytest.raises(SourceError, match=rf"^t\.json.*{re.escape(message)}"):
        fit("t.json")


@pytest.mark.parametrize("block_bytes", [20, 1 << 20])
def test_unsigned_integers_of_json_are_not_rounded(block_bytes, folder, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.text.jsonl.BLOCK_BYTES", block_bytes)
    ids = [2**64 - 1, 2**63 + 1, 5, None]
    Path("t.json").write_text(json.dumps([{"f": 2.0**63, "id": one, "a": 1} for one in ids]))
    m = fit("t.json", columns=["id"], nan_policy="omit", exact=True)
    assert m == fit(np.array(ids[:-1], np.uint64)[:, None], columns=["id"], exact=True)
    apply(fit("t.json", columns=["a"]), "t.json", "y.parquet")
    y = parquet.read_table("y.parquet")
    assert y["id"].to_pylist() == ids
    assert (y["f"].to_pylist(), y.column_names) == ([2.0**63] * 4, ["f", "id", "a"])


def test_objects_of_json_by_themselves(folder):
    Path("data").mkdir()
    for i in range(3):
        Path(f"data/{i}.json").write_text(json.dumps({"a": i, "b": 0.5}, indent=i))
    assert fit("data", format="jsonl").mean.tolist() == [1, 0.5]


def test_json_in_another_encoding(folder):
    Path("t.json").write_text('[{"a": 1}, {"a": 2, "t": "\xe9"}]', encoding="latin-1")
    assert fit("t.json", columns=["a"], encoding="latin-1").mean == 1.5
    with pytest.raises(SourceError, match=r"^t\.json is not UTF-8 after 0 objects: .*; give its encoding with "):
        fit("t.json", columns=["a"])


def test_an_object_of_json_that_does_not_end(folder, monkeypatch):
    monkeypatch.setattr(jsonlist, "LONGEST_OBJECT", 10)
    monkeypatch.setattr(jsonlist, "COPY_BYTES", 10)
    Path("t.json").write_text('[{"a": 1}, {"a": "' + 100 * "x" + '"}]')
    with pytest.raises(SourceError, match=r"^t\.json: object 2 of its list is damaged, or longer than "):
        fit("t.json", columns=["a"])


DEEP = 100_000
NESTED = {
    "lists": '{"a": 1, "d": ' + "[" * DEEP + "]" * DEEP + "}",
    "objects": '{"a": 1, "d": ' + '{"d": ' * DEEP + "1" + "}" * DEEP + "}",
    "in lines": '{"d":\n' * DEEP + "1" + "}\n" * DEEP,
    "beside brackets in texts": r'{"t": "]]\\\"}}", "d": ' * DEEP + "1" + "}" * DEEP,
    "not to the end": "[" * DEEP,
}


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("list_of", ["{}\n", "[{}]"])
def test_json_that_is_deeply_nested(name, list_of, folder):
    """Parsers overflow the stack, which ended the process."""
    Path("t.json").write_text(list_of.format(NESTED[name]))
    for kind in ("json", "jsonl"):
        with pytest.raises(SourceError, match=r"^t\.json"):
            fit("t.json", columns=["a"], format=kind)
    if list_of == "{}\n":
        with pytest.raises(SourceError, match="nested more than 200 levels deep; leave out what is nested so"):
            fit("t.json", columns=["a"], format="jsonl")


def test_json_with_brackets_in_texts(folder):
    text = "[{" * 300
    rows = [{"a": i, "t": text, "e": [[1.0, 2.0]] * 300, "s": '\\"' + text} for i in range(3)]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert fit("t.jsonl", columns=["a"]).mean == 1
    Path("t.json").write_text(json.dumps(rows))
    assert fit("t.json", columns=["a"]).mean == 1


def beside_images(folder):
    """An image with what describes it, as in shards of WebDataset and in COCO."""
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)).save(folder / "1.png")
    (folder / "1.json").write_text('{"label": 3}')
    (folder / "coco.json").write_text('[{"label": 3}, {"label": 4}]')


def test_json_beside_other_data_is_left_out(folder):
    Path("data").mkdir()
    beside_images(Path("data"))
    m = fit("data")
    assert (m.n.tolist(), m.mean.tolist()) == ([4, 4, 4], [4.5, 5.5, 6.5])
    Path("data.zip").write_bytes(zipped({path.name: path.read_bytes() for path in Path("data").iterdir()}))
    assert fit("data.zip") == m
    with pytest.raises(SourceError, match="the files have different formats"):
        fit("data/*")


def test_a_folder_of_json_alone(folder):
    Path("data").mkdir()
    for i, rows in enumerate((X[:300], X[300:])):
        Path("data", f"{i}.json").write_text(json.dumps([dict(zip("abc", row, strict=True)) for row in rows.tolist()]))
    Path("data", "README.md").write_text("...")
    np.testing.assert_allclose(fit("data").mean, X.mean(axis=0), rtol=1e-14)
    Path("data", "0.json").rename("x.txt")
    np.testing.assert_allclose(fit("x.txt", format="json").mean, X[:300].mean(axis=0), rtol=1e-14)
