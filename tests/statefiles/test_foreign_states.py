"""Truncated, damaged, foreign and forged files raise an error that says what they are; no code in them is run."""

import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
from support.cases import thorough
from support.forgery import forge, npy, zipped
from support.states import SAVED, bits, holed, trained

from bnstream import Moments
from bnstream.statefiles import StateError, load, save


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


def put(path, i, byte):
    """Write a byte in place, which is faster than to write the file again."""
    with path.open("r+b") as file:
        file.seek(i)
        file.write(bytes([byte]))


@pytest.mark.parametrize("name", ["columns", "pooled"])
def test_flipped_bits(name, path):
    """A flipped bit in any byte raises an error or changes nothing."""
    state = SAVED[name]()
    save(path, state)
    whole, refused = path.read_bytes(), 0
    masks = np.random.default_rng(0).integers(1, 256, len(whole))
    some = range(0, len(whole), thorough(1, 3 if name == "pooled" else 1))
    for i in some:
        mask = masks[i]
        put(path, i, whole[i] ^ mask)
        try:
            loaded = load(path)
        except StateError:
            refused += 1
        else:
            assert bits(loaded) == bits(state), i
        put(path, i, whole[i])
    assert refused > 0.8 * len(some)        # dates and attributes of a zip mean nothing


@pytest.mark.parametrize("name", ["columns", "pooled"])
def test_truncated(name, path):
    save(path, SAVED[name]())
    for n in reversed(range(path.stat().st_size)):
        os.truncate(path, n)
        with pytest.raises(StateError, match=r"is damaged or truncated|not a bnstream state file: it is (empty|text)"):
            load(path)


def test_a_flipped_bit_is_reported_with_its_member(path):
    save(path, trained())
    whole = bytearray(path.read_bytes())
    whole[whole.index(trained().gamma.tobytes())] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StateError, match=r"is damaged or truncated: Bad CRC-32 for file 'gamma.npy'; restore a"):
        load(path)


@pytest.mark.parametrize(("data", "kind"), [
    (b"", "it is empty"),
    (b"a,b\n1,2\n", "it is text"),
    ("\u00e9".encode() * 2048 + b"\xc3", "it is text"),
    (b"\xff\xfe\x00\x01", "it is of an unknown kind"),
    (b"\xff\xfe", "it is of an unknown kind"),
    (npy(np.ones(3)), "it is a .npy file of one array"),
    (pickle.dumps([1, 2]), "it is a pickle, which can run any code when it is opened; it was not opened"),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "it is an HDF5 file"),
    (b"PAR1" + bytes(100), "it is a Parquet file; bnstream fit computes a state from it"),
    (b"\x1f\x8b\x08" + bytes(9), "it is a gzip file"),
    (zipped({"mean.npy": npy(np.ones(3)), "std.npy": npy(np.ones(3))}, zipfile.ZIP_DEFLATED),
     "it is a .npz file of the arrays mean, std; bnstream convert"),
    (zipped({f"{i}.npy": b"" for i in range(9)}),
     r"it is a .npz file of the arrays 0, 1, 2, 3, 4, 5, 6, 7, \.\.\. \(9 in all\); "),
    (zipped({"archive/data.pkl": b"", "archive/data/0": b""}), "it is a PyTorch file; read it with torch.load"),
    (zipped({"word/document.xml": b""}), "it is a zip file of word/document.xml"),
    (zipped({}), "it is an empty zip file"),
])
def test_foreign_files(data, kind, path):
    path.write_bytes(data)
    with pytest.raises(StateError, match=f"^{re.escape(str(path))} is not a bnstream state file: {kind}"):
        load(path)


def test_a_pytorch_file(path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.BatchNorm1d(3).state_dict(), path)
    with pytest.raises(StateError, match="it is a PyTorch file"):
        load(path)


def test_no_pickle_is_opened(path):
    """An array of objects is not opened."""
    save(path, Moments().update(np.ones((2, 3))))
    forge(path, arrays={"mean.npy": npy(np.array([{}, {}, {}], object))})
    with pytest.raises(StateError, match=r"mean.npy is not a .npy array of int64, uint8, float16, float32 or float64"):
        load(path)


def test_a_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        load(tmp_path / "nowhere.npz")
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        load(tmp_path)


