"""BatchNorm.from_torch, BatchNorm.to_torch and the like: what is common to all frameworks, installed or not."""

import inspect
import re
import subprocess
import sys

import pytest

from bnstream import BatchNorm
from bnstream.exchange import layers

INSTALL = {"torch": "torch", "keras": '"bnstream[keras]"', "flax": '"bnstream[flax]"', "onnx": '"bnstream[onnx]"'}


@pytest.mark.parametrize("name", INSTALL)
def test_missing_framework(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    message = re.escape(f"the conversion needs {name}, which is not installed; install it with: pip install "
                        f"{INSTALL[name]}")
    for call in (lambda: getattr(BatchNorm, f"from_{name}")(object()), getattr(BatchNorm(3), f"to_{name}")):
        with pytest.raises(ModuleNotFoundError, match=f"^{message}$") as caught:
            call()
        assert caught.value.name == name


def test_missing_backend(tmp_path, monkeypatch):
    """Python's own error passes: it is not Keras that is missing."""
    (tmp_path / "keras.py").write_text("import a_backend_that_is_missing", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'a_backend_that_is_missing'$"):
        BatchNorm(3).to_keras()


def test_no_framework_is_imported_unless_used():
    code = ("import sys, bnstream, bnstream.exchange.torch; import numpy as np; bnstream.BatchNorm(2)(np.eye(2)); "
            f"print(sorted(sys.modules.keys() & set({[*INSTALL, 'jax', 'ml_dtypes', 'tensorflow']})))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_signatures():
    """The parameters are alike across frameworks."""
    parameters = {name: ", ".join(inspect.signature(getattr(BatchNorm, name)).parameters)
            for name in dir(BatchNorm) if name.startswith(("from_", "to_"))}
    assert parameters == {
        "from_torch": "layer, settings", "to_torch": "self, ndim",
        "from_keras": "layer, settings", "to_keras": "self, ndim, settings",
        "from_flax": "layer, variables, settings", "to_flax": "self, settings", "to_linen": "self, settings",
        "from_onnx": "model, node, settings", "to_onnx": "self, ndim",
    }
    assert set(layers.REQUIREMENTS) == set(INSTALL)
