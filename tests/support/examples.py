"""The examples of docstrings, as tests."""

import doctest
import inspect


def run_examples(text, name):
    """That there are some in a docstring, and that each shows what comes."""
    test = doctest.DocTestParser().get_doctest(inspect.cleandoc(text), {}, name, None, None)
    assert test.examples
    report = []
    assert doctest.DocTestRunner().run(test, out=report.append).failed == 0, "".join(report)
