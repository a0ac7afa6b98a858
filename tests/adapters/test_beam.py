"""MomentsFn in real Apache Beam pipelines."""

import doctest
import pickle

import numpy as np
import pytest
from support.arrays import of_dtype, rng
from support.oracle import assert_within, exact_states, exact_weighted
from support.processes import python

from bnstream import Moments

beam = pytest.importorskip("apache_beam")
from apache_beam.testing import test_pipeline, util  # noqa: E402

import bnstream.beam  # noqa: E402
from bnstream.beam import MomentsFn  # noqa: E402

X = of_dtype("f8", (200, 3)) + 1e6
BATCHES = np.split(X, [1, 1, 30, 90])       # one of them is empty


def run(expected, elements, *transforms):
    """Run a pipeline on the DirectRunner and check its last collection with `expected`."""
    with test_pipeline.TestPipeline(runner="DirectRunner") as pipeline:
        found = pipeline | beam.Create(elements)
        for transform in transforms:
            found |= transform
        util.assert_that(found, expected)


def is_moments_of(rows, axis=0):
    """A check that the collection is one Moments, that of these rows."""

    def matches(found):
        (m,) = found
        assert type(m) is Moments
        assert np.all(m.n * m.mean.size == rows.size)
        assert_within(m.mean, m.var(), exact_states(rows, axis))

    return matches


def test_docstrings():
    result = doctest.testmod(bnstream.beam)
    assert result.attempted > 1
    assert result.failed == 0


@pytest.mark.parametrize("combine", [
    lambda: beam.CombineGlobally(MomentsFn()), lambda: beam.CombineGlobally(MomentsFn()).with_fanout(3),
])
def test_elements_are_batches(combine):
    run(is_moments_of(X), BATCHES, combine())


def test_elements_of_other_batch_axes():
    images = of_dtype("f4", (12, 3, 5, 5))
    run(is_moments_of(images, (0, 2, 3)), np.split(images, 4), beam.CombineGlobally(MomentsFn(axis=(0, 2, 3))))


def test_elements_are_single_samples():
    run(is_moments_of(X), list(X), beam.CombineGlobally(MomentsFn(axis=())))


@pytest.mark.parametrize("samples", [X, X[:, 0]])
def test_beam_makes_batches_of_single_samples(samples):
    run(is_moments_of(samples), list(samples), beam.BatchElements(min_batch_size=7), beam.CombineGlobally(MomentsFn()))


def test_elements_with_weights_and_masks():
    """An element may be a mapping of the arguments of `Moments.update`; mappings and arrays mix."""
    weights, mask = np.linspace(0.1, 2, 200), np.arange(200) % 3 > 0
    cuts = [1, 1, 30, 90]
    parts = list(zip(BATCHES, np.split(weights, cuts), np.split(mask, cuts), strict=True))
    elements = [*({"batch": x, "weights": w, "where": some} for x, w, some in parts), X]
    rows, times = np.concatenate([X[mask], X]), np.append(weights[mask], np.ones(200))

    def matches(found):
        (m,) = found
        assert_within(m.mean, m.var(), np.array([exact_weighted(column, times) for column in rows.T], object))
        assert m.n == pytest.approx(times.sum(), rel=1e-14)
        assert m.effective_n == pytest.approx(times.sum() ** 2 / (times**2).sum(), rel=1e-14)

    run(matches, elements, beam.CombineGlobally(MomentsFn()))
    samples = [{"batch": row, "weights": weight} for row, weight in zip(rows, times, strict=True)]
    run(matches, samples, beam.CombineGlobally(MomentsFn(axis=())))


def test_unknown_keys():
    fn = MomentsFn()
    with pytest.raises(ValueError, match="got a mapping with the unknown key 'weight'; expected 'batch'"):
        fn.add_input(fn.create_accumulator(), {"batch": X, "weight": X[:, 0]})


def test_per_key():
    elements = [(f"part {i % 3}", batch) for i, batch in enumerate(np.split(X, 20))]

    def matches(found):
        assert sorted(key for key, _ in found) == ["part 0", "part 1", "part 2"]
        for key, m in found:
            is_moments_of(np.concatenate([batch for other, batch in elements if other == key]))([m])

    run(matches, elements, beam.CombinePerKey(MomentsFn()))


def test_no_elements_give_empty_moments():
    run(util.equal_to([Moments(names=["a"])]), [], beam.CombineGlobally(MomentsFn(names=["a"])))


def test_options_reach_the_moments():
    x = X.copy()
    x[3, 1] = np.nan

    def matches(found):
        (m,) = found
        assert (m.axis, m.nan_policy, m.names) == (0, "omit", ("a", "b", "c"))
        assert m.n.tolist() == [200, 199, 200]

    run(matches, np.split(x, 5), beam.CombineGlobally(MomentsFn(nan_policy="omit", names=["a", "b", "c"])))
    with pytest.raises(Exception, match=r"NaN or inf.* 1"):
        run(matches, np.split(x, 5), beam.CombineGlobally(MomentsFn()))


