"""State files: statistics or a layer in a .npz file that is safe to open.

    state <-> arrays and JSON (description) <-> one .npz (archive, atomic)
"""

from bnstream.statefiles.archive import StateError
from bnstream.statefiles.statefile import StateFile, complete, is_state, load, read, save, write

__all__ = ["StateError", "StateFile", "complete", "is_state", "load", "read", "save", "write"]
