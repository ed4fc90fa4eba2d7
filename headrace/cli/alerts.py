"""`headrace alert`: what fires, who has seen it, whom it reaches, and how often a rule would have fired."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer
import yaml

from headrace.cli.common import SHORT, Json, ask_monitor, client_of, one_of, query, time_of
from headrace.cli.home import Home
from headrace.cli.output import Output, count, guarded
from headrace.client import calls
from headrace.errors import Unusable

alerts_app = typer.Typer(help="Alerts: what fires, who has seen it, whom it reaches.", no_args_is_help=True)

StreamOption = Annotated[str, typer.Option(help="Only of this stream.")]
AlertArgument = Annotated[str, typer.Argument(help="Its id, or the beginning of it.")]
Why = Annotated[str, typer.Option(help="Why, for others.")]


@alerts_app.command("list")
@guarded
def list_alerts(
    stream: StreamOption = "",
    state: Annotated[str, typer.Option(help="firing, acknowledged or resolved.")] = "",
    most: Annotated[int, typer.Option(min=1, max=1_000, help="How many, from the newest on.")] = 50,
    as_json: Json = False,
) -> None:
    """List alerts and where each stands, newest first."""
    output = Output(as_json)
    found = ask_monitor(f"/v1/alerts/current?{query(stream=stream, state=state, limit=most)}")
    output.answer(found)
    columns = ("id", "at", "state", "severity", "stream", "model", "rule", "what")
    output.table(
        columns,
        [
            [
                alert["id"][:SHORT], time_of(alert["at"]), alert["state"], alert["severity"], alert["stream"],
                alert["model"] or "-", alert["rule"], alert["reason"],
            ]
            for alert in found["alerts"]
        ],
    )  # fmt: skip


@alerts_app.command()
@guarded
def show(alert: AlertArgument, as_json: Json = False) -> None:
    """Show one alert with every step of its life, and whom it reached."""
    output = Output(as_json)
    whole = _id(alert)
    found = ask_monitor(f"/v1/alerts/current/{quote(whole, safe='')}")
    found["deliveries"] = ask_monitor(f"/v1/deliveries?{query(alert=whole, limit=100)}")["deliveries"]
    output.answer(found)
    output.say(f"{found['id']}: {found['state']}, {found['severity']}")
    output.say(found["reason"])
    output.table(
        ("told", "step", "severity", "by", "why"),
        [
            [time_of(step["told_at"]), step["state"], step["severity"], step["by"] or "-", step["why"] or "-"]
            for step in found["steps"]
        ],
    )
    if found["deliveries"]:
        _deliveries(output, found["deliveries"])
    if found.get("drift"):
        output.next(f"headrace drift why {found['drift'][:SHORT]}    says why, and what to do")


@alerts_app.command()
@guarded
def ack(alert: AlertArgument, why: Why = "", as_json: Json = False) -> None:
    """Say that somebody has seen it: it is not escalated."""
    output = Output(as_json)
    found = _send(calls.acknowledge_alert(_id(alert), why))
    output.answer(found)
    seen = found["acknowledged"]
    output.say(
        f"{found['id'][:SHORT]} is acknowledged by {seen['by']}" + (f": {seen['why']}" if seen["why"] else "")
    )


@alerts_app.command()
@guarded
def mute(
    lasting: Annotated[str, typer.Argument(metavar="FOR", help="How long: 90s, 15min, 2h or 3d.")],
    rule: Annotated[str, typer.Option(help="Alerts of this rule.")] = "",
    stream: Annotated[str, typer.Option(help="Alerts of this stream.")] = "",
    model: Annotated[str, typer.Option(help="Alerts of this model.")] = "",
    kind: Annotated[str, typer.Option(help="Alerts of this kind: quality, concept, data, ...")] = "",
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Do not tell people of alerts that fit all that is given; they are still recorded."""
    from headrace.replay.plan import seconds

    output = Output(as_json)
    about = {
        name: given
        for name, given in (("rule", rule), ("stream", stream), ("model", model), ("kind", kind))
        if given
    }
    if not about:
        raise Unusable("say which alerts: --rule, --stream, --model, --kind")
    made = _send(calls.mute_alerts(about, int(seconds(lasting)), why, id=uuid4().hex))
    output.answer(made)
    output.say(f"muted until {time_of(made['until'])}")
    output.next(f"headrace alert unmute {made['id'][:SHORT]}    ends it before its time")


@alerts_app.command()
@guarded
def mutes(as_json: Json = False) -> None:
    """List the mutes in force."""
    output = Output(as_json)
    found = ask_monitor("/v1/mutes")
    output.answer(found)
    names = ("rule", "stream", "model", "kind")
    output.table(
        ("id", "until", *names, "by", "why"),
        [
            [
                one["id"][:SHORT],
                time_of(one["until"]),
                *(one[name] or "-" for name in names),
                one["by"],
                one["why"] or "-",
            ]
            for one in found["mutes"]
        ],
    )


@alerts_app.command()
@guarded
def unmute(
    mute: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")], as_json: Json = False
) -> None:
    """End a mute before its time."""
    output = Output(as_json)
    ended = _send(
        calls.unmute_alerts(one_of(mute, [one["id"] for one in ask_monitor("/v1/mutes")["mutes"]], "mute"))
    )
    output.answer(ended)
    output.say(f"{ended['id'][:SHORT]} has ended")


@alerts_app.command()
@guarded
def rules(as_json: Json = False) -> None:
    """List the rules in force."""
    output = Output(as_json)
    found = ask_monitor("/v1/rules")
    output.answer(found)
    output.table(
        ("rule", "stream", "severity", "fires when"),
        [
            [rule["name"], rule["stream"], rule.get("severity", "warning"), _when(rule)]
            for rule in found["rules"]
        ],
    )


