"""State files of DomainBatchNorm: the same bits when read and when trained further, and strict."""

import json
import zipfile

import numpy as np
import pytest
from support.arrays import BFLOAT16, normal
from support.forgery import forge
from support.states import bits

from bnstream import DomainBatchNorm, Moments, StateError, load, save

DOMAINS = np.array(["a", "b", "c"])[np.arange(60) % 3]
NAMES = ["u", "v", "w"]


def trained(domains=DOMAINS, **options):
    """A layer with parameters of each domain, after two batches."""
    bn = DomainBatchNorm(3, **options)
    for seed in range(2):
        bn(normal((60, 3), seed) + seed, domains)
    for i, layer in enumerate(bn.values()):
        if layer.gamma is not None:
            layer.gamma = np.arange(3) - i
    return bn


def differing():
    """A layer whose domains have other settings, modes and statistics than new ones."""
    bn = trained(names=NAMES, track_pooled=True)
    bn["a"].eval()
    bn["a"].eps, bn["b"].momentum, bn["b"].names, bn["c"].pooled = 0.5, None, None, None
    bn["b"].recalibrate(Moments().update(normal((9, 3), 5)))
    return bn


STATES = {
    "no domains": lambda: DomainBatchNorm(3),
    "no domains, named, inference": lambda: DomainBatchNorm(3, names=NAMES, momentum=None, dtype="float64").eval(),
    "training": trained,
    "inference": lambda: trained(names=NAMES, channel_axis=-1).eval(),
    "other kinds of domains": lambda: trained(np.arange(60, dtype=np.uint64) % 3 + np.uint64(2**64 - 3)),
    "tuples": lambda: trained({"site": DOMAINS, "night": np.arange(60) % 2 == 0}),
    "bools": lambda: trained(np.arange(60) % 2 == 0),
    "pooled": lambda: trained(track_pooled=True, running_ddof=0),
    "exact": lambda: trained(track_pooled="exact", momentum=None, nan_policy="omit"),
    "no gamma": lambda: trained(scale=False, dtype=BFLOAT16),
    "differing": differing,
}


def all_bits(bn):
    return bits(bn._template), [(domain, layer.training, bits(layer)) for domain, layer in bn.items()]


@pytest.mark.parametrize("name", STATES)
def test_round_trip(name, tmp_path):
    bn, path = STATES[name](), tmp_path / "bn.npz"
    save(path, bn)
    found = load(path)
    assert type(found) is DomainBatchNorm
    assert (list(found), found.num_features, found.training) == (list(bn), bn.num_features, bn.training)
    assert found.domain_names == bn.domain_names == (("site", "night") if name == "tuples" else None)
    assert [layer.names for layer in found.values()] == [layer.names for layer in bn.values()]
    assert all_bits(found) == all_bits(bn)
    assert all_bits(bn.copy()) == all_bits(bn)
    first = path.read_bytes()
    save(path, found)
    assert path.read_bytes() == first
    x, domains = normal((40, 3), 9), [*bn, *bn, "new"] if type(next(iter(bn), "")) is str else None
    if domains is not None:
        domains = np.resize(domains, 40)
        assert np.array_equal(found.train()(x, domains), bn.train()(x, domains))
        assert all_bits(found) == all_bits(bn)


def test_what_awaits_backward_is_left_out(tmp_path):
    bn = DomainBatchNorm(3)
    bn(normal((60, 3)), DOMAINS)
    save(tmp_path / "bn.npz", bn)
    with pytest.raises(RuntimeError, match="backward needs a call in training"):
        load(tmp_path / "bn.npz").backward(normal((60, 3)))
    bn.backward(normal((60, 3)))


def test_numpy_reads_the_arrays(tmp_path):
    bn = trained()
    save(tmp_path / "bn.npz", bn)
    with np.load(tmp_path / "bn.npz") as arrays:
        assert np.array_equal(arrays["1_running_mean"], bn["b"].running_mean)
        assert np.array_equal(arrays["1_gamma"], bn["b"].gamma)
    with zipfile.ZipFile(tmp_path / "bn.npz") as archive:
        description = json.loads(archive.read("bnstream.json"))
    assert (description["kind"], description["version"], description["domains"]) == (
        "domainbatchnorm", 1, ["a", "b", "c"])
    assert description["conventions"]["domains"].startswith("the domains, in the order of their layers")


@pytest.mark.parametrize(("change", "message"), [
    ({"domains": ["a", "b"]}, "expected a layer for each of 2 domains, got 3"),
    ({"layers": []}, "expected a layer for each of 3 domains, got 0"),
    ({"layers": None}, "layers must be of type list"),
    ({"layers": [1, 2, 3]}, "a layer must be of type dict, got 1"),
    ({"domains": "abc"}, "domains must be of type list"),
    ({"domains": ["a", "b", "a"]}, "domains must differ"),
    ({"domains": ["a", True, "b"]}, "domains must be of one kind"),
    ({"domains": [["a", 1], ["b", True], ["c", 1]]}, "domains must be of one kind"),
    *(({"domains": ["a", "b", bad]}, "a domain must be an int, a bool, a str or several of them, got ")
      for bad in (None, 1.5, 2**64, -2**63 - 1, {}, [], ["c"], ["c", None], ["c", ["d"]])),
    ({"domain_names": None}, "domain_names must name the columns of the domains, got"),
    ({"domain_names": ["a", "b"]}, "domain_names must name the columns of the domains, got"),
    ({"domain_names": [1]}, "domain_names must be a list of str, got 1 in it"),
    ({"new": None}, "new must be of type dict"), ({"new": {}}, "settings is missing"),
    ({"layers.1.training": 1}, "training must be of type bool, got 1"),
    ({"layers.1.pooled": {}}, "nan_policy is missing"),
    ({"layers.1.names": ["a"]}, "expected 3 names"),
    ({"layers.0.settings.num_features": 2}, r"0_running_mean must be float64 of shape \(2,\), got"),
    ({"new.settings.num_features": 10**15}, r"new_running_mean must be float64 of shape \(1000000000000000,\)"),
    ({"layers.0.settings.bias": False}, "bias of domain 'a' must be True, as of new domains, got False"),
    ({"layers.0.settings.dtype": "float64"}, "0_gamma must be float64"),
    ({"layers.0.settings.eps": -1.0}, "eps must be a finite number"),
])
def test_strict(change, message, tmp_path):
    save(tmp_path / "bn.npz", trained())
    forge(tmp_path / "bn.npz", change)
    with pytest.raises(StateError, match=message):
        load(tmp_path / "bn.npz")


def test_a_layer_of_new_domains_that_was_trained(tmp_path):
    bn = trained()
    bn._template = bn["a"].copy()
    save(tmp_path / "bn.npz", bn)
    with pytest.raises(StateError, match="the layer of new domains must be as it was made"):
        load(tmp_path / "bn.npz")


def test_layers_too_many(tmp_path):
    save(tmp_path / "bn.npz", trained())
    forge(tmp_path / "bn.npz", {"domains": ["a", "b"], "layers.2": ...})
    with pytest.raises(StateError, match=r"kind 'domainbatchnorm' does not have the arrays \['2_batch_mean'"):
        load(tmp_path / "bn.npz")
