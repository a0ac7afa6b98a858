"""The command ``bnstream``."""

from bnstream.cli.app import main

__all__ = ["main"]