def test_forging_nothing_changes_nothing(path):
    save(path, trained())
    forge(path)
    assert bits(load(path)) == bits(trained())


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "other"}, "is not a bnstream state file: its format is 'other'"),
    ({"format": ...}, "its format is None"),
    ({"version": 3}, "by a newer bnstream: it has version 3 of the format, and this one reads up to 2; upgrade"),
    ({"version": 0}, "version of the format must be a positive integer, got 0"),
    ({"version": True}, "got True"), ({"version": "1"}, "got '1'"), ({"version": ...}, "got None"),
    ({"kind": "histogram"},
     "kind must be one of moments, batchnorm, layernorm, .*, groups, domainbatchnorm, got 'histogram'"),
    ({"kind": ["moments"]}, r"kind must be of type str, got \['moments'\]"),
    ({"completeness": "half"}, "completeness must be one of complete, partial, imported, got 'half'"),
    ({"completeness": "partial"}, "progress is missing"),
    ({"completeness": "partial", "progress": 3}, "progress must be of type dict, got 3"),
    ({"completeness": "imported", "lacks": [1]}, "lacks must be a list of str, got 1 in it"),
])
def test_forged_files(change, message, path):
    for state in (trained(), holed()):
        save(path, state)
        forge(path, change)
        with pytest.raises(StateError, match=f"^{re.escape(str(path))}.*{message}"):
            load(path)


@pytest.mark.parametrize(("change", "message"), [
    ({"axis": ...}, "axis is missing"), ({"axis": "0"}, "axis must be of type int or null, got '0'"),
    ({"axis": [0, True]}, "axis must be a list of int, got True in it"), ({"axis": 10**30}, "axis 10* is out of range"),
    ({"axis": [0, 0]}, "axis 0 is given twice"), ({"axis": False}, "axis must be of type int"),
    ({"nan_policy": "ignore"}, "nan_policy must be one of raise, omit, propagate, got 'ignore'"),
    ({"names": ["a", "b"]}, r"names must fit channels of shape \(3,\), got 2 names"),
    ({"names": ...}, "names is missing"),
    ({"names": ["a", "b", "b"]}, "names must differ, got 'b' twice"),
    ({"names": ["a", "b", 3]}, "names must be a list of str, got 3 in it"),
    ({"names": "abc"}, "names must be of type list"),
    ({"shape": [4]}, r"n must be int64 of shape \(4,\), got int64 of shape \(3,\)"),
    ({"shape": ...}, "shape is missing"),
    ({"shape": [3.0]}, "shape must be a list of int, got 3.0 in it"),
    ({"shape": 3}, "shape must be of type list or null"),
    ({"shape": None}, r"a state of kind 'moments' does not have the arrays \['m2', 'm2_lo', 'mean', "),
    ({"kind": "batchnorm"}, "settings is missing"),
    ({"names": [["a"] * 99] * 3}, r"names must be a list of str, got \['a', [^\n]{,60} in it$"),
])
def test_forged_settings_of_moments(change, message, path):
    save(path, holed())
    forge(path, change)
    with pytest.raises(StateError, match=f"^{re.escape(str(path))} holds no valid state: {message}"):
        load(path)


