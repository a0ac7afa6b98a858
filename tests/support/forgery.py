"""State files with something changed, as a stranger may send them."""

import io
import json
import zipfile

import numpy as np


def zipped(members, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def npy(array):
    """The bytes of an array as a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def forge(path, change=None, arrays=None, text=None, compression=zipfile.ZIP_STORED):
    """Rewrite a state file, with correct checksums, a changed description, and other members.

    change: values by the path of their keys, as "settings.eps" or "layers.0.names"; ... removes one.
    arrays: bytes by the name of the member; None removes one.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members["bnstream.json"])
    for keys, value in (change or {}).items():
        *outer, last = (int(key) if key.isdigit() else key for key in keys.split("."))
        target = description
        for key in outer:
            target = target[key]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    members["bnstream.json"] = json.dumps(description).encode() if text is None else text
    members.update(arrays or {})
    path.write_bytes(zipped({name: data for name, data in members.items() if data is not None}, compression))
