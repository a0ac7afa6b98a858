"""Write the table of docs/reliability.md from results.json."""

import json
from pathlib import Path
from typing import Any

from harness import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- from tests/campaign/results.json -->\n", "<!-- end -->\n"
FEW = 5     # runs whose seeds are listed; those of more are in results.json


Run = dict[str, Any]


def rows(results: dict[str, list[Run]]) -> str:
    """The table, a row for each script: all that was tried since it found something for the last time."""
    lines = ["| script | what was tried | how many | found | since | where |", "|---|---|---|---|---|---|"]
    for name, runs in results.items():
        n_before = max((i + 1 for i, run in enumerate(runs) if run["found"]), default=0)
        clean = runs[n_before:]
        where = "; ".join(dict.fromkeys(f"Python {run['python']}, {run['machine']}, {run['level']}" for run in clean))
        cells = [f"`{name}`", runs[-1]["what"].rstrip("."), *tried(clean), where]
        cells.insert(3, "; ".join(found(run) for run in runs if run["found"]) or "nothing")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tried(runs: list[Run]) -> tuple[str, str]:
    """How many things some runs have tried, and since when."""
    if not runs:
        return "nothing yet", ""
    n, seconds = (sum(run[what] for run in runs) for what in ("tried", "seconds"))
    seeds = f"seed{'s' * (len(runs) > 1)} {', '.join(str(run['seed']) for run in runs)}"
    if len(runs) > FEW:
        seeds = f"{len(runs)} runs"
    return f"{n:,} {runs[0]['unit']} in {seconds:,} s, {seeds}", f"{runs[0]['date']}, {runs[0]['commit']}"


def found(run: Run) -> str:
    """What a run has found."""
    what = run["found"].splitlines()[0].replace("|", "\\|")
    return f"{run['date']}, seed {run['seed']}: {what:.200}"


def page(text: str) -> str:
    """The page with the table of the results."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + rows(json.loads(RESULTS.read_text(encoding="utf-8"))) + END + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