@pytest.mark.parametrize(("change", "message"), [
    ({"settings.num_features": 4}, r"running_mean must be float64 of shape \(4,\), got float64 of shape \(3,\)"),
    ({"settings.num_features": -1}, r"shape \(-1,\)"),
    ({"settings.num_features": 3.0}, "num_features must be of type int"),
    ({"settings.eps": -1.0}, "eps must be a finite number"),
    ({"settings.eps": "0"}, "eps must be of type float, got '0'"),
    ({"settings.eps": float("inf")}, "eps must be a finite number"),
    ({"settings.momentum": 2.0}, "momentum must be from"),
    ({"settings.momentum": ...}, r"expected the settings \['num_features', .*\], got"),
    ({"settings.size": 3}, "expected the settings"), ({"settings": []}, "settings must be of type dict"),
    ({"settings.scale": 1}, "scale must be of type bool"), ({"settings.bias": None}, "bias must be of type bool"),
    ({"settings.dtype": "int32"}, "dtype must be one of "),
    *(({"settings.dtype": hostile}, "dtype must be one of float16, bfloat16, float32, float64, got '")
      for hostile in ("no such", "M8[s/0]", "(1,f4", "f4," * 1000, "(2,2)f4", "<f4")),
    ({"settings.dtype": "float64"}, "gamma must be float64 of shape .*, got float32"),
    ({"settings.scale": False}, r"a state of kind 'batchnorm' does not have the arrays \['gamma'\]"),
    ({"settings.bias": False}, r"does not have the arrays \['beta'\]"),
    ({"settings.result_dtype": "M8[s/0]"}, "result_dtype must be one of float16, bfloat16, float32, float64, got 'M8"),
    ({"settings.result_dtype": 4}, "result_dtype must be of type str or null, got 4"),
    ({"settings.channel_axis": 64}, "channel_axis must be from -64 to 63, got 64"),
    ({"settings.running_ddof": 3}, "running_ddof must be from 0 to below 2"),
    ({"settings.running_ddof": True}, "must be of type int or"),
    ({"settings.nan_policy": "?"}, "nan_policy must be"), ({"settings.renorm": None}, "renorm must be of type bool"),
    ({"settings.r_max": 0.5}, "r_max must be at least 1"), ({"settings.d_max": -1.0}, "d_max must be at least 0"),
    ({"names": ["a"]}, "expected 3 names, one for each channel or element, got 1"),
    ({"training": 1}, "training must be of type bool, got 1"),
    ({"training": ...}, "training is missing"), ({"num_batches_tracked": -1}, "num_batches_tracked must be from 0 to"),
    ({"num_batches_tracked": 2**63}, "num_batches_tracked must be from 0 to"),
    ({"num_batches_tracked": 1.0}, "num_batches_tracked must be of type int"),
    ({"pooled": None, "settings.momentum": None}, "a layer with momentum null must have pooled statistics, got none"),
    ({"pooled": None}, r"does not have the arrays \['pooled_m2', "), ({"pooled": ...}, "pooled is missing"),
    ({"pooled.shape": [1, 3]}, r"pooled_n must be int64 of shape \(1, 3\)"),
    ({"pooled.nan_policy": 3}, "nan_policy must be of type str"), ({"kind": "moments"}, "nan_policy is missing"),
])
def test_forged_settings_of_a_layer(change, message, path):
    save(path, trained(track_pooled=True))
    forge(path, change)
    with pytest.raises(StateError, match=f"^{re.escape(str(path))} holds no valid state: .*{message}"):
        load(path)


@pytest.mark.parametrize(("name", "change", "message"), [
    ("layer norm", {"settings.normalized_shape": 6}, "normalized_shape must be of type list, got 6"),
    ("layer norm", {"settings.normalized_shape": [3, 2]}, r"gamma must be float32 of shape \(3, 2\), got float32"),
    ("layer norm", {"settings.normalized_shape": []}, r"gamma must be float32 of shape \(\)"),
    ("layer norm", {"settings.normalized_shape": [2, True]}, "normalized_shape must be a list of int"),
    ("layer norm", {"settings.eps": None}, "eps must be a finite number"),
    ("layer norm", {"settings.scale": False}, r"a state of kind 'layernorm' does not have the arrays \['gamma'\]"),
    ("layer norm", {"settings.bias": True}, "the array beta is missing"),
    ("layer norm", {"settings.more": 1}, "expected the settings"),
    ("layer norm", {"settings": ...}, "settings is missing"), ("layer norm", {"training": 1}, "training must be"),
    ("layer norm", {"settings.dtype": "M8[s/0]"}, "dtype must be one of"),
    ("layer norm", {"kind": "rmsnorm"}, "expected the settings"),
    ("RMS norm", {"settings.elementwise_affine": 1}, "elementwise_affine must be of type bool"),
    ("RMS norm", {"names": ["a"]}, "expected 3 names, one for each channel or element, got 1"),
    ("group norm", {"settings.num_groups": 3}, "num_groups must divide num_channels, 2, got 3"),
    ("group norm", {"settings.num_channels": 10**15}, r"gamma must be float32 of shape \(1000000000000000,\)"),
    ("group norm", {"settings.channel_axis": 64}, "channel_axis must be from -63 to 63"),
    ("instance norm, tracked", {"num_batches_tracked": -1}, "num_batches_tracked must be from 0"),
    ("instance norm, tracked", {"settings.momentum": None}, "a layer with momentum null must have averages, got none"),
    ("instance norm, tracked", {"settings.track_running_stats": False}, "does not have the arrays"),
    ("instance norm, averaged", {"averages": None}, "a layer with momentum null must have averages"),
    ("instance norm, averaged", {"averages.axis": 1}, "the averages must have axis 0"),
    ("instance norm, averaged", {"averages.nan_policy": "raise"}, "the averages must have nan_policy 'omit'"),
    ("instance norm, averaged", {"averages.shape": [2, 2]}, r"averages_n must be int64 of shape \(2, 2\)"),
])
def test_forged_norms(name, change, message, path):
    save(path, SAVED[name]())
    forge(path, change)
    with pytest.raises(StateError, match=f"^{re.escape(str(path))} holds no valid state: .*{message}"):
        load(path)


