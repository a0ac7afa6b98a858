"""Markdown tables, printed row by row."""


class Table:
    """A table of those rows whose name, or heading, holds a text; the header comes with the first of them."""

    def __init__(self, only, heading, *columns):
        self.only, self.heading, self.columns = only, heading, columns
        self.started = False

    def wants(self, *names):
        """Whether a row of one of these names would be printed, so is to be measured."""
        return any(self.only in f"{self.heading}: {name}" for name in names)

    def row(self, name, *cells):
        if not self.wants(name):
            return
        if not self.started:
            print(f"\n| {' | '.join([self.heading, *self.columns])} |\n|{'---|' * (1 + len(self.columns))}")
        self.started = True
        print(f"| {' | '.join([name, *cells])} |", flush=True)


def ratio(seconds, name, ours):
    """How many times as long as ours; empty where it was not measured."""
    return f"{seconds[name] / ours:.1f}x" if name in seconds else ""
