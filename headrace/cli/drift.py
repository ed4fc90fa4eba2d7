"""`headrace drift`: what has moved, why, and whether the budget of false alarms holds."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from headrace.cli.common import SHORT, Json, ask_monitor, one_of, query, time_of
from headrace.cli.output import Output, count, guarded

drift_app = typer.Typer(help="Drift: what has moved, why, and what to do about it.", no_args_is_help=True)

WIDE = 30
"""Characters of a bar."""
LEVELS = " ▁▂▃▄▅▆▇█"
SPLITS = 5
HISTOGRAMS = 3
"""How much is shown of each; `--json` has all."""


@drift_app.command("list")
@guarded
def list_drift(
    stream: Annotated[str, typer.Option(help="Only of this stream.")] = "",
    kind: Annotated[str, typer.Option(help="concept, data, prediction, bias or delay.")] = "",
    most: Annotated[int, typer.Option(min=1, max=1_000, help="How many, from the newest on.")] = 50,
    as_json: Json = False,
) -> None:
    """List what has moved, newest first."""
    output = Output(as_json)
    found = ask_monitor(f"/v1/drift?{query(stream=stream, kind=kind, limit=most)}")
    output.answer(found)
    output.table(
        ("id", "at", "stream", "kind", "what", "model", "before", "after", "since"),
        [
            [
                one["id"][:SHORT], time_of(one["at"]), one["stream"], one["kind"], _subject(one), _whose(one) or "-",
                one["before"], one["after"], time_of(one["since_at"]) if one["since_at"] >= 0 else "-",
            ]
            for one in found["drift"]
        ],
    )  # fmt: skip
    if found["drift"]:
        output.next(f"headrace drift why {found['drift'][0]['id'][:SHORT]}    says why, and what to do")


@drift_app.command()
@guarded
def why(
    drift: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Also write it as a drawing.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why something moved: what, since when, what it did to the answers and where, and what to do."""
    output = Output(as_json)
    whole = quote(_id(drift), safe="")
    with output.waiting("reading the log around it"):
        found = ask_monitor(f"/v1/drift/{whole}/why")
    if svg is not None:
        svg.write_text(ask_monitor(f"/v1/drift/{whole}/why?format=svg"), encoding="utf-8")
    output.answer(found)
    _head(output, found)
    _course(output, found["meaning"], found["course"])
    _loss(output, found)
    _columns(output, found["columns"])
    for rival in found["rivals"][:SPLITS]:
        than = "less" if rival["apart"] < 0 else "more"
        beyond = "" if rival["better"] else " (within chance, or worse)"
        output.say(f"{rival['model']}, asked too, loses {abs(rival['apart']):.4g} {than}{beyond}")
    advice = found["advice"]
    output.say()
    output.say(f"What to do: {advice['action']}", style="bold")
    output.say(f"  {advice['reason']} (rule {advice['rule']})")