def test_merging_does_not_change_the_accumulators():
    fn = MomentsFn()
    parts = [fn.add_input(fn.create_accumulator(), batch) for batch in BATCHES]
    before = pickle.dumps(parts)
    merged = fn.merge_accumulators(iter(parts))
    assert merged == sum(parts, Moments())
    merged.update(X)
    assert pickle.dumps(parts) == before
    assert fn.merge_accumulators([]) == fn.create_accumulator() == Moments()
    assert pickle.loads(pickle.dumps(parts)) == parts


@pytest.mark.parametrize("combine", [
    lambda fn: beam.CombineGlobally(fn), lambda fn: beam.CombineGlobally(fn).with_fanout(3),
])
@pytest.mark.parametrize("seed", [0, 1])
def test_exact_in_any_order(combine, seed):
    """One digest for any batches, orders and trees of merges."""
    elements = np.split(rng(seed).permutation(X), [5, 5, 40 + 30 * seed, 120])

    def matches(found):
        (m,) = found
        assert m == Moments(exact=True).update(X)
        assert m.digest() == Moments(exact=True).update(X).digest()

    run(matches, elements, combine(MomentsFn(exact=True)))


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_exact_weights(dtype):
    """A row counts as often as its weight says, in batches and by itself."""
    weights = np.arange(200) % 5
    wanted = Moments(exact=True).update(np.repeat(X, weights, axis=0)).digest()
    times = weights.astype(dtype)
    batches = [{"batch": X[some], "weights": times[some]} for some in (slice(7), slice(7, 90), slice(90, 200))]
    rows = [{"batch": row, "weights": weight} for row, weight in zip(X, times, strict=True)]

    def matches(found):
        assert [m.digest() for m in found] == [wanted]

    run(matches, batches, beam.CombineGlobally(MomentsFn(exact=True)))
    run(matches, rows, beam.CombineGlobally(MomentsFn((), exact=True)))
    fn = MomentsFn(exact=True)
    with pytest.raises(ValueError, match="weights of exact statistics count how often a row is there"):
        fn.add_input(fn.create_accumulator(), {"batch": X, "weights": np.full(200, 0.5)})


def test_exact_in_any_tree():
    """Accumulators travel as pickles, and may be merged and updated in any order."""
    fn, whole = MomentsFn(exact=True, names=["a", "b", "c"]), Moments(exact=True, names=["a", "b", "c"]).update(X)
    coder = beam.coders.registry.get_coder(Moments)
    for seed in range(10):
        generator = rng(seed)
        parts = [fn.create_accumulator()]
        parts += [fn.add_input(fn.create_accumulator(), batch) for batch in np.array_split(generator.permutation(X), 9)]
        while len(parts) > 1:
            generator.shuffle(parts)
            some = [coder.decode(coder.encode(part)) for part in parts[:3]]
            parts = [*parts[3:], fn.compact(fn.merge_accumulators(some))]
        found = fn.extract_output(parts[0])
        assert (found.digest(), pickle.dumps(found)) == (whole.digest(), pickle.dumps(whole))
    assert fn.extract_output(fn.create_accumulator()).exact


def test_exact_per_key():
    elements = [(i % 3, row) for i, row in enumerate(X)]

    def matches(found):
        assert {key: m.digest() for key, m in found} == {
            key: Moments(exact=True).update(X[key::3]).digest() for key in range(3)}

    run(matches, elements, beam.CombinePerKey(MomentsFn((), exact=True)))


def test_workers_use_one_thread():
    class Accumulator:
        def update(self, batch, *, n_threads):
            return n_threads

    assert MomentsFn().add_input(Accumulator(), X) == 1


def test_options_are_checked_at_once():
    with pytest.raises(ValueError, match="nan_policy must be"):
        MomentsFn(nan_policy="drop")


def test_without_beam_the_error_says_what_to_install():
    done = python("-c", "import sys; sys.modules['apache_beam'] = None; import bnstream.beam", check=False)
    assert done.stderr.rstrip().endswith(
        'ModuleNotFoundError: bnstream.beam needs apache_beam, which is not installed; install it with: pip install '
        '"bnstream[beam]"')


def test_track():
    x = rng(0).normal(size=(60, 3))
    fn = MomentsFn(track=["min", "skewness"])
    parts = [fn.add_input(fn.create_accumulator(), part) for part in np.split(x, 3)]
    m = fn.extract_output(pickle.loads(pickle.dumps(fn)).merge_accumulators(parts))
    assert m.max.tolist() == x.max(0).tolist()
    np.testing.assert_allclose(m.skewness(), Moments(track="skewness").update(x).skewness(), rtol=1e-12)
