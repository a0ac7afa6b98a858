"""The package itself: the time of its import and its size."""

from pathlib import Path

import bnstream

from .base import Timed, named

IMPORTS = {"bnstream": "import bnstream", "bnstream, after NumPy": ("import bnstream", "import numpy"),
           "NumPy": "import numpy"}
ENDINGS = {"all files": "", "shared objects": (".so", ".pyd")}


class Import(Timed):
    """Each import in a new process."""

    params = (list(IMPORTS),)
    param_names = ("module",)
    repeat = (10, 10, 10.0)

    @named("import")
    def timeraw_import(self, module):
        return IMPORTS[module]


class Size:
    """The files as installed."""

    params = (list(ENDINGS),)
    param_names = ("files",)
    unit = "bytes"

    @named("size of the package")
    def track_size(self, files):
        paths = [path for path in Path(bnstream.__file__).parent.rglob("*") if path.suffix != ".pyc"]
        return sum(path.stat().st_size for path in paths if path.is_file() and path.name.endswith(ENDINGS[files]))
