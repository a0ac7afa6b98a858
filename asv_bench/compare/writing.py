"""The blocks of Markdown pages that tables are written to, each from `<!-- compare: NAME -->` to its end."""

import re

BLOCK = re.compile(r"(<!-- compare: (?!end )([\w-]+) -->\n).*?(<!-- compare: end -->)", re.DOTALL)


def check(page, names):
    """Raise ValueError unless the page has exactly one block of each name, and no other blocks."""
    checked(page.name, page.read_text(encoding="utf-8"), names)


def checked(page, text, names):
    """The text; ValueError names the page where its blocks are not these."""
    found = [match[2] for match in BLOCK.finditer(text)]
    if text.count("<!-- compare: ") != 2 * len(found):
        raise ValueError(f"{page}: every marker <!-- compare: NAME --> needs a <!-- compare: end --> after it")
    for name in names:
        if name not in found:
            raise ValueError(f"{page} lacks the marker <!-- compare: {name} -->: add it where the table belongs, and "
                             "<!-- compare: end --> on the next line")
        if found.count(name) > 1:
            raise ValueError(f"{page} has {found.count(name)} markers <!-- compare: {name} -->, expected one")
    if unknown := sorted(set(found) - set(names)):
        raise ValueError(f"{page} has markers that no table is written to: {', '.join(unknown)}")
    return text


def replaced(page, text, names, blocks):
    """The text of a page that has blocks of these names, with the content of some of them replaced."""
    def content(match):
        return f"{match[1]}\n{blocks[match[2]]}\n\n{match[3]}" if match[2] in blocks else match[0]

    return BLOCK.sub(content, checked(page, text, names))


def write(page, names, blocks):
    """Replace some blocks of a page, which may have been edited while the tables were measured."""
    page.write_text(replaced(page.name, page.read_text(encoding="utf-8"), names, blocks), encoding="utf-8")
