"""Examples in docstrings as tests."""

import doctest
import inspect


def run_examples(text, name):
    """Check that a docstring has examples and that they give the results shown."""
    test = doctest.DocTestParser().get_doctest(inspect.cleandoc(text), {}, name, None, None)
    assert test.examples
    report = []
    assert doctest.DocTestRunner().run(test, out=report.append).failed == 0, "".join(report)
