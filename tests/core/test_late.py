"""Methods from higher layers are like other methods, and a missing package is named with the extra to install."""

import inspect
import pickle

import ml_dtypes
import numpy as np
import pytest
from support.processes import python

import bnstream
from bnstream import BatchNorm, Moments
from bnstream.core.dtypes import floating
from bnstream.core.late import Late
from bnstream.core.optional import needing

LATE = [(cls, name) for cls in (BatchNorm, Moments) for name, value in vars(cls).items() if isinstance(value, Late)]


def test_all_are_found():
    assert {(BatchNorm, "plot"), (BatchNorm, "from_torch"), (Moments, "plot"), (Moments, "_repr_html_")} <= {*LATE}


@pytest.mark.parametrize(("cls", "name"), LATE)
def test_of_the_class(cls, name):
    function = getattr(cls, name)
    assert function.__name__ == name
    assert function.__qualname__ == f"{cls.__name__}.{name}"
    assert function.__module__ == cls.__module__
    assert function is getattr(cls, name)
    assert pickle.loads(pickle.dumps(function)) is function
    static = vars(cls)[name].static
    assert (next(iter(inspect.signature(function).parameters)) == "self") is not static
    instance = cls(3)
    bound = getattr(instance, name)
    assert bound.__doc__ == function.__doc__
    if not static:
        assert "self" not in inspect.signature(bound).parameters
        again = pickle.loads(pickle.dumps(bound))
        assert again.__func__ is function
        assert again.__self__ == instance


def test_of_a_subclass():
    class Layer(BatchNorm):
        pass

    assert Layer.plot is BatchNorm.plot
    assert Layer(2)._repr_html_().startswith("<table>")


def test_of_a_class_method():
    """It gets the class that it is called on, also by an instance."""
    torch = pytest.importorskip("torch")
    for owner in (bnstream.LayerNorm, bnstream.LayerNorm(3)):
        assert isinstance(owner.from_torch(torch.nn.LayerNorm(3)), bnstream.LayerNorm)
    assert isinstance(bnstream.GroupNorm.from_torch(torch.nn.GroupNorm(1, 3)), bnstream.GroupNorm)
    assert next(iter(inspect.signature(bnstream.GroupNorm.from_torch).parameters)) == "layer"


def test_without_the_package():
    code = ("import inspect, pickle, sys; sys.modules['matplotlib'] = None\n"
            "import bnstream; bn = bnstream.BatchNorm(2)\n"
            "assert bn.plot.__qualname__ == 'BatchNorm.plot'; inspect.signature(bn.plot)\n"
            "assert pickle.loads(pickle.dumps(bn.plot)).__self__ == bn\n"
            "try:\n    bn.plot()\nexcept ModuleNotFoundError as error:\n    print(error.name, error)")
    done = python("-c", code)
    assert done.stdout == ("matplotlib bnstream.plots needs matplotlib, which is not installed; install it with: "
                           'pip install "bnstream[plot]"\n')


def test_missing_package_has_its_name_on_the_index():
    with pytest.raises(ModuleNotFoundError, match=r"^it needs scikit-learn, which .* pip install here$") as caught, \
            needing("it", "here"):
        raise ModuleNotFoundError(name="sklearn.base")
    assert caught.value.name == "sklearn"


def test_another_missing_package_passes():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'a_backend'$"), needing("it", "keras", "keras"):
        import a_backend  # noqa: F401


def test_bfloat16_by_name():
    """Whether or not ml_dtypes was imported before."""
    code = ("import numpy as np, bnstream; x = np.ones((3, 2), np.float32)\n"
            "print(bnstream.BatchNorm(2, dtype='bfloat16').dtype, bnstream.mean_var(x, dtype='bfloat16')[1].dtype)")
    done = python("-c", code)
    assert done.stdout == "bfloat16 bfloat16\n"


@pytest.mark.parametrize("dtype", [
    "half", "single", "float", "double", "float16", "float32", "float64", np.float32, float, None, np.dtype(">f4"),
    *(order + code for order in ("", "<", ">", "=", "|") for code in ("f2", "f4", "f8", "e", "f", "d")),
])
def test_floating_dtypes(dtype):
    """Strings are NumPy's names and codes, and the result has native byte order."""
    assert floating(dtype) == np.dtype(dtype).newbyteorder("=")
    assert floating(dtype).isnative


@pytest.mark.parametrize(("dtype", "got"), [
    ("nothing", "'nothing'"), (3, "3"), ("int32", "'int32'"), (object, "object"),
    ("V8", "'V8'"), (np.dtype("V8"), r"\|V8"), (ml_dtypes.float8_e5m2, "float8_e5m2"),
    *([] if np.dtype("g") == np.dtype("d") else [(np.longdouble, str(np.dtype("g")))]),
    # Some strings end the process in NumPy's parser, others raise errors of their own.
    ("M8[s/0]", r"'M8\[s/0\]'"), ("(1,f4", r"'\(1,f4'"), ("(2**99,)f4", r"'\(2\*\*99,\)f4'"), (">half", "'>half'"),
    (b"M8[s/0]", r"b'M8\[s/0\]'"), ([("x", "M8[s/0]")], r"\[\('x', 'M8\[s/0\]'\)\]"),
    (("f4", (-1,)), r"\('f4', \(-1,\)\)"),
])
def test_other_dtypes(dtype, got):
    with pytest.raises(TypeError, match=f"^dtype must be float16, bfloat16, float32 or float64, got {got}$"):
        BatchNorm(2, dtype=dtype)
    with pytest.raises(TypeError, match=f"^dtype must be float16, bfloat16, float32 or float64, got {got}$"):
        bnstream.mean_var(np.ones((2, 2)), dtype=dtype)
