"""Methods that a higher layer of the code provides, imported on first use."""

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from types import MethodType
from typing import Any


class Late:
    """A method whose function is defined in a module above, which is imported when the method is first asked for.

    Docstring and signature are those of the function, whose first parameter becomes `self`, or the class of a class
    method, unless the method is static.
    Name, qualified name and module are those of the class, as for any method: it can be pickled. Where a package is
    missing that the module needs, the call raises, not the look-up, so that `hasattr`, `inspect` and help work without
    it.
    """

    def __init__(self, module: str, name: str, static: bool, of_class: bool) -> None:
        self.module, self.name, self.static, self.of_class = module, name, static, of_class
        self.method: Callable[..., Any] | None = None

    def __get__(self, instance: Any, owner: type) -> Any:
        method = self.method
        if method is None:
            try:
                method = self.method = self.method_of(owner, getattr(import_module(self.module), self.name))
            except ModuleNotFoundError as error:
                method = self.method_of(owner, raising(error))
        if self.of_class:
            return MethodType(method, owner)
        return method if instance is None or self.static else MethodType(method, instance)

    def method_of(self, owner: type, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def method(*arguments: Any, **options: Any) -> Any:
            return function(*arguments, **options)

        home, name = next((cls, name) for cls in owner.__mro__ for name, value in vars(cls).items() if value is self)
        method.__module__, method.__name__, method.__qualname__ = home.__module__, name, f"{home.__qualname__}.{name}"
        signature = inspect.signature(function)
        if not self.static:
            first, *others = signature.parameters.values()
            if first.kind is not first.VAR_POSITIONAL:
                as_self = inspect.Parameter("self", first.POSITIONAL_OR_KEYWORD)
                signature = signature.replace(parameters=[as_self, *others])
        method.__signature__ = signature                # type: ignore[attr-defined]
        return method


def raising(error: ModuleNotFoundError) -> Callable[..., Any]:
    """A function that raises the error of an import."""
    def function(*arguments: Any, **options: Any) -> Any:
        raise error

    return function


def late(module: str, name: str, *, static: bool = False, of_class: bool = False) -> Any:
    """A `Late` method, typed as Any, so that the annotation in the class counts."""
    return Late(module, name, static, of_class)