@alerts_app.command()
@guarded
def channels(
    test: Annotated[
        str, typer.Option(metavar="NAME", help="Tell this channel of an alert that is none.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List whom alerts reach, or test one."""
    output = Output(as_json)
    if test:
        answer = _send(calls.test_channel(test))
        output.answer(answer)
        if not answer["delivered"]:
            output.say(f"{test} was not reached: {answer['error']}", style="red")
            raise typer.Exit(1)
        output.say(f"{test} was reached")
        return
    found = ask_monitor("/v1/channels")
    output.answer(found)
    columns = ("name", "sort", "host", "severity", "group", "waiting")
    output.table(
        columns,
        [
            [one[column] or "-" if column == "host" else one[column] for column in columns]
            for one in found["channels"]
        ],
    )


@alerts_app.command()
@guarded
def deliveries(
    channel: Annotated[str, typer.Option(help="Only to this channel.")] = "",
    status: Annotated[str, typer.Option(help="waiting, delivered, muted or given_up.")] = "",
    most: Annotated[int, typer.Option(min=1, max=1_000, help="How many, from the newest on.")] = 50,
    as_json: Json = False,
) -> None:
    """List what was told to whom, newest first."""
    output = Output(as_json)
    found = ask_monitor(f"/v1/deliveries?{query(channel=channel, status=status, limit=most)}")
    output.answer(found)
    _deliveries(output, found["deliveries"])


@alerts_app.command("try")
@guarded
def try_rule(  # noqa: PLR0913, PLR0917  # one option each
    file: Annotated[
        Path | None, typer.Argument(help="Rule, or rules file with --rule.", exists=True, dir_okay=False)
    ] = None,
    rule: Annotated[str, typer.Option(help="Which rule of the file.")] = "",
    stream: Annotated[str, typer.Option(help="Stream (default: each).")] = "*",
    metric: Annotated[str, typer.Option(help="Figure: roc_auc, missing.FIELD.share, ...")] = "",
    model: Annotated[str, typer.Option(help="Model (default: each).")] = "",
    below: Annotated[float | None, typer.Option(help="Fires below this.")] = None,
    above: Annotated[float | None, typer.Option(help="Fires above this.")] = None,
    clear: Annotated[float | None, typer.Option(help="Ends beyond this (default: the same).")] = None,
    for_windows: Annotated[int, typer.Option(min=1, help="So many windows in a row.")] = 1,
    drift: Annotated[str, typer.Option(help="Kinds of drift instead: concept,bias")] = "",
    start: Annotated[str, typer.Option("--from", help="RFC 3339 (default: all that is kept).")] = "",
    end: Annotated[str, typer.Option("--to", help="RFC 3339; exclusive.")] = "",
    as_json: Json = False,
) -> None:
    """How often would a rule have fired? Judged on what is kept of the past; nobody is told."""
    output = Output(as_json)
    if file is not None:
        document = _rule_of(file, rule)
    else:
        given = {"metric": metric, "model": model, "below": below, "above": above, "clear": clear}
        document = {name: value for name, value in given.items() if value not in ("", None)}
        document |= {"name": "tried", "stream": stream, "for_windows": for_windows}
        if drift:
            document["drift"] = drift.split(",")
    found = _send(calls.try_rule(document, start, end))
    output.answer(found)
    what = "event(s) of drift" if document.get("drift") else "window(s)"
    since = "" if found["kept_from"] is None else f" since {time_of(found['kept_from'])}"
    output.say(
        f"fired {count(found['fired'])} time(s), ended {count(found['resolved'])}: {count(found['looked_at'])} {what}"
        f"{since}, {count(found['judged'])} judged"
    )
    if found["alerts"]:
        output.table(
            ("at", "state", "stream", "model", "value", "what"),
            [
                [
                    time_of(one["at"]),
                    one["state"],
                    one["stream"],
                    one["model"] or "-",
                    one["value"],
                    one["reason"],
                ]
                for one in found["alerts"]
            ],
        )


def _send(call: calls.Call) -> Any:
    with client_of(Home.from_environment()) as client:
        return client.send(call)


def _id(text: str) -> str:
    ids = [alert["id"] for alert in ask_monitor("/v1/alerts/current?limit=1000")["alerts"]]
    return one_of(text, ids, "alert")


def _rule_of(file: Path, name: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unusable(f"{file} is no YAML: {error}") from None
    listed = document.get("rules", [document]) if isinstance(document, dict) else document
    rules = [rule for rule in listed or () if isinstance(rule, dict) and name in ("", rule.get("name"))]
    if len(rules) != 1:
        raise Unusable(f"{file} holds {len(rules)} such rules; say which with --rule")
    return rules[0]


def _when(rule: dict[str, Any]) -> str:
    whose = f" of {rule['model']}" if rule.get("model") else ""
    if rule.get("drift"):
        return f"{', '.join(rule['drift'])} drift{whose}"
    side, bound = ("below", rule["below"]) if "below" in rule else ("above", rule["above"])
    return f"{rule['metric']}{whose} {side} {bound:g} for {rule.get('for_windows', 1)} window(s)"


def _deliveries(output: Output, found: list[dict[str, Any]]) -> None:
    columns = ("channel", "alert", "state", "status", "attempts", "error")
    rows = [{**one, "alert": one["alert"][:SHORT], "error": one["error"] or "-"} for one in found]
    output.table(
        ("changed", *columns), [[time_of(row["changed"]), *(row[name] for name in columns)] for row in rows]
    )
