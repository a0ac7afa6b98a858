"""Methods that a higher storey of the house provides."""

from importlib import import_module
from types import MethodType
from typing import Any


class Late:
    """A method whose function is defined in a module above, which is imported when the method is first asked for.

    Signature and docstring of the method are those of the function. Where a package is missing that the module needs,
    the call raises, not the look-up, so that `hasattr`, `inspect` and help work without it.
    """

    def __init__(self, module: str, name: str, static: bool) -> None:
        self.module, self.name, self.static = module, name, static

    def __get__(self, instance: Any, owner: type) -> Any:
        try:
            function = getattr(import_module(self.module), self.name)
        except ModuleNotFoundError as error:
            function = raising(error)
        return function if instance is None or self.static else MethodType(function, instance)


def raising(error: ModuleNotFoundError) -> Any:
    """A function that raises the error of an import."""
    def method(*arguments: Any, **options: Any) -> Any:
        raise error

    return method


def late(module: str, name: str, *, static: bool = False) -> Any:
    """A `Late` method, typed as Any, so that the annotation in the class counts."""
    return Late(module, name, static)
