"""`headrace publish`: a file to a stream, from the contract in the registry to the metrics at the end."""

import time
from pathlib import Path
from typing import Any, NamedTuple

from headrace.cli import files
from headrace.cli.following import Follower, wait_until_folded
from headrace.cli.output import Output, count, duration
from headrace.cli.progress import Bar
from headrace.cli.publish import Pace, Reader, Sent, bodies, choose_columns, parse_delay, send
from headrace.cli.reports import quality
from headrace.client import Client, ServiceProblem
from headrace.contracts.stream import StreamContract, from_dict
from headrace.errors import Unusable

FOLD_SECONDS = 3600.0


class Wanted(NamedTuple):
    """The command's arguments. label, id and time: columns, "" = the contract's; speed: None = as fast as it goes."""

    stream: str
    file: Path
    label: str
    delay: str
    id: str
    time: str
    speed: float | None
    wait: bool


def run(client: Client, bootstrap: str, output: Output, wanted: Wanted) -> dict[str, Any]:
    """Publish, and (unless told not to) wait until scoring is through. Returns the report."""
    delay = parse_delay(wanted.delay)
    contract = contract_of(client, wanted.stream)
    present = files.columns_of(wanted.file)
    columns = choose_columns(contract, present, label=wanted.label, id=wanted.id, time_column=wanted.time)
    tell_about_columns(output, contract, present, columns.label, used={columns.id, columns.time})
    total = files.count_rows(wanted.file)
    reader = Reader(
        contract,
        columns,
        delay,
        wanted.file.name,
        now_ms=time.time_ns() // 1_000_000,
        total=total,
    )
    sent = Sent()
    began = time.monotonic()
    lines = reader.lines(files.read_rows(wanted.file))
    with Bar(output, wanted.file.name, total * (2 if columns.label else 1)) as bar:
        send(client, wanted.stream, bodies(lines, Pace(wanted.speed)), told=bar.update, sent=sent)
    seconds = time.monotonic() - began
    report: dict[str, Any] = {
        "stream": wanted.stream,
        "rows": reader.rows,
        "observations": reader.observations,
        "labels": reader.labels,
        "accepted": sent.accepted,
        "rejected": sent.rejected,
        "rules": dict(sent.rules),
        "examples": sent.examples,
        "seconds": round(seconds, 2),
        "events_per_second": round((sent.accepted + sent.rejected) / seconds, 1) if seconds else None,
    }
    if wanted.wait:
        report |= folded(client, bootstrap, output, wanted.stream)
    return report


def contract_of(client: Client, stream: str) -> StreamContract:
    """The stream's contract. Raises `Unusable` if there is no such stream."""
    try:
        return from_dict(client.stream(stream)["contract"])
    except ServiceProblem as problem:
        if problem.status != 404:
            raise
        make = f"headrace stream create --from FILE --label COLUMN --name {stream}"
        raise Unusable(f"there is no stream {stream!r}; make it: {make}") from None


def tell_about_columns(
    output: Output, contract: StreamContract, present: list[str], label: str, *, used: set[str]
) -> None:
    """Say what of the file does not go where one might think."""
    known = {field.name for field in contract.fields} | used | {label}
    unknown = [name for name in present if name not in known]
    if unknown:
        output.say(
            f"columns that the contract does not know are left out: {', '.join(unknown)}", style="yellow"
        )
    if not label:
        output.say(
            f"no label is sent: the file has no column {contract.label.name!r} (see --label-column)",
            style="yellow",
        )


def folded(client: Client, bootstrap: str, output: Output, stream: str) -> dict[str, Any]:
    """Wait until scoring has folded everything; its counts and the models' metrics."""
    follower = Follower(client, stream)
    with output.waiting("waiting for scoring") as say:
        lag = wait_until_folded(
            follower,
            bootstrap,
            stream,
            lambda left: say(f"scoring is {count(left)} events behind") if output.moving else None,
            timeout_seconds=FOLD_SECONDS,
        )
    live = follower.live
    names = ("predictions", "outcomes", "expired", "pending", "duplicates", "second_labels", "refused")
    return {
        "lag": lag,
        "stream_totals": {name: live.count(name) for name in names},
        "models": [
            {
                "model": model.get("model"),
                "version": model.get("version"),
                "role": model.get("role"),
                **model.get("metrics", {}).get("overall", {}),
            }
            for model in live.total.get("models") or []
        ],
    }


def show(output: Output, report: dict[str, Any]) -> None:
    """The report for people."""
    output.say(
        f"{count(report['rows'])} rows: {count(report['observations'])} observations and "
        f"{count(report['labels'])} labels in {duration(report['seconds'])} "
        f"({count(report['events_per_second'] or 0)}/s)"
    )
    if report["rejected"]:
        rules = ", ".join(f"{rule} {count(times)}" for rule, times in report["rules"].items())
        output.say(f"{count(report['rejected'])} were rejected: {rules}", style="red")
        for example in report["examples"]:
            output.say(f"  {example}")
    stream = report["stream"]
    for model in report.get("models") or []:
        output.say(f"{model['role']} {model['model']} v{model['version']}: {quality(model)}")
    hints = [f"headrace tail outcomes {stream} --from-start   predictions beside the truth"]
    if "models" in report and not report["models"]:
        hints = [f"No model answers yet: headrace model deploy {stream} SPEC.yaml"]
    if report["rejected"]:
        hints.append(f"headrace tail rejected {stream} --from-start   what was refused, and why")
    output.next(*hints)
