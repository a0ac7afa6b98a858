"""``python -m bnstream``: the command `bnstream`."""

from bnstream.cli import run

if __name__ == "__main__":
    run()
