"""`headrace audit`: who changed what in the registry, when and why, and whether that record is intact."""

import platform
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from headrace.cli.common import Json, bootstrap_of, client_of
from headrace.cli.home import Home
from headrace.cli.output import Output, count, guarded
from headrace.client import Client
from headrace.errors import Unusable

audit_app = typer.Typer(help="Who changed what, when and why.", no_args_is_help=True)

MOST_A_PAGE = 500


@audit_app.command("list")
@guarded
def list_records(
    stream: Annotated[str, typer.Option(help="Only changes of this stream.")] = "",
    model: Annotated[str, typer.Option(help="Only changes of this model.")] = "",
    who: Annotated[str, typer.Option(help="Only changes by the key of this name, or by `the judge`.")] = "",
    most: Annotated[int, typer.Option(min=1, help="How many, from the newest on.")] = 50,
    as_json: Json = False,
) -> None:
    """List changes of the registry, newest first."""
    home, output = Home.from_environment(), Output(as_json)
    wanted = {name: given for name, given in (("stream", stream), ("model", model), ("who", who)) if given}
    with client_of(home) as client:
        records = list(islice(_records(client, wanted, min(most, MOST_A_PAGE)), most))
    output.answer({"records": records})
    columns = ("sequence", "at", "who", "action", "stream", "model", "rollout", "why")
    output.table(columns, [[record[column] or "-" for column in columns] for record in records])


@audit_app.command()
@guarded
def key(
    states: Annotated[
        bool, typer.Option("--states", help="The key that signs the states in this home instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the public key that verifies the trail's announced heads, as a line for a file, and its id."""
    home, output = Home.from_environment(), Output(as_json)
    if states:
        from headrace.signatures import Signer
        from headrace.signing import secret_key

        secret = home.path / "snapshot.key"
        if not secret.is_file():
            raise Unusable(f"nothing has signed a state here yet: there is no {secret}")
        public = Signer(secret_key(secret), f"states-of-{platform.node()}").public
        found = {"id": public.id, "public_key": public.raw.hex(), "name": public.name}
    else:
        with client_of(home) as client:
            found = client.get("registry", "/v1/audit/key")
    output.answer(found)
    output.say(f"# key {found['id']}")
    output.say(f"{found['public_key']} {found['name']}")


@audit_app.command()
@guarded
def verify(
    public_key: Annotated[
        Path | None,
        typer.Option(
            help="Believe the announced heads by these public keys, not the registry's word; a line each, as "
            "`headrace audit key` prints them."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify that no record was altered, removed, added or cut off; names the first bad one, exit code 1."""
    home, output = Home.from_environment(), Output(as_json)
    if public_key is None:
        with client_of(home) as client:
            found: dict[str, Any] = client.get("registry", "/v1/audit/verify")
    else:
        found = _verdict(home, output, public_key)
    output.answer(found)
    fault = found["fault"]
    if fault is not None:
        output.say(f"record {fault['sequence']}: {fault['says']}", style="red")
        output.say(f"{count(found['records'])} record(s) before it are as they were written")
    elif public_key is None:
        output.say(f"{count(found['records'])} record(s), none altered, none missing")
    elif found["records"]:
        output.say(f"{count(found['records'])} record(s), none missing, each under its announced digest")
    output.say(f"{count(found['heads'])} announced head(s), the last of record {count(found['announced'])}")
    if found["strange_heads"]:
        whose = "the registry's key" if public_key is None else f"a key of {public_key}"
        output.say(
            f"{count(found['strange_heads'])} announced head(s) were not signed with {whose}",
            style="red",
        )
    if not found["ok"]:
        raise typer.Exit(1)


def _verdict(home: Home, output: Output, public_key: Path) -> dict[str, Any]:
    """What `/v1/audit/verify` says, as far as public keys can tell."""
    from headrace.contracts.topics import AUDIT
    from headrace.kafka.history import KafkaHistory
    from headrace.signatures import Trusted, public_keys
    from headrace.trail import Examination, Linked, is_older_head, opened_head

    try:
        keys = public_keys(public_key.read_text(encoding="utf-8"), str(public_key))
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{public_key} cannot be read: {error}") from None
    if not keys:
        raise Unusable(f"{public_key} holds no public key")
    trusted, history = Trusted(keys), KafkaHistory(bootstrap_of(home))
    bounds = history.bounds(AUDIT.name, 0)
    announced = [
        value or b""
        for batch in history.read(AUDIT.name, 0, bounds.first, bounds.end)
        for value in batch.values
    ]
    older = sum(map(is_older_head, announced))
    if older:
        output.say(
            f"{count(older)} announced head(s) are older than such keys: only the registry can verify them"
        )
    found = Examination(opened_head(trusted, value) for value in announced if not is_older_head(value))
    fault = found.contradicted
    if home.key():
        with client_of(home) as client:
            links = [Linked(one["sequence"], one["previous"], one["digest"]) for one in _records(client, {})]
        found.read(reversed(links))
        fault = found.end()
    else:
        output.say(
            "the records were not looked at, as that takes an API key: these are the announced heads alone"
        )
    return {
        "ok": fault is None and not found.strange_heads,
        "records": found.records,
        "heads": found.heads,
        "older_heads": older,
        "announced": found.announced,
        "strange_heads": found.strange_heads,
        "fault": None if fault is None else fault._asdict(),
    }


def _records(
    client: Client, wanted: dict[str, str], page_size: int = MOST_A_PAGE
) -> Iterator[dict[str, Any]]:
    """Records, newest first."""
    below: int | None = None
    while True:
        page = {"limit": page_size, **({"below": below} if below else {})}
        found = client.get("registry", f"/v1/audit?{urlencode(wanted | page)}")
        yield from found["records"]
        below = found["next"]
        if below is None:
            return
