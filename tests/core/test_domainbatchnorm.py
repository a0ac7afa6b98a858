"""DomainBatchNorm: the layer of each domain is a BatchNorm that was given the rows of the domain."""

import pickle

import numpy as np
import pytest
from support.arrays import normal

from bnstream import BatchNorm, DomainBatchNorm
from bnstream.core.groups import domainbatchnorm

KEYS = np.array(["a", "b", "c"])


def data(seed=0, shape=(60, 4)):
    return normal(shape, seed).astype("f4"), KEYS[np.random.default_rng(seed).integers(0, 3, shape[0])]


@pytest.mark.parametrize("shape", [(60, 4), (60, 4, 5, 6)])
def test_each_domain_is_a_batchnorm(shape):
    bn, layers = DomainBatchNorm(4, momentum=0.3), {key: BatchNorm(4, momentum=0.3) for key in KEYS}
    for seed in range(3):
        x, domain = data(seed, shape)
        y, dy = bn(x, domain), normal(shape, seed + 9).astype("f4")
        dx = bn.backward(dy)
        for key, layer in layers.items():
            rows = domain == key
            assert np.array_equal(y[rows], layer(x[rows]))
            assert np.array_equal(dx[rows], layer.backward(dy[rows]))
            assert np.array_equal(bn[key].grad_gamma, layer.grad_gamma)
    assert dict(bn) == layers
    x, domain = data(7, shape)
    y = bn.eval()(x, domain)
    for key, layer in layers.items():
        assert np.array_equal(y[domain == key], layer.eval()(x[domain == key]))
    assert list(bn) == ["a", "b", "c"]
    assert repr(bn) == "DomainBatchNorm(4): domains 'a', 'b', 'c'"


def test_one_domain_and_no_rows():
    x, _ = data()
    bn = DomainBatchNorm(4)
    assert np.array_equal(bn(x, "a"), BatchNorm(4)(x))
    with pytest.raises(ValueError, match="got an empty batch"):
        bn(x[:0], [])
    assert bn.eval()(x[:0], []).shape == (0, 4)
    assert list(bn) == ["a"]
    numbers = DomainBatchNorm(4)
    for domain in np.unique([7, 9]):
        numbers(x, domain)
    assert list(numbers) == [7, 9]
    assert numbers[np.int64(7)] == bn["a"]


@pytest.mark.parametrize("domain", [7, True, "a", np.int64(7), np.uint8(7), np.bool_(True), np.str_("a")])
def test_one_domain_of_all_rows(domain):
    x, _ = data()
    bn = DomainBatchNorm(4)
    assert np.array_equal(bn(x, domain), BatchNorm(4)(x))
    assert list(bn) == [domain]


def test_parameters_of_a_domain():
    x, domain = data()
    bn = DomainBatchNorm(4)
    bn(x, domain)
    gamma = bn["a"].gamma
    gamma[:] = 2
    y = bn(x, domain)
    assert np.array_equal(y[domain == "a"], BatchNorm(4)(x[domain == "a"]) * 2)
    assert bn["a"].gamma is gamma


def test_a_refused_call_changes_nothing():
    x, domain = data()
    bn = DomainBatchNorm(4, track_pooled=True)
    bn(x, domain)
    before = {key: layer.copy() for key, layer in bn.items()}
    bad = x.copy()
    bad[np.flatnonzero(domain == "c")[-1], 2] = np.nan
    with pytest.raises(ValueError, match=r"^domain 'c': NaN or inf in 1 of 4 channels"):
        bn(bad, domain)
    with pytest.raises(ValueError, match=r"^domain 'c': NaN"):
        bn(bad, np.where(domain == "b", "new", domain))
    assert dict(bn) == before
    bn.backward(x)          # that of the call before


def test_no_memory_for_the_result_changes_nothing(monkeypatch):
    """The layers have been called by then."""
    def refuse(*_):
        raise MemoryError

    x, domain = data()
    bn = DomainBatchNorm(4, track_pooled=True)
    bn(x, domain)
    before = {key: layer.copy() for key, layer in bn.items()}
    monkeypatch.setattr(domainbatchnorm, "joined", refuse)
    with pytest.raises(MemoryError):
        bn(x, np.where(domain == "b", "new", domain))
    assert dict(bn) == before


def test_refused():
    x, domain = data()
    bn = DomainBatchNorm(4)
    with pytest.raises(RuntimeError, match="backward needs a call in training before it"):
        bn.backward(x)
    bn(x, domain)
    with pytest.raises(ValueError, match=r"dy must have the 60 rows of the last call in training, got shape \(3, 4\)"):
        bn.backward(x[:3])
    with pytest.raises(ValueError, match=r"^domain must have one key for each of the 60 rows"):
        bn(x, domain[:-1])
    for missing in ([None, *domain[1:]], {"site": domain, "day": [*range(59), None]}):
        with pytest.raises(ValueError, match="domain is missing in 1 row of x; leave them out of both, or give them a"):
            bn(x, missing)
    with pytest.raises(KeyError, match="no layer of the domain 'd'; the domains are 'a', 'b', 'c': train"):
        bn.eval()(x, "d")


@pytest.mark.parametrize("other", ["1", True, ("1", 1)])
def test_domains_are_of_one_kind(other):
    """1 and "1", as two loaders read them, are not two domains, and True is not 1."""
    x, _ = data()
    bn = DomainBatchNorm(4)
    bn(x, 1)
    domain = [[part] * 60 for part in other] if isinstance(other, tuple) else other
    for mode in (True, False):
        with pytest.raises(TypeError, match=r"expected domains such as 1, got .*; convert them"):
            bn.train(mode)(x, domain)
    assert list(bn) == [1]


def test_pickle():
    x, domain = data()
    bn = DomainBatchNorm(4)
    bn(x, domain)
    other = pickle.loads(pickle.dumps(bn))
    assert dict(other) == dict(bn)
    assert np.array_equal(other.eval()(x, domain), bn.eval()(x, domain))


@pytest.mark.parametrize("channel_axis", [0, -2])
def test_channels_along_the_rows_are_refused(channel_axis):
    """Each row has a domain."""
    bn = DomainBatchNorm(3, channel_axis=channel_axis)
    with pytest.raises(ValueError, match=rf"channel_axis={channel_axis} is the axis of the rows of x of shape"):
        bn(np.ones((3, 3)), ["a", "a", "a"])
    assert len(bn) == 0


def test_columns_of_domains_in_another_order_are_refused():
    """The domains of one column would be taken for those of another."""
    x, domain = data()
    site, day = list(domain), [i % 2 for i in range(60)]
    bn = DomainBatchNorm(4)
    bn(x, {"site": site, "day": day})
    assert bn.domain_names == ("site", "day")
    for other in (bn, bn.copy(), pickle.loads(pickle.dumps(bn))):
        before = dict(other.copy())
        for mode in (True, False):
            with pytest.raises(ValueError, match="in the order site, day as here, got day, site; pass"):
                other.train(mode)(x, {"day": site, "site": day})
        assert dict(other.train()) == before
        other(x, {"site": site, "weekday": day})        # A column may have another name.
        assert other.domain_names == ("site", "day")
