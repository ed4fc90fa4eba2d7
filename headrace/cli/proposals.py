"""`headrace retrain proposals`, `approve`, `dismiss`, `story`: what proposes to retrain, and what comes of it."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import typer

from headrace.cli.common import Json, Reason, client_of
from headrace.cli.home import Home
from headrace.cli.output import Output, guarded
from headrace.cli.retrain import StreamArgument, tell_cost, tell_lost
from headrace.client import Client, calls
from headrace.errors import HeadraceError, Unusable

ProposalOption = Annotated[int | None, typer.Option("--proposal", min=1, help="Its number.")]
LOOKED_AT = 1_000
"""Newest alerts of the stream, among which those of a proposal are."""


@guarded
def proposals(
    stream: StreamArgument,
    most: Annotated[int, typer.Option(min=1, max=500, help="How many, from the newest on.")] = 20,
    as_json: Json = False,
) -> None:
    """List what was proposed to retrain a stream, and what came of it."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = _listed(client, stream, most)
    output.answer(found)
    rows = [
        [one["proposal"], one["created_at"], one["cause"], _stands(one), one["by"], _says(one)]
        for one in found["proposals"]
    ]
    output.table(("proposal", "came", "cause", "state", "by", "says"), rows)
    if any(one["waits_for"] == "approval" for one in found["proposals"]):
        output.next(f"headrace retrain story {stream}     shows what it would take, and may gain")
        output.say(f"headrace retrain approve {stream}   lets it begin; dismiss: nothing comes of it", "cyan")


@guarded
def approve(
    stream: StreamArgument, proposal: ProposalOption = None, reason: Reason = "", as_json: Json = False
) -> None:
    """Let the retraining begin that waits for it (or that of --proposal)."""
    _turn(stream, proposal, "approve", reason, Output(as_json))


@guarded
def dismiss(
    stream: StreamArgument, proposal: ProposalOption = None, reason: Reason = "", as_json: Json = False
) -> None:
    """Let nothing come of the proposal that waits (or of --proposal)."""
    _turn(stream, proposal, "dismiss", reason, Output(as_json))


@guarded
def story(stream: StreamArgument, proposal: ProposalOption = None, as_json: Json = False) -> None:
    """Show a proposal (default: the newest) and all that came of it: race, rollout, outcome, its alert."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        number = proposal
        if number is None:
            newest = _listed(client, stream, 1)["proposals"]
            if not newest:
                raise Unusable(f"nothing was proposed for {stream} yet")
            number = newest[0]["proposal"]
        found = client.get("registry", calls.stream_path(stream, f"proposals/{number}"))
        steps = _alert_steps(client, stream, found["drift"])
    found["steps"] = sorted([*found["steps"], *steps], key=lambda step: str(step["at"]))
    output.answer(found)
    _tell(output, found)


def _turn(
    stream: str, number: int | None, action: Literal["approve", "dismiss"], reason: str, output: Output
) -> None:
    with client_of(Home.from_environment()) as client:
        if number is None:  # at most one waits, the newest that is not passed over
            found = [one for one in _listed(client, stream, 500)["proposals"] if one["status"] == "waiting"]
            if not found:
                raise Unusable(f"no proposal of {stream} waits; see: headrace retrain proposals {stream}")
            number = found[0]["proposal"]
        answer = client.turn_proposal(stream, number, action, reason=reason)
    output.answer(answer)
    _tell(output, answer)
    if answer["retraining"] is not None:
        output.next(f"headrace retrain status {stream} --follow    watches it to its end")


def _listed(client: Client, stream: str, most: int) -> dict[str, Any]:
    found: dict[str, Any] = client.get("registry", f"{calls.stream_path(stream, 'proposals')}?limit={most}")
    return found


def _alert_steps(client: Client, stream: str, drift: str) -> list[dict[str, Any]]:
    """The lives of the alerts about what has moved; nothing while the monitor cannot be asked."""
    steps: list[dict[str, Any]] = []
    with suppress(HeadraceError):
        query = urlencode({"stream": stream, "limit": LOOKED_AT})
        alerts = client.get("monitor", f"/v1/alerts/current?{query}")["alerts"]
        for alert in (one for one in alerts if drift and one["drift"] == drift):
            life = client.get("monitor", f"/v1/alerts/current/{quote(alert['id'], safe='')}")
            steps += [
                {
                    "at": _time(step["told_at"]),
                    "what": f"alert {step['state']}",
                    "by": step["by"] or "the monitor",
                    "says": step["why"] or step["reason"],
                }
                for step in life["steps"]
            ]
    return steps


def _time(told_ms: int) -> str:
    at = datetime.fromtimestamp(told_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return at.replace("+00:00", "Z")


def _stands(one: dict[str, Any]) -> str:
    waits = str(one["waits_for"]).replace("_", "-")
    return f"waits for {waits}" if one["status"] == "waiting" else str(one["status"]).replace("_", " ")


def _says(one: dict[str, Any]) -> str:
    if one["retraining"] is not None:
        return f"retraining {one['retraining']}"
    return f"{one['says']} (until {one['until']})" if one["until"] else str(one["says"])


def _tell(output: Output, found: dict[str, Any]) -> None:
    stands = found["outcome"].replace("_", " ")
    output.say(f"proposal {found['proposal']} of {found['stream']}: {stands}")
    if found["status"] == "waiting":
        output.say(f"it {_stands(found)}: {_says(found)}")
    output.table(
        ("when", "what", "by", "says"),
        [[step["at"], step["what"].replace("_", " "), step["by"], step["says"]] for step in found["steps"]],
    )
    if found["expected"] is None:
        output.say(f"expected cost and gain: {found['untold']}")
    else:
        tell_cost(output, found["expected"])
        tell_lost(output, found["expected"])
    race, way = found["race"], found["rollout"]
    if race is not None and race["worth"] is not None:
        gain, decisions = race["worth"]["gain"], race["worth"]["horizon_decisions"]
        output.say(f"after the race: {gain:+,.2f} over {decisions:,} decisions")
    if way is not None and way["open"]:
        waits = ", waits for approval" if way["awaits_approval"] else ""
        output.say(
            f"rollout {way['rollout']}: {way['stage']}, {way['labels']:,} of at most "
            f"{way['most_labels'] or 0:,} labels{waits}"
        )
