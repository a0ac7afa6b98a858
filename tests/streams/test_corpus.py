"""Real files: those that their peers read are read with equal numbers, or refused naming the option that reads them.

They are the files of `support.corpus`, which fetches them.
"""

import os
import re
from collections import Counter
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from support.corpus import PACKAGES, files_of
from support.oracle import assert_within, exact
from support.peer_readers import read_by_peer

from bnstream import SourceError, fit
from bnstream.streams.sources import Reading

CORPUS = os.environ.get("BNSTREAM_CORPUS", "")
OPTIONS = [*Reading.__annotations__, "columns", "channel_axis"]
NOT_READ = "not read by its peer"

HEADER = {"header": True}


def named(n):
    return HEADER | {"names": [str(i) for i in range(n)]}


# The options that read files which are refused without them, by pattern. All that match count, the later ones more. An
# option is used once a message names it.
READ_WITH = {
    "*": {"header": False, "short_rows": "pad"},
    "*.png": {"mode": "RGB"},
    "*.tab": {"format": "tsv"},
    "*.txt": {"format": "csv"},
    "*.dat": {"format": "csv"},
    "*/Lynx.csv": HEADER,
    "aeon/*_accuracy.csv": HEADER,
    "pmdarima/*/issue_191.csv": HEADER,
    "pydataset/*/crimtab.csv": HEADER,
    "pydataset/*/cubits.csv": HEADER,
    "pydataset/*/occupationalStatus.csv": HEADER,
    "windpowerlib/*_curves.csv": HEADER,
    "astropy/*/astropy_icon.png": {"mode": "RGBA"},
    "astroquery/*/posList_duplicates.csv": named(6),
    "orange3/*/Dlg_*.png": {"mode": "RGBA"},
    "scikit-bio/*/biom-observation-metadata.tsv": {"comment": "#"},
    "scikit-bio/*/duplicate-column-names*.tsv": named(4),
    "scikit-bio/*/empty-types-directive.tsv": HEADER | {"comment": "#"},
    "scikit-bio/*/jagged-trailing-columns.tsv": named(5),
    "scikit-bio/*/qiime1.tsv": {"comment": "#"},
    "scikit-learn/*/breast_cancer.csv": {"skip_rows": 1},
    "scikit-learn/*/iris.csv": {"skip_rows": 1},
    "scikit-learn/*/wine_data.csv": {"skip_rows": 1},
    "statsmodels/*/results/iris.csv": {"skip_rows": 1},
    "statsmodels/*/results_arima_forecasts.csv": named(50),
    "statsmodels/*/results_var_R_output.csv": named(295),
    "sunpy/*/idl_3.csv": {"comment": "#"},
}
# Parts of the message for files which are refused though their peer reads them, wrongly.
REFUSED = {
    "scikit-image/skimage/data/chessboard_RGB.png": "several channels of 16 bits",
    "scikit-image/skimage/data/multipage.tif": "2 frames",
    "silx/silx/resources/gui/icons/ruler.png": "several channels of 16 bits",
}


@pytest.mark.skipif(not CORPUS, reason="needs real files; CONTRIBUTING.md says how to fetch them")
@pytest.mark.filterwarnings("ignore:variable .* has multiple fill values")      # of a file of scipy, by xarray
@pytest.mark.parametrize("package", PACKAGES)
def test_corpus(package, monkeypatch, capsys):
    monkeypatch.chdir(CORPUS)
    counts, wrong = Counter(), []
    for path in files_of(Path(package)):
        try:
            counts[outcome_of(path)] += 1
        except AssertionError as error:
            wrong.append(f"{path}: {error}")
    with capsys.disabled():
        print(f"\n{package}: {', '.join(f'{n} {outcome}' for outcome, n in counts.most_common())}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
    assert counts.total() > counts[NOT_READ]


def outcome_of(path):
    """Compare `fit` with the peer on a file, with further options as its messages name them; say how it went."""
    name = path.as_posix()
    options = {option: value for pattern, chosen in READ_WITH.items() if fnmatch(name, pattern)
               for option, value in chosen.items()}
    given = {}
    selections = read_by_peer(path, given)
    if not selections:
        with suppress(SourceError):     # any other error is a fault
            fit(path, nan_policy="omit")
        return NOT_READ
    while True:
        try:
            for selection in selections:
                compare(fit(path, nan_policy="omit", **selection.options, **given), selection.values)
        except SourceError as error:
            message = str(error)
            if name in REFUSED and REFUSED[name] in message:
                return "refused rightly"
            found = {option: options[option] for option in named_in(message) if option in options.keys() - given.keys()}
            given |= found
            selections = read_by_peer(path, given)
            if not (found and selections):
                raise AssertionError(message) from error
        else:
            return f"read with {', '.join(given)}" if given else "equal"


def named_in(message):
    """The options that a message names, as arguments in Python and of the command."""
    return [option for option in OPTIONS
            if re.search(rf"\b{option}=", message) and f"--{option.replace('_', '-')}" in message]


def compare(m, values):
    assert m.n.ravel().tolist() == [x.size for x in values]
    assert_within(m.mean, m.var(), np.array([exact(x) for x in values]))
