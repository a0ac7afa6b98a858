"""``python -m bnstream``: the command `bnstream`."""

from bnstream.cli import main

if __name__ == "__main__":
    main()
