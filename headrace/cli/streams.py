"""`headrace stream`: create, show and list streams."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from headrace.cli.common import Json, Reason, client_of
from headrace.cli.home import Home
from headrace.cli.output import Output, guarded, places
from headrace.client import Client, calls
from headrace.contracts.stream import StreamContract, from_dict
from headrace.errors import Unusable

streams_app = typer.Typer(help="Streams and their contracts.", no_args_is_help=True)

INFERRED_ROWS = 10_000


@streams_app.command()
@guarded
def create(  # noqa: PLR0913, PLR0917  each is an option of the command
    contract: Annotated[
        Path | None, typer.Argument(help="Contract (ODCS YAML or JSON).", exists=True, dir_okay=False)
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Propose the contract from a CSV, JSON lines or Parquet file.", exists=True
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="With --from: the column to predict.")] = "",
    name: Annotated[str, typer.Option(help="With --from: the stream's name (default: the file's).")] = "",
    task: Annotated[str, typer.Option(help="With --from: binary, multiclass or regression.")] = "",
    id_column: Annotated[str, typer.Option(help="With --from: the column that is the id.")] = "",
    time_column: Annotated[str, typer.Option(help="With --from: the column that is the event time.")] = "",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="With --from: a column that is not to be a field; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the contract, create nothing.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Create a stream from a contract, or from a file whose contract is inferred; or give it a new version."""
    home, output = Home.from_environment(), Output(as_json)
    if (contract is None) == (source is None):
        raise Unusable("give a contract file, or --from FILE --label COLUMN")
    if contract is not None:
        text = contract.read_text(encoding="utf-8")
        if dry_run:
            _show_contract(output, _load(text))
            return
    else:
        assert source is not None
        proposed = _infer(
            source, name or _stream_name(source), label, task, id_column, time_column, leave_out or []
        )
        text = _dump(proposed)
        _show_contract(output, proposed)
        if dry_run:
            output.answer({"contract": proposed.to_dict(), "document": text})
            return
    with client_of(home) as client:
        answer = client.create_stream(text, reason=reason)
    output.answer({**answer, "document": text})
    stream = answer.get("stream")
    done = "is created" if answer.get("created", True) else "is there"
    output.say(
        f"Stream {stream} {done}: contract version {answer.get('version')}, {answer.get('partitions')} partition(s)"
    )
    output.next(
        f"headrace model deploy {stream} SPEC.yaml    puts a model on it",
        f"headrace publish {stream} {source or 'FILE'}    sends events",
        f"headrace stream show {stream} --contract    the contract as a document, to mend and create again",
    )


