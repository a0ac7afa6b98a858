"""Write the table of docs/reliability.md from results.json."""

import json
from pathlib import Path

from harness import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- from tests/campaign/results.json -->\n", "<!-- end -->\n"


def rows(results: dict[str, dict[str, object]]) -> str:
    """The table, a row for each script."""
    lines = ["| script | what was tried | how many | found | when, where |", "|---|---|---|---|---|"]
    for name, one in results.items():
        what = str(one["what"]).rstrip(".")
        tried = f"{one['tried']:,} {one['unit']} in {one['seconds']:,} s, seed {one['seed']}"
        where = f"{one['date']}, {one['commit']}, Python {one['python']}, {one['machine']}, {one['level']}"
        lines.append(f"| `{name}` | {what} | {tried} | {one['found'] or 'nothing'} | {where} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table of the results."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + rows(json.loads(RESULTS.read_text(encoding="utf-8"))) + END + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
