"""`headrace dataset`: names for records of a log, what is in them, and whether they are still the same."""

import time
from typing import Annotated, Any

import typer

from headrace.cli.common import Json, Reason, bootstrap_of, client_of, versioned
from headrace.cli.home import Home
from headrace.cli.output import Output, count, guarded
from headrace.cli.profiles import show_measurement
from headrace.cli.progress import Bar
from headrace.cli.streams import every
from headrace.client import Client, calls
from headrace.contracts.left_out import FORMS
from headrace.errors import Unusable

datasets_app = typer.Typer(help="Datasets: records of a log under a name.", no_args_is_help=True)

LOOK_SECONDS = 0.3

Named = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="Which dataset; NAME: its latest version.")
]


@datasets_app.command()
@guarded
def create(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    stream: Annotated[str, typer.Option(help="Name of the stream.")],
    start: Annotated[
        str, typer.Option("--from", help="From this offset or time on (default: the log's start).")
    ] = "",
    end: Annotated[
        str, typer.Option("--to", help="Up to this offset or time, without it (default: all there is now).")
    ] = "",
    without: Annotated[list[str] | None, typer.Option(help=f"Leave out {FORMS}; may be repeated.")] = None,
    description: Annotated[str, typer.Option(help="What it is, or is for.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is measured.")] = True,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Name records of a stream's log as a version of a dataset; the same records are the same version."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        ranges = _ranges(home, output, client, stream, start, end) if start or end else None
        made = client.create_dataset(
            name, stream, ranges=ranges, without=without or [], description=description, reason=reason
        )
        version = int(made["version"])
        output.say(f"{name}@{version} {'is made' if made['created'] else 'is there already'}")
        found = _measured(client, output, name, version) if wait else _get(client, name, version)
    output.answer({**found, "created": made["created"]})
    if wait:
        _show(output, found)
    else:
        output.next(f"headrace dataset show {name}@{version}    what is in it, once it is measured")
    if found["state"] == "failed":
        raise typer.Exit(1)


@datasets_app.command("list")
@guarded
def list_datasets(
    name: Annotated[str, typer.Argument(help="Only the versions of this one.")] = "",
    as_json: Json = False,
) -> None:
    """List the datasets by their latest version, or all versions of one."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = _versions(client, name) if name else every(client, "registry", "/v1/datasets", "datasets")
    output.answer({"datasets": found})
    rows = [
        (
            f"{one['name']}@{one['version']}",
            one["stream"],
            _spans(one["ranges"]),
            one["records"],
            one["state"],
            (one["digest"] or "")[:12] or None,
            one["created_at"],
            one["created_by"],
            one["description"],
        )
        for one in found
    ]
    columns = ("dataset", "stream", "offsets", "records", "state", "digest", "created", "by", "description")
    output.table(columns, rows)
    if not found:
        output.next("headrace dataset create NAME --stream STREAM    makes one of all there is now")


@datasets_app.command()
@guarded
def show(dataset: Named, as_json: Json = False) -> None:
    """Show a dataset: what it refers to, how good it is, what is in it, and which model versions learnt from it."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = _get(client, *_chosen(client, dataset))
    output.answer(found)
    _show(output, found)


@datasets_app.command()
@guarded
def verify(dataset: Named, as_json: Json = False) -> None:
    """Read a dataset's records again, from Kafka and the archive; exit code 1 if they are not what was measured."""
    import msgspec

    from headrace.contracts.left_out import Below, parse
    from headrace.datasets import verify as verifying
    from headrace.datasets.measurement import Measurement, Stretch
    from headrace.datasets.source import Source

    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = _get(client, *_chosen(client, dataset))
    name = f"{found['name']}@{found['version']}"
    if found["measurement"] is None:
        raise Unusable(
            f"{name} was not measured, so there is nothing to compare: {found['failure'] or 'wait'}"
        )
    left_out = parse(found["without"])
    below = (Below(left_out),) if left_out else ()
    stretches = [
        Stretch(int(part), span["from"], span["before"], None, below)
        for part, span in found["ranges"].items()
    ]
    measured = msgspec.convert(found["measurement"], Measurement)
    total = sum(stretch.end - stretch.start for stretch in stretches)
    with Bar(output, f"reading {name}", total) as bar:
        source = Source.of(bootstrap_of(home), home.archive)
        wrong = verifying.verify(source, found["stream"], stretches, measured, bar.update)
    output.answer(
        {
            "dataset": name,
            "digest": measured.digest,
            "records": measured.quality.records,
            "well": not wrong,
            "wrong": [one._asdict() for one in wrong],
        }
    )
    for one in wrong:
        output.say(one.says, style="red")
    if wrong:
        raise typer.Exit(1)
    output.say(f"{name}: {count(measured.quality.records)} records, digest {measured.digest}", style="green")


def _ranges(
    home: Home, output: Output, client: Client, stream: str, start: str, end: str
) -> dict[str, dict[str, int]]:
    """Offsets by partition; what was given as a time is looked for in the log."""
    from headrace.contracts.topics import LOG, topic
    from headrace.datasets.places import places
    from headrace.datasets.source import Source
    from headrace.replay.plan import check_bounds, parse_bound

    bounds = {"from": parse_bound(start), "before": parse_bound(end)}
    partitions = int(client.stream(stream)["partitions"])
    check_bounds(stream, partitions, bounds.values())
    given = {side: bound for side, bound in bounds.items() if bound is not None}
    history, name = Source.of(bootstrap_of(home), home.archive).history, topic(LOG, stream)
    with Bar(output, f"looking through {stream}", None) as bar:
        return {
            str(partition): dict(
                zip(given, places(history, name, partition, list(given.values()), bar.update), strict=True)
            )
            for partition in range(partitions)
        }


def _versions(client: Client, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    below = ""
    while True:
        page = client.get("registry", f"{calls.dataset_path(name)}{below}")
        found += page["versions"]
        if page["next"] is None:
            return found
        below = f"?below={page['next']}"


def _chosen(client: Client, text: str) -> tuple[str, int]:
    name, version = versioned(text)
    if version is None:
        version = int(client.get("registry", f"{calls.dataset_path(name)}?limit=1")["versions"][0]["version"])
    return name, version


def _get(client: Client, name: str, version: int) -> dict[str, Any]:
    found: dict[str, Any] = client.get("registry", calls.dataset_path(name, version))
    return found


def _measured(client: Client, output: Output, name: str, version: int) -> dict[str, Any]:
    with output.waiting("measuring"):
        while (found := _get(client, name, version))["state"] == "measuring":
            time.sleep(LOOK_SECONDS)
    return found


def _spans(ranges: dict[str, dict[str, int]]) -> str:
    return ", ".join(f"{part}: {span['from']}..{span['before']}" for part, span in ranges.items())


def _show(output: Output, found: dict[str, Any]) -> None:
    output.say()
    output.say(f"{found['name']}@{found['version']}", style="bold")
    output.say(f"{found['stream']}.log, offsets {_spans(found['ranges'])}")
    output.say(f"contract {', '.join(map(str, found['contracts'])) or 'none'}")
    if found["without"]:
        output.say(f"without {', '.join(found['without'])}")
    because = f": {found['reason']}" if found["reason"] else ""
    output.say(f"made {found['created_at']} by {found['created_by']}{because}")
    if found["description"]:
        output.say(found["description"])
    if found["state"] == "failed":
        output.say(f"could not be measured: {found['failure']}", style="red")
    if found["measurement"] is None:
        output.say("not measured yet" if found["state"] == "measuring" else "")
        return
    output.say(f"digest {found['digest']}")
    show_measurement(output, found["measurement"])
    output.say()
    rows = [
        (
            f"{one['model']}@{one['version']}",
            f"{one['share']:.1%}",
            _spans(one["ranges"]),
            "no" if one["ended_at"] else "yes",
        )
        for one in found["seen_by"]
    ]
    if rows:
        output.table(("learnt from it", "share", "offsets", "lives"), rows)
    else:
        output.say("no model version has learnt from it")
