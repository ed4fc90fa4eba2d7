"""Leaves heavy modules that River imports, and most models never use, until somebody uses them.

A service that was killed is back when its imports are done, and importing River means importing scipy's statistics and
all of SQLAlchemy: half of the start of scoring, for a few functions that a handful of metrics and distributions call.
So a stand-in takes the place of each in `sys.modules`; the first attribute that is asked for loads the real one. What
is called is the same code, only its loading has moved, so no answer can differ.

A service installs this in its `__init__`, before anything imports River; a module that is loaded already is left alone.
What would break: importing a private submodule (`scipy.stats._x`) before anything else of its package was used.
"""

import importlib
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any

BY_NAME: Mapping[str, frozenset[str]] = {
    "scipy.io.arff._arffread": frozenset({"read_header"}),
    "scipy.special": frozenset({"ndtri"}),
    "scipy.stats": frozenset({"f", "multivariate_normal"}),
}
"""What River takes out of a module when it is imported itself (`from scipy.stats import f`), to call it later."""

SCIPY = (
    "scipy.integrate",
    "scipy.io",
    "scipy.io.arff",
    "scipy.io.arff._arffread",
    "scipy.ndimage",
    "scipy.sparse",
    "scipy.special",
    "scipy.stats",
)
"""A package before what is in it."""
OF_RIVER = (*SCIPY, "sqlalchemy")


def install(names: Iterable[str]) -> None:
    """Let the named modules be loaded at their first use."""
    for name in names:
        if name not in sys.modules:
            spec = find_spec(name)
            if spec is not None:
                sys.modules[name] = _Late(name, list(spec.submodule_search_locations or ()))


def load(name: str) -> ModuleType:
    """The real module. Its package's other stand-ins go too, as the package's own code must never meet one."""
    package = name.partition(".")[0]
    for other, module in list(sys.modules.items()):
        if isinstance(module, _Late) and other.partition(".")[0] == package:
            sys.modules.pop(other, None)
    return importlib.import_module(name)


class _Late(ModuleType):
    """A module that is not loaded yet."""

    def __init__(self, name: str, path: list[str]) -> None:
        super().__init__(name)
        self.__path__ = path  # else `import` would ask `__getattr__` for it, and so load what is only named

    def __getattr__(self, name: str) -> Any:
        if name in BY_NAME.get(self.__name__, ()):
            return _LateObject(self.__name__, name)
        return getattr(load(self.__name__), name)


class _LateObject:
    """Something in a module that is not loaded yet, to be called or asked for an attribute."""

    __slots__ = ("_module", "_name")

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return getattr(load(self._module), self._name)(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(load(self._module), self._name), name)
