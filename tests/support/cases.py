"""The cases of a test: all combinations in the campaign, otherwise enough to cover every pair of values."""

import itertools
import os

import pytest

CAMPAIGN = os.environ.get("BNSTREAM_CAMPAIGN") == "1"


def pairwise(*factors):
    """Return cases with one value of each factor.

    In the campaign these are all combinations. Otherwise they are a deterministic choice in which every pair of values
    of two factors occurs. About as many cases are needed as the two largest factors have combinations.
    """
    factors = [list(factor) for factor in factors]
    if CAMPAIGN:
        return list(itertools.product(*factors))
    places = [range(len(factor)) for factor in factors]
    left = {(i, a, j, b) for i, j in itertools.combinations(range(len(factors)), 2)
            for a, b in itertools.product(places[i], places[j])}
    cases = []
    while left:
        i, a, j, b = min(left)
        case = {i: a, j: b}
        for k in range(len(factors)):
            if k not in case:
                case[k] = max(places[k], key=lambda place, k=k, case=case: len(left & pairs({**case, k: place})))
        left -= pairs(case)
        cases.append(tuple(factor[case[k]] for k, factor in enumerate(factors)))
    return cases


def pairs(case):
    """Return all pairs of values in a possibly incomplete case, by index."""
    return {(i, case[i], j, case[j]) for i, j in itertools.combinations(sorted(case), 2)}


def thorough(many, few):
    """Return `many` in the campaign, else `few`."""
    return many if CAMPAIGN else few


campaign = pytest.mark.skipif(not CAMPAIGN, reason="takes long; BNSTREAM_CAMPAIGN=1 runs it")
