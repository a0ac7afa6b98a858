"""Markdown tables, printed row by row."""


class Table:
    """Rows of numbers, printed as they come; the header is printed before the first of them.

    only: texts; a row is wanted where its heading and name contain one of them.
    columns: the format of each column's numbers, by the column's name.
    """

    def __init__(self, only, heading, columns):
        self.only, self.heading, self.columns = only, heading, columns
        self.rows = {}

    def wants(self, *names):
        """Whether a row of one of these names would be printed, and so has to be measured."""
        return any(text in f"{self.heading}: {name}" for name in names for text in self.only)

    def row(self, name, values):
        """Add a row, if it is wanted, of numbers by column; a column without a number stays empty."""
        if not self.wants(name):
            return
        if not self.rows:
            print(f"\n{self._header()}")
        self.rows[name] = values
        print(self._line(name), flush=True)

    def _header(self):
        return header([self.heading, *self.columns])

    def _line(self, name):
        values = self.rows[name]
        return line([name, *(style.format(values[column]) if column in values else ""
                             for column, style in self.columns.items())])

    def __str__(self):
        return "\n".join([self._header(), *map(self._line, self.rows)])


def header(columns):
    return f"{line(columns)}\n|{'---|' * len(columns)}"


def line(cells):
    return f"| {' | '.join(cells)} |"