@drift_app.command()
@guarded
def check(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    partition: Annotated[int, typer.Option(min=0, help="Which partition's references.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure how often watches alarm on the stream's own reference, beside what the budget promises."""
    output = Output(as_json)
    with output.waiting("playing the watches over the reference"):
        found = ask_monitor(f"/v1/drift/check?{query(stream=stream, partition=partition)}")
    output.answer(found)
    [(unit, budget)] = found["false_alarms"].items()
    output.say(f"{stream}/{partition}: at most one false alarm in {count(budget)} {unit} is promised")
    output.table(
        ("what", "reference", "from offset", "promised: 1 in", "measured: 1 in", "exponent", "holds"),
        [
            [
                one["what"] + (f" of {one['model']}" if one["model"] else ""),
                f"{count(one['records'])} of {count(one['needed'])} records", one["first_offset"],
                count(one["promised"]), _measured(one), one["exponent"], one["kept"],
            ]
            for one in found["checks"]
        ],
    )  # fmt: skip
    if not found["checks"]:
        output.say("There is too little of a reference yet: 512 records since it began.")
    for one in found["checks"]:
        played = ", ".join(
            f"{alarms} at {count(at)}" for at, alarms in zip(one["thresholds"], one["alarms"], strict=True)
        )
        followed = "; the rate is followed from there to the budget" if one["extrapolated"] else ""
        output.say(f"{one['what']}: alarms in {count(one['played'])} records played: {played}{followed}")
    output.say(found["note"])
    output.say(f"It took {found['cpu_seconds']:.1f} s of a processor.")


def _measured(one: dict[str, Any]) -> str:
    if one["measured"] is None:
        return "(no alarm at all)"
    return count(one["measured"])


def _head(output: Output, found: dict[str, Any]) -> None:
    drift, read = found["drift"], found["read"]
    whose = f" of {_whose(drift)}" if drift["model"] else ""
    output.say(
        f"{drift['kind']} drift of {_subject(drift)}{whose} on {drift['stream']}/{drift['partition']}", "bold"
    )
    since = drift["since_at"] if drift["since_at"] >= 0 else drift["at"]
    output.say(f"  since    {time_of(since)}, offset {max(drift['since_offset'], -1)}")
    output.say(f"  decided  {time_of(drift['at'])}, offset {drift['offset']} ({drift['method']})")
    output.say(f"  {found['meaning']}: {_figure(found['before'])} before, {_figure(found['after'])} since")
    output.say(
        f"  read: {count(read['before'])} observations before ({count(read['labelled_before'])} labelled), "
        f"{count(read['after'])} since ({count(read['labelled_after'])} labelled, {count(read['waiting'])} waiting)"
    )


def _course(output: Output, meaning: str, blocks: Sequence[dict[str, Any]]) -> None:
    """One character a block; the change lies where the bar stands."""
    values = [block["value"] for block in blocks if block["value"] is not None]
    if not values:
        return
    low, high = min(values), max(values)
    drawn = "".join(
        ("|" if later["after"] and not one["after"] else "") + _level(later["value"], low, high)
        for one, later in pairwise([{"after": bool(blocks[0]["after"])}, *blocks])
    )
    output.say()
    output.say(
        f"{meaning}, {low:.4g} to {high:.4g}, {count(blocks[0]['count'])} records a column, | the change"
    )
    output.say(f"  {drawn}")


def _level(value: float | None, low: float, high: float) -> str:
    if value is None:
        return "."
    return LEVELS[1 + round((value - low) / ((high - low) or 1.0) * (len(LEVELS) - 2))]


def _loss(output: Output, found: dict[str, Any]) -> None:
    loss = found["loss"]
    output.say()
    if loss is None:
        output.say("The loss: not known yet")
        return
    change = loss["change"]
    for one in (change, *loss["others"]):
        beyond = "beyond chance" if one["sure"] else "within chance"
        output.say(
            f"{one['name'].replace('_', ' ')} of {loss['of'] or 'what was served'}: {one['before']:.4g} before, "
            f"{one['after']:.4g} since ({one['change']:+.4g}, standard error {one['error']:.2g}: {beyond})"
        )
    if loss["course"] is not None:
        _course(output, change["name"].replace("_", " "), loss["course"])
    if not loss["parts"]:
        output.say(
            "  no field or segment sets the change apart"
            if change["sure"]
            else "  no part moved beyond chance"
        )
        return
    output.say("  what carries it, beyond chance:")
    output.table(
        ("  ", "field", "where", "carries", "+/-", "share before", "since", "loss before", "since"),
        [
            [
                f"  {one['how']}", one["field"], one["cell"], f"{one['carried']:+.4f}", f"{one['error']:.4f}",
                f"{one['before']:.1%}", f"{one['after']:.1%}", one["loss_before"], one["loss_after"],
            ]
            for one in loss["parts"][: 2 * SPLITS]
        ],
    )  # fmt: skip


def _columns(output: Output, columns: Sequence[dict[str, Any]]) -> None:
    moved = [one for one in columns if one["sure"] or one["broken"]]
    output.say()
    output.say(f"{len(moved)} of {len(columns)} columns moved beyond chance" + (":" if moved else ""))
    if moved:
        rows = [
            [
                one["name"], one["before"], one["after"], f"{one['missing_before']:.1%}", f"{one['missing_after']:.1%}",
                _size(one, "kolmogorov_smirnov"), _size(one, "population_stability_index"), one["broken"] or "-",
            ]
            for one in moved[: 2 * SPLITS]
        ]  # fmt: skip
        output.table(
            ("column", "mean before", "since", "missing before", "since", "KS", "PSI", "looks broken"), rows
        )
    for one in [*columns[:1], *(one for one in moved if one is not columns[0])][:HISTOGRAMS]:
        if one["histogram"]:
            _histogram(output, one)


def _size(column: dict[str, Any], name: str) -> float | None:
    return next((one["size"] for one in column["effects"] if one["name"] == name), None)


def _histogram(output: Output, column: dict[str, Any]) -> None:
    """A line a bin: the share before to the left, since to the right."""
    bins = column["histogram"]
    totals = [max(1, sum(one[side] for one in bins)) for side in ("before", "after")]
    shares = [(one["name"], one["before"] / totals[0], one["after"] / totals[1]) for one in bins]
    most = max(max(pair[1:]) for pair in shares) or 1.0
    wide = max(len(name) for name, *_ in shares)
    output.say()
    output.say(f"  {column['name'].rjust(wide)} {'before'.rjust(WIDE + 7)} | since")
    for name, before, after in shares:
        left = f"{before:6.1%} {('░' * round(before / most * WIDE)).rjust(WIDE)}"
        output.say(f"  {name.rjust(wide)} {left} | {'█' * round(after / most * WIDE)} {after:.1%}")


def _figure(one: dict[str, Any]) -> str:
    return "not known" if one["mean"] is None else f"{one['mean']:.4g}"


def _subject(drift: dict[str, Any]) -> str:
    return f"{drift['subject']} ({drift['group']})" if drift["group"] else str(drift["subject"])


def _whose(drift: dict[str, Any]) -> str:
    return f"{drift['model']}@{drift['version']}" if drift["model"] else ""


def _id(text: str) -> str:
    return one_of(text, [one["id"] for one in ask_monitor("/v1/drift?limit=1000")["drift"]], "event of drift")
