"""`headrace audit`: who changed what in the registry, when and why, and whether that record is intact."""

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from headrace.cli.common import Json, client_of
from headrace.cli.home import Home
from headrace.cli.output import Output, count, guarded

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
    records: list[dict[str, Any]] = []
    below: int | None = None
    with client_of(home) as client:
        while len(records) < most:
            page = {"limit": min(most - len(records), MOST_A_PAGE), **({"below": below} if below else {})}
            found = client.get("registry", f"/v1/audit?{urlencode(wanted | page)}")
            records += found["records"]
            below = found["next"]
            if below is None:
                break
    output.answer({"records": records})
    columns = ("sequence", "at", "who", "action", "stream", "model", "rollout", "why")
    output.table(columns, [[record[column] or "-" for column in columns] for record in records])


@audit_app.command()
@guarded
def verify(as_json: Json = False) -> None:
    """Verify that no record was altered, removed, added or cut off; names the first bad one, exit code 1."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found: dict[str, Any] = client.get("registry", "/v1/audit/verify")
    output.answer(found)
    fault = found["fault"]
    if fault is not None:
        output.say(f"record {fault['sequence']}: {fault['says']}", style="red")
        output.say(f"{count(found['records'])} record(s) before it are as they were written")
    else:
        output.say(f"{count(found['records'])} record(s), none altered, none missing")
    output.say(f"{count(found['heads'])} announced head(s), the last of record {count(found['announced'])}")
    if found["strange_heads"]:
        output.say(
            f"{count(found['strange_heads'])} announced head(s) were not signed with the registry's key",
            style="red",
        )
    if not found["ok"]:
        raise typer.Exit(1)