def test_forged_estimates_of_instance_norm(path):
    save(path, SAVED["instance norm, tracked"]())
    forge(path, arrays={"running_var.npy": row(1.0, -1.0)})
    with pytest.raises(StateError, match=r"running_var must not be negative, got -1\.0 in channel 1"):
        load(path)


@pytest.mark.parametrize("change", [{"pooled.axis": 1}, {"pooled.axis": [0]}, {"pooled.nan_policy": "propagate"}])
def test_pooled_statistics_that_no_layer_writes(change, path):
    save(path, trained(track_pooled=True))
    forge(path, change)
    message = "the pooled statistics of this layer must have axis 0 and nan_policy 'raise', got "
    with pytest.raises(StateError, match=f"holds no valid state: {message}"):
        load(path)


@pytest.mark.parametrize(("name", "values"), [
    ("sum_of_squared_weights", [0.0, 1.0]), ("sum_of_squared_weights", [np.inf, 1.0]),
    ("sum_of_squared_weights", [9.0, 1.0]), ("sum_of_squared_weights", [np.nan, 1.0]),
    ("sum_of_squared_weights", [1e-17, 1.0]), ("n_lo", [1e-10, 0.0]),
])
def test_forged_weights(name, values, path):
    m = Moments().update([[1.0, 2.0], [3.0, 5.0]], weights=[0.5, 1.5])
    save(path, m)
    assert bits(load(path)) == bits(m)
    forge(path, arrays={f"{name}.npy": row(*values)})
    message = (r"n\*\*2 / sum_of_squared_weights must be at most 2\*\*53" if values[0] == 1e-17 else
               "n_lo must be the rounding error of n" if name == "n_lo" else
               r"sum_of_squared_weights must be positive where n is, and at most n\*\*2")
    with pytest.raises(StateError, match=f"holds no valid state: {message}"):
        load(path)


def test_counts_that_are_not_exact_are_not_written(path):
    m = Moments().update([[1.0]])
    for _ in range(53):
        m.merge(m)
    save(path, m)
    assert load(path).n.tolist() == [2**53]
    m.merge(m)
    assert m.copy().n.tolist() == [2**54]
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^n must be at most 2\*\*53, up to which counts are exact, got 180143985094"):
        save(path, m)
    assert path.read_bytes() == before


def row(*values):
    return npy(np.array(values))


@pytest.mark.parametrize(("name", "data", "message"), [
    ("n", row(3, -1, 0), "n must be finite and not negative, got -1 to 3"),
    ("n", row(3.0, 3.0, 0.0), "n must be int64 of shape .*float64"),
    ("n", None, "the array n is missing"), ("extra", row(1.0), r"does not have the arrays \['extra'\]"),
    ("m2", row(1.0, -1.0, 0.0), "m2, a sum of squares, must not be negative, got -1.0"),
    ("m2", row(1, 1, 0), "m2 must be float64 of shape"), ("m2", npy(np.float32([1, 1, 0])), "m2 must be float64"),
    ("mean", row(1.0, 2.0, 3.0), "mean and m2 must be 0 where n is 0"),
    ("mean", row(1.0, 2.0, np.nan), "mean and m2 must be 0 where n is 0"),
    ("mean_lo", row(0.0, 1e9, 0.0), "mean_lo must be the rounding error of mean, got a larger value"),
    ("m2_lo", row(0.0, np.nan, 0.0), "m2_lo must be the rounding error of m2"),
    ("mean_lo", row(1e-16, 0.0, 0.0), "mean_lo must be the rounding error of mean"),
    ("mean", row(1.0, np.inf, 0.0), "mean and m2 must be finite under nan_policy 'omit', got NaN or inf"),
    ("m2", row(1.0, np.nan, 0.0), "mean and m2 must be finite under nan_policy 'omit'"),
    ("n", row(2**53 + 2, 3, 0), "n must be at most 2\\*\\*53, up to which counts are exact, got 90071992547409"),
    ("n", row(20, 1, 0), "m2 must be 0 where n is 1, got"),
    ("m2", row(1.0, 2.0), r"got float64 of shape \(2,\)"),
])
def test_forged_arrays_of_moments(name, data, message, path):
    save(path, holed())
    forge(path, arrays={f"{name}.npy": data})
    with pytest.raises(StateError, match=f"holds no valid state: .*{message}"):
        load(path)


