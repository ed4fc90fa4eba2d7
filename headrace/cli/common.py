"""What every command begins with: the options they share, the client, the address of the broker."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

import typer

from headrace.cli.home import Home
from headrace.client import Client, calls
from headrace.contracts.times import to_text
from headrace.errors import Unusable

if TYPE_CHECKING:
    from headrace.replay.sources import Sources

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program, and nothing else.")]
Data = Annotated[
    bool, typer.Option("--data", help="Also read what was learnt: sources, quality, rejected share.")
]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail.")]
SHORT = 12
"""Characters of an id that are shown."""


def versioned(text: str) -> tuple[str, int | None]:
    """A name and a version from NAME@VERSION, or NAME alone. Raises `Unusable` if it is neither."""
    name, _, version = text.partition("@")
    if version and not version.isdecimal():
        raise Unusable(f"{text} is no version: write NAME or NAME@VERSION")
    return name, int(version) if version else None


def client_of(home: Home) -> Client:
    """A client with the command line's key. Raises `Unusable` if there is none."""
    key = home.key()
    if not key:
        raise Unusable(f"there is no key in {home.cli_key_file}; run: headrace up (or set HEADRACE_API_KEY)")
    return Client(home.addresses(), key=key, patience_seconds=15.0)


def ask_monitor(path: str) -> Any:
    """What the monitor answers to GET."""
    with client_of(Home.from_environment()) as client:
        return client.get("monitor", path)


def query(**given: str | int) -> str:
    """The query of a URL, without what is empty."""
    return urlencode({name: value for name, value in given.items() if value != ""})


def one_of(text: str, ids: Iterable[str], what: str) -> str:
    """The id that this is, or that alone begins with it. Raises `Unusable` if there is none, or several."""
    found = [known for known in ids if known.startswith(text)]
    if len(found) != 1 and text not in found:
        raise Unusable(
            f"there is no {what} {text}" if not found else f"{len(found)} of them begin with {text}"
        )
    return text if text in found else found[0]


def time_of(ms: int) -> str:
    """A time in ms, to the second; the number itself if no calendar has it."""
    try:
        return to_text(ms // 1000 * 1000)
    except OverflowError:
        return str(ms)


def bootstrap_of(home: Home) -> str:
    """Where Kafka is. Raises `Unusable` if nothing was ever started here."""
    bootstrap = home.bootstrap or home.load().bootstrap
    if not bootstrap:
        raise Unusable("nothing runs here yet; run: headrace up (or set HEADRACE_BOOTSTRAP)")
    return bootstrap


def sources_of(home: Home) -> "Sources":
    """What replays read: the logs (from the archive too) and, where they are on this machine, the snapshots."""
    from headrace.replay.sources import Sources

    return Sources.of(bootstrap_of(home), home.path / "snapshots", home.path / "snapshot.key", home.archive)


def numbered(
    client: Client, stream: str, kind: Literal["rollouts", "retrainings"], number: int | None, begin: str
) -> dict[str, Any]:
    """A stream's rollout or retraining, the newest if there is no number.

    Raises `Unusable` if there is none; begin: the command that makes one.
    """
    if number is not None:
        found: dict[str, Any] = client.get("registry", calls.stream_path(stream, f"{kind}/{number}"))
        return found
    newest = client.get("registry", f"{calls.stream_path(stream, kind)}?limit=1")[kind]
    if not newest:
        raise Unusable(f"{stream} has no {kind.removesuffix('s')}; begin one: {begin}")
    return dict(newest[0])
