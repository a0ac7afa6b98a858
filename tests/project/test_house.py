"""The architecture: imports run downward only, and in no cycle."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "bnstream"
LAYERS = ("_kernels", "core", "sketches", "statefiles", "exchange", "plots", "streams", "sklearn",
           ("dask", "gymnasium", "beam", "mpi", "xarray", "runningmeanstd"), "", "cli", "__main__")
HEIGHT = {name: i for i, names in enumerate(LAYERS) for name in ([names] if isinstance(names, str) else names)}


def imports(path):
    """The modules of bnstream that a file imports, by name, wherever in the file and for whatever purpose."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".py", ".pyi"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path} has a relative import, which this test does not follow"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
    else:
        for module, names in re.findall(r"^\s*from ([\w.]+) c?import \(?([\w, *\n]+)", text, re.MULTILINE):
            yield from (f"{module}.{name.strip()}" for name in names.split(",") if name.strip())
        yield from re.findall(r"^\s*c?import ([\w.]+)", text, re.MULTILINE)


def modules():
    """Every module, with the modules of bnstream that it imports."""
    paths = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".pxi", ".pyi")]
    named = {".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): set()
             for path in paths}
    for path in paths:
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        for imported in imports(path):
            if imported.partition(".")[0] == "bnstream":
                inside = imported.partition(".")[2]
                target = inside if inside in named else inside.rpartition(".")[0]
                named[name] |= {target} - {name}
    return named


def layer(module):
    return HEIGHT[module.partition(".")[0]]


def test_imports_run_downward():
    upward = {f"{name} imports {target or 'bnstream'}" for name, targets in modules().items() if name
              for target in targets if layer(target) > layer(name)}
    assert not upward


def test_no_cycle():
    graph, done = modules(), set()

    def visit(name, path):
        assert name not in path, f"a cycle: {' -> '.join((*path[path.index(name):], name))}"
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_folder_is_a_layer():
    assert {module.partition(".")[0] for module in modules()} == set(HEIGHT)
