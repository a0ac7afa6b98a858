"""Blocks of the README that compare.py writes, each from `<!-- compare: NAME -->` to `<!-- compare: end -->`."""

import re

BLOCK = re.compile(r"(<!-- compare: (?!end )([\w-]+) -->\n).*?(<!-- compare: end -->)", re.DOTALL)


def check(text, names):
    """Raise ValueError unless the README has one block of each name, and no other."""
    found = [match[2] for match in BLOCK.finditer(text)]
    if text.count("<!-- compare: ") != 2 * len(found):
        raise ValueError("README.md: each <!-- compare: NAME --> takes an <!-- compare: end --> after it")
    for name in names:
        if found.count(name) != 1:
            raise ValueError(f"README.md has {found.count(name)} blocks <!-- compare: {name} -->, it should have one")
    if unknown := set(found) - set(names):
        raise ValueError(f"README.md has blocks that nobody writes: {', '.join(sorted(unknown))}")


def replaced(text, blocks):
    """The text with each block in place of what stood there."""
    check(text, blocks)
    return BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match[2]]}\n\n{match[3]}", text)