@pytest.mark.parametrize(("name", "data", "message"), [
    ("running_var", row(1.0, -1.0, 1.0), "running_var must be from 0 to inf, got -1.0 to 1.0"),
    ("running_spread", row(1.0, -1.0, 1.0), "running_spread must be from 0 to inf"),
    ("initial_weight", row(1.5, 0.0, 0.0), "initial_weight must be from 0 to 1.0, got 0.0 to 1.5"),
    ("batch_var", row(1.0, 1.0, -1.0), "batch_var must be from 0 to inf"),
    ("running_mean", None, "running_mean is missing"),
    ("gamma", None, "the array gamma is missing"),
    ("beta", row(1.0, 1.0, 1.0), "beta must be float32 of .* got float64"),
    ("pooled_m2", row(-1.0, 1.0, 1.0), "pooled_m2, a sum of squares, must not be negative"),
])
def test_forged_arrays_of_a_layer(name, data, message, path):
    save(path, trained(track_pooled=True))
    forge(path, arrays={f"{name}.npy": data})
    with pytest.raises(StateError, match=f"holds no valid state: .*{message}"):
        load(path)


def header(text, version=b"\x01\x00"):
    text = text.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


FINE = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"


@pytest.mark.parametrize(("data", "message"), [
    (header(FINE), r"mean.npy has 0 bytes, which do not fit float64 of shape \(3,\)"),
    (header(FINE) + bytes(25), "mean.npy has 25 bytes"),
    (header(FINE, b"\x02\x00") + bytes(24), "is not a .npy array"), (header("") + bytes(24), "is not a .npy array"),
    (header(FINE.replace("(3,)", "(3, 0)")), "has 0 bytes, which do not fit"),
    (header(FINE.replace("(3,)", "(" + ", ".join("1" * 65) + ")")) + bytes(8), "is not a .npy array"),
    (header(FINE.replace("(3,)", "(9999999999999999999,)")), "has 0 bytes, which do not fit"),
    (header(FINE.replace("(3,)", "(0, 9999999999999999999)")), "has 0 bytes, which do not fit"),
    (header(FINE.replace("(3,)", "(99999999999999999999,)")), "is not a .npy array"),
    *((header(FINE.replace("(3,)", shape)) + bytes(24), "is not a .npy array")
      for shape in ("(1 3,)", "( , 3)", "(3)", "3", "(3,,)", "(3, )", "(03,)", "[3]")),
    (header(FINE.replace("(3,)", "(-3,)")) + bytes(24), "is not a .npy array"),
    (header(FINE.replace("<f8", "|O")) + bytes(24), "is not a .npy array"),
    (header(FINE.replace("False", "True")) + bytes(24), "is not a .npy array"),
    (header(FINE)[:-1] + b" \n" + bytes(24), "is not a .npy array"), (b"", "is not a .npy array"),
])
def test_forged_headers(data, message, path):
    save(path, holed())
    forge(path, arrays={"mean.npy": data})
    with pytest.raises(StateError, match=f"{re.escape(str(path))}: mean.npy.*{message}|{message}"):
        load(path)


@pytest.mark.parametrize(("text", "message"), [
    (b"{", "bnstream.json is not JSON in ASCII: Expecting"), (b"\xff", "bnstream.json is not JSON"),
    (b"[" * 100000, "is not JSON"),
    (b"[]", "bnstream.json must hold an object, got list"), (b'{"version": ' + b"9" * 5000 + b"}", "is not JSON"),
])
def test_forged_description(text, message, path):
    save(path, holed())
    forge(path, text=text)
    with pytest.raises(StateError, match=message):
        load(path)


def test_forged_zips(path):
    """Compressed members, which may expand to any size; a name that occurs twice; sizes larger than the file."""
    save(path, holed())
    whole = path.read_bytes()
    forge(path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(StateError, match="damaged or truncated: a member is compressed"):
        load(path)
    path.write_bytes(whole)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("mean.npy", row(7.0, 7.0, 0.0))
    with pytest.raises(StateError, match="damaged or truncated: two members have the same name"):
        load(path)
    central = whole.index(b"PK\x01\x02")
    path.write_bytes(whole[:central + 24] + struct.pack("<I", 2**31) + whole[central + 28:])
    with pytest.raises(StateError, match=r"the sizes of the members add up to more than the file"):
        load(path)
    path.write_bytes(whole)
    forge(path, arrays={"mean": row(7.0, 7.0, 0.0)})
    with pytest.raises(StateError, match=r"mean is not a \.npy array"):
        load(path)
