"""What a request asks for beside its body: to be carried out once (`Idempotency-Key`), or only if what it changes is as
it was seen (`If-Match`). The route notes it, and whoever decides obeys it, in the transaction that decides.

It goes with the request (a context variable) rather than through every signature between the two: a store says once
which version it is about to change, and whatever decides without a request (the judge, a test) is not asked anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple


class Unmatched(Exception):
    """What was to be changed is not as the request expects it to be. Duty: look at it again."""


class Version(NamedTuple):
    """What was decided about something: what it is, its name, a number that every decision raises or what it says."""

    kind: str
    name: str
    number: int | str

    def tag(self) -> str:
        """What stands for it in an `ETag`, before a dash: says nothing but whether two are the same."""
        return sha256(f"{self.kind}\x00{self.name}\x00{self.number}".encode()).hexdigest()[:16]


@dataclass(slots=True)
class Asked:
    """One request. claim: caller and key under which it is carried out once; None: it may be carried out again.

    matching, absent: the tags of its `If-Match` and `If-None-Match`, in their quotes; empty: it asked for nothing.
    """

    claim: tuple[str, str] | None = None
    matching: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    decided: int = 0
    """Decisions that it has come to."""
    checked: bool = False
    """Whether a decision has looked at what it asked for."""
    shown: str = ""
    """Tag of the version that it is shown."""

    @property
    def conditional(self) -> bool:
        """Whether it is to be carried out only if something is so."""
        return bool(self.matching or self.absent)


_present: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextmanager
def asking(asked: Asked) -> Iterator[None]:
    """Everything in here is done for this request."""
    token = _present.set(asked)
    try:
        yield
    finally:
        _present.reset(token)


def present() -> Asked | None:
    """The request for which something is done; None: for none."""
    return _present.get()


def show(version: Version) -> None:
    """The answer will show this version, or a later one: say so before it is read."""
    asked = _present.get()
    if asked is not None:
        asked.shown = version.tag()


def expect(*versions: Version) -> None:
    """What is about to be changed: its version (or those of all that is), nothing if it is not there yet.

    Raises `Unmatched` if the request expects another.
    """
    asked = _present.get()
    if asked is None:
        return
    asked.checked = True
    if asked.matching and not _found(asked.matching, versions):
        raise Unmatched("it has changed since it was read, or is not there: look at it again")
    if asked.absent and _found(asked.absent, versions):
        raise Unmatched("it is there already")


def _found(tags: tuple[str, ...], versions: tuple[Version, ...]) -> bool:
    if "*" in tags:
        return bool(versions)
    begins = tuple(f'"{version.tag()}-' for version in versions)
    return any(tag.startswith(begins) and tag.endswith('"') for tag in tags)
