"""Methods that a higher storey of the house provides."""

from importlib import import_module
from types import MethodType
from typing import Any


class Late:
    """A method whose function stands in a module above, which is imported when the method is first asked for.

    Signature and docstring of the method are those of the function.
    """

    def __init__(self, module: str, name: str, static: bool) -> None:
        self.module, self.name, self.static = module, name, static

    def __get__(self, instance: Any, owner: type) -> Any:
        function = getattr(import_module(self.module), self.name)
        return function if instance is None or self.static else MethodType(function, instance)


def late(module: str, name: str, *, static: bool = False) -> Any:
    """A `Late` method, which type checkers take for what the class says that it is."""
    return Late(module, name, static)
