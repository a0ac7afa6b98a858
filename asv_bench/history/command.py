"""Choose results of asv for the page of the history, and write them to docs/history/results.json."""

import argparse
import json
import math
import re
import subprocess
from pathlib import Path

from .areas import AREAS

HERE = Path(__file__).parent
RESULTS = HERE.parent / ".asv" / "results"
PAGE = HERE.parents[1] / "docs" / "history" / "results.json"
COMMITS = HERE / "commits.txt"


def readings():
    """The results that the areas show."""
    return {reading for area in AREAS for line in area.lines.values() for reading in line if reading}


def pattern():
    """What `asv run --bench` has to select."""
    calls = sorted(f"{reading.benchmark}({', '.join(map(repr, reading.parameters))})" for reading in readings())
    return f"^({'|'.join(map(re.escape, calls))})"


def commits():
    """Hash, day and subject of each commit, the first one first."""
    hashes = COMMITS.read_text(encoding="ascii").split()
    done = subprocess.run(["git", "show", "--no-patch", "--format=%H%x09%cs%x09%s", *hashes], cwd=HERE, check=True,
                          capture_output=True, encoding="utf-8")
    return [dict(zip(("hash", "day", "subject"), line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


def value(found, reading):
    """A result of a commit, or None if it has none."""
    if reading.benchmark not in found.get_all_result_keys():
        return None
    numbers = found.get_result_value(reading.benchmark, [[repr(parameter)] for parameter in reading.parameters])
    return None if not numbers or numbers[0] is None or math.isnan(numbers[0]) else numbers[0]


def ratio(found, line):
    """What a line shows of a commit in this run, to three digits."""
    one, other = value(found, line.value), 1 if line.over is None else value(found, line.over)
    return None if one is None or other is None else float(f"{one / other:.3g}")


def collected(machine, by_hash, before=None):
    """What the page shows: the machine, the commits, and for each line of each area the results of every commit.

    `before` is the page so far. Its results are kept if they are of the same machine, commits and lines.
    """
    shown = commits()
    if missing := [commit["subject"] for commit in shown if commit["hash"] not in by_hash]:
        raise SystemExit(f"asv has no results here of {'; '.join(missing)}: run it on HASHFILE:history/{COMMITS.name}")
    areas = [{"title": area.title, "unit": area.unit, "more_is_better": area.more_is_better,
              "lines": {name: [known(ratio(by_hash[commit["hash"]], line)) for commit in shown]
                        for name, line in area.lines.items()}} for area in AREAS]
    made = {"machine": machine, "commits": shown, "areas": areas}
    if before is None or without_results(before) != without_results(made):
        print("a page of other commits, lines or machines: it begins anew with this run")
        return made
    lines = [(area["lines"], of_before["lines"]) for area, of_before in zip(areas, before["areas"], strict=True)]
    if all(old[-1:] == new for own, theirs in lines for name in own
           for old, new in zip(theirs[name], own[name], strict=True)):
        raise SystemExit("the page has this run already: run asv again")
    for own, theirs in lines:
        for name, values in own.items():
            own[name] = [old + new for old, new in zip(theirs[name], values, strict=True)]
    return made


def known(result):
    """The results of a commit by run, as a list."""
    return [] if result is None else [result]


def without_results(page):
    """What must not change between runs whose results are shown together."""
    areas = [(area["title"], area["unit"], [*area["lines"]]) for area in page["areas"]]
    return [page["machine"], page["commits"], areas]


def main():
    parser = argparse.ArgumentParser(prog="history", description=__doc__)
    parser.add_argument("--bench", action="store_true", help="print what `asv run --bench` has to select")
    if parser.parse_args().bench:
        print(pattern())
        return
    from asv.machine import Machine
    from asv.results import iter_results_for_machine

    name = Machine.get_unique_machine_name()
    by_hash = {found.commit_hash: found for found in iter_results_for_machine(str(RESULTS), name)}
    machine = json.loads((RESULTS / name / "machine.json").read_text(encoding="utf-8"))
    before = json.loads(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else None
    made = collected(f"{machine['cpu']}, {machine['num_cpu']} cores", by_hash, before)
    PAGE.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