@streams_app.command()
@guarded
def show(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    document: Annotated[
        bool, typer.Option("--contract", help="Print the contract as an ODCS document.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a stream: its contract, its models and their metrics."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        if document:
            text = client.get("registry", f"/v1/streams/{stream}/contract?format=odcs")
            output.answer({"stream": stream, "document": text})
            if not as_json:
                typer.echo(text)
            return
        found = client.stream(stream)
    output.answer(found)
    _show_contract(output, from_dict(found["contract"]))
    deployments = found.get("deployments") or []
    if deployments:
        output.say()
        output.table(
            ("model", "version", "role"),
            [(one.get("model"), one.get("version"), one.get("role")) for one in deployments],
        )
    else:
        output.next(f"No model yet: headrace model deploy {stream} SPEC.yaml")


@streams_app.command()
@guarded
def contract(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    version: Annotated[int | None, typer.Option(min=1, help="Only this version, whole.")] = None,
    document: Annotated[
        bool, typer.Option("--document", help="With --version: print it as an ODCS document.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the versions of a stream's contract, or show one: who made it, when, and what it changed."""
    home, output = Home.from_environment(), Output(as_json)
    if document and version is None:
        raise Unusable("say which version: --version N")
    path = calls.stream_path(stream, "versions")
    with client_of(home) as client:
        if version is None:
            found = every(client, "registry", path, "versions")
        else:
            found = [client.get("registry", f"{path}/{version}")]
        if document:
            text = client.get("registry", calls.stream_path(stream, f"contract?version={version}"))
            output.answer({**found[0], "document": text})
            if not as_json:
                typer.echo(text)
            return
    output.answer({"stream": stream, "versions": found} if version is None else found[0])
    if version is not None:
        _show_contract(output, from_dict(found[0]["contract"]))
        output.say()
    output.table(
        ("version", "created", "by", "from offsets", "digest", "changes"),
        [
            (
                one["version"],
                one["created_at"],
                one["created_by"],
                places(one["offsets"]) or "pending",
                one["digest"][:12],
                len(one["changes"]),
            )
            for one in found
        ],
    )
    for one in found:
        for change in one["changes"]:
            before, after = (json.dumps(change[side], ensure_ascii=False) for side in ("before", "after"))
            output.say(f"version {one['version']}: {change['where']}: {before} -> {after}")


@streams_app.command("list")
@guarded
def list_streams(as_json: Json = False) -> None:
    """List the streams."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        streams = every(client, "registry", "/v1/streams", "streams")
    output.answer({"streams": streams})
    if not streams:
        output.next("No stream yet: headrace stream create CONTRACT.yaml, or --from FILE --label COLUMN")
        return
    columns = ("stream", "task", "version", "partitions", "champion")
    output.table(columns, [[one.get(column) for column in columns] for one in streams])


def every(client: Client, service: calls.ServiceName, path: str, name: str) -> list[dict[str, Any]]:
    """All items of a paged list, e.g. `every(client, "registry", "/v1/streams", "streams")`."""
    items: list[dict[str, Any]] = []
    after = None
    while True:
        page = client.get(service, path if after is None else f"{path}?after={quote(str(after), safe='')}")
        items.extend(page.get(name) or [])
        after = page.get("next")
        if after is None:
            return items


def _infer(
    source: Path, name: str, label: str, task: str, id_column: str, time_column: str, leave_out: list[str]
) -> StreamContract:
    from itertools import islice

    from headrace.cli.files import read_rows
    from headrace.contracts.infer import infer

    if not label:
        raise Unusable("say which column to predict: --label COLUMN")
    rows = list(islice(read_rows(source), INFERRED_ROWS))
    if not rows:
        raise Unusable(f"{source} has no rows")
    return infer(
        name, rows, label=label, task=task or None, id=id_column, event_time=time_column, leave_out=leave_out
    )


def _stream_name(source: Path) -> str:
    """A stream name out of a file name: `Elec 2.csv.gz` -> `elec-2`."""
    stem = source.name.split(".")[0].lower()
    name = "".join(
        mark if mark.isascii() and (mark.isalnum() or mark in "_-") else "-" for mark in stem
    ).strip("-_")
    if not name or not name[0].isalpha():
        raise Unusable("the file's name gives no stream name; choose one with --name")
    return name[:63]


def _load(text: str) -> StreamContract:
    from headrace.contracts.odcs import load

    return load(text)


def _dump(contract: StreamContract) -> str:
    from headrace.contracts.odcs import dump

    return dump(contract)


def _show_contract(output: Output, contract: StreamContract) -> None:
    """The contract as a table."""
    label = contract.label
    output.say(f"{contract.name}: {contract.task}, label {label.name} ({label.type})", style="bold")
    roles = (("id", contract.id), ("event time", contract.event_time), ("entity", contract.entity))
    said = ", ".join(f"{role} {name}" for role, name in roles if name)
    output.say(
        f"{said + '; ' if said else ''}labels are waited for {label.wait_seconds:,} s, "
        f"then: {label.expiry}; {contract.partitions} partition(s)"
    )
    if contract.description:
        output.say(contract.description)
    rows = []
    for field in contract.fields:
        bounds = _bounds(field.minimum, field.maximum)
        if field.categories:
            shown = ", ".join(field.categories[:4])
            bounds = f"{shown}, ... ({len(field.categories)})" if len(field.categories) > 4 else shown
        marks = [word for word in ("required", "sensitive", "segment", "personal") if getattr(field, word)]
        rows.append(
            (field.name, field.type, "yes" if field.feature else "no", bounds, field.unit, " ".join(marks))
        )
    output.table(("field", "type", "feature", "values", "unit", ""), rows)


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is None and maximum is None:
        return ""
    if maximum is None:
        return f"from {minimum:g}"
    return f"up to {maximum:g}" if minimum is None else f"{minimum:g} to {maximum:g}"
