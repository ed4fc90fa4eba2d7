"""Lists of named things from the plain form of a file: rules, channels."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from headrace.errors import Unusable


class Named(Protocol):
    """What a file lists."""

    @property
    def name(self) -> str:
        """Its own in the list."""
        ...


T = TypeVar("T", bound=Named)


def read_list(document: object, kind: str, most: int, read: Callable[[object, str], T]) -> list[T]:
    """A list, or an object with the list under `kind` (`rules`); nothing is an empty one.

    read: given an entry and where it stands. Raises `Unusable` saying which entry is wrong and why.
    """
    listed = document.get(kind) if isinstance(document, dict) else document
    if listed is None:
        listed = []
    if not isinstance(listed, list):
        raise Unusable(f"a list of {kind} is expected", where=kind)
    if len(listed) > most:
        raise Unusable(f"at most {most} {kind}", where=kind)
    found = [read(entry, f"{kind}[{index}]") for index, entry in enumerate(listed)]
    names = [one.name for one in found]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Unusable(f"two {kind} are called {name!r}", where=f"{kind}[{index}].name")
    return found
