"""Markdown tables, printed row by row."""


class Table:
    """Rows of numbers: those whose name, or heading, holds a text. The header is printed with the first of them."""

    def __init__(self, only, heading, columns):
        """columns: how the numbers of each are written, by its name; a number that a row has not got is left out."""
        self.only, self.heading, self.columns = only, heading, columns
        self.rows = {}

    def wants(self, *names):
        """Whether a row of one of these names would be printed, so is to be measured."""
        return any(self.only in f"{self.heading}: {name}" for name in names)

    def row(self, name, values):
        if not self.wants(name):
            return
        if not self.rows:
            print(f"\n{self._header()}")
        self.rows[name] = values
        print(self._line(name), flush=True)

    def _header(self):
        return f"| {' | '.join([self.heading, *self.columns])} |\n|{'---|' * (1 + len(self.columns))}"

    def _line(self, name):
        values = self.rows[name]
        cells = [style.format(values[column]) if column in values else "" for column, style in self.columns.items()]
        return f"| {' | '.join([name, *cells])} |"

    def __str__(self):
        return "\n".join([self._header(), *map(self._line, self.rows)])
