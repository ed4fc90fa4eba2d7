"""`headrace retrain`: specifications race over a stream's log for the champion's place."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.common import Json, Reason, client_of, numbered
from headrace.cli.home import Home
from headrace.cli.models import read_specification
from headrace.cli.output import Output, duration, guarded
from headrace.cli.progress import Bar
from headrace.client import Client, calls

retrain_app = typer.Typer(
    help="Specifications race over a stream's log for the champion's place.", no_args_is_help=True
)

StreamArgument = Annotated[str, typer.Argument(help="Name of the stream.")]
NumberOption = Annotated[
    int | None, typer.Option("--retraining", min=1, help="Its number (default: the newest).")
]
Name = Annotated[str, typer.Option(help="The winner's name (default: beside the champion's).")]
Last = Annotated[
    int | None,
    typer.Option(min=1, help="Learn about so many of the newest records (default: the whole log)."),
]
OnlyRegister = Annotated[bool, typer.Option("--only-register", help="Begin no rollout of the winner.")]
Whatever = Annotated[
    bool, typer.Option("--whatever", help="Go on with the winner even if it lost more than the champion.")
]
CpuSeconds = Annotated[float | None, typer.Option(min=1, help="Processor time of each trial.")]
WallSeconds = Annotated[float | None, typer.Option(min=1, help="Time that each trial may take.")]
MemoryMb = Annotated[int | None, typer.Option(min=1, help="Memory of each trial.")]
Horizon = Annotated[int, typer.Option(min=1, help="Decisions over which the winner's gain is told.")]
LOOK_SECONDS = 0.5
WIDEST = 70
"""Characters of a specification in a table."""


@retrain_app.command()
@guarded
def start(  # noqa: PLR0913, PLR0917  # one option each
    stream: StreamArgument,
    search: Annotated[
        Path,
        typer.Argument(help="What is tried (YAML or JSON): candidates, space.", exists=True, dir_okay=False),
    ],
    name: Name = "",
    last: Last = None,
    only_register: OnlyRegister = False,
    whatever: Whatever = False,
    cpu_seconds: CpuSeconds = None,
    wall_seconds: WallSeconds = None,
    memory_mb: MemoryMb = None,
    horizon: Horizon = 100_000,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it to its end.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Begin a race; the winner is rolled out if it lost less than the champion on the same labels."""
    home, output = Home.from_environment(), Output(as_json)
    limits = _limits(cpu_seconds, wall_seconds, memory_mb)
    document = _ask(search, name, last, only_register, whatever, limits, horizon)
    with client_of(home) as client:
        found = client.begin_retraining(stream, document, reason=reason)
        if follow:
            found = _followed(output, client, found)
    output.answer(found)
    _tell(output, found)
    if found["status"] == "racing":
        output.next(f"headrace retrain status {stream} --follow    watches it to its end")


@retrain_app.command()
@guarded
def policy(  # noqa: PLR0913, PLR0917  # one option each
    stream: StreamArgument,
    search: Annotated[
        Path | None,
        typer.Argument(help="What is tried; left out, the policy is shown.", exists=True, dir_okay=False),
    ] = None,
    every_seconds: Annotated[int, typer.Option(min=0, help="By the clock, so often; 0: not.")] = 0,
    on_events: Annotated[
        bool, typer.Option("--on-events", help="When an event on headrace.retrains proposes it.")
    ] = False,
    cool_down_seconds: Annotated[
        int, typer.Option(min=0, help="So long after one began, no event begins another.")
    ] = 3_600,
    approval: Annotated[
        bool, typer.Option("--approval", help="What an event proposes waits until a person approves it.")
    ] = False,
    expires_seconds: Annotated[int, typer.Option(min=1, help="So long it waits for that.")] = 604_800,
    name: Name = "",
    last: Last = None,
    only_register: OnlyRegister = False,
    whatever: Whatever = False,
    cpu_seconds: CpuSeconds = None,
    wall_seconds: WallSeconds = None,
    memory_mb: MemoryMb = None,
    horizon: Horizon = 100_000,
    remove: Annotated[
        bool, typer.Option("--remove", help="Let it no longer be retrained by itself.")
    ] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Show or set when a stream is retrained by itself: by the clock, or when an event proposes it."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        if remove:
            client.remove_retraining_policy(stream, reason=reason)
            output.answer({"stream": stream, "removed": True})
            output.say(f"{stream} is not retrained by itself")
            return
        if search is None:
            found = client.get("registry", calls.stream_path(stream, "retraining-policy"))
        else:
            limits = _limits(cpu_seconds, wall_seconds, memory_mb)
            document = {
                "ask": _ask(search, name, last, only_register, whatever, limits, horizon),
                "every_seconds": every_seconds,
                "on_events": on_events,
                "cool_down_seconds": cool_down_seconds,
                "approval": approval,
                "expires_seconds": expires_seconds,
            }
            found = client.set_retraining_policy(stream, document, reason=reason)
    output.answer(found)
    when = [f"every {duration(found['every_seconds'])}"] if found["every_seconds"] else []
    if found["on_events"]:
        calm = duration(found["cool_down_seconds"])
        agreed = " and a person approves" if found["approval"] else ""
        when.append(f"when an event proposes it{agreed}, not within {calm} after the last")
    output.say(f"{stream} is retrained {' and '.join(when) or 'by hand only'}")


@retrain_app.command()
@guarded
def status(
    stream: StreamArgument,
    retraining: NumberOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Show a retraining: its trials, what they lost, what came of it."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = _found(client, stream, retraining)
        if follow:
            found = _followed(output, client, found)
    output.answer(found)
    _tell(output, found)


@retrain_app.command("list")
@guarded
def list_retrainings(stream: StreamArgument, as_json: Json = False) -> None:
    """List a stream's newest retrainings."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = client.get("registry", calls.stream_path(stream, "retrainings"))
    output.answer(found)
    rows = [
        [*(one[name] for name in ("retraining", "created_at", "asked_by", "cause", "status", "says"))]
        for one in found["retrainings"]
    ]
    output.table(("retraining", "begun", "by", "cause", "status", "came of it"), rows)


@retrain_app.command()
@guarded
def cancel(
    stream: StreamArgument, retraining: NumberOption = None, reason: Reason = "", as_json: Json = False
) -> None:
    """Give a retraining up."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        number = _found(client, stream, retraining)["retraining"]
        found = client.cancel_retraining(stream, number, reason=reason)
    output.answer(found)
    _tell(output, found)


def _limits(cpu_seconds: float | None, wall_seconds: float | None, memory_mb: int | None) -> dict[str, float]:
    given = {"cpu_seconds": cpu_seconds, "wall_seconds": wall_seconds, "memory_mb": memory_mb}
    return {limit: value for limit, value in given.items() if value is not None}


def _ask(
    search: Path,
    name: str,
    last: int | None,
    only_register: bool,
    whatever: bool,
    limits: dict[str, float],
    horizon: int,
) -> dict[str, Any]:
    """What the registry is asked for."""
    document: dict[str, Any] = {
        "search": read_specification(search),
        "model": name,
        "last": last,
        "whatever": whatever,
        "limits": limits,
        "horizon_decisions": horizon,
    }
    return document | {"plan": None} if only_register else document


def _found(client: Client, stream: str, number: int | None) -> dict[str, Any]:
    return numbered(client, stream, "retrainings", number, f"headrace retrain start {stream} SEARCH.yaml")


def _followed(output: Output, client: Client, found: dict[str, Any]) -> dict[str, Any]:
    """The same at its end, watched meanwhile."""
    stream, number = found["stream"], found["retraining"]
    with Bar(output, f"retraining {number} of {stream}", None) as bar:
        while found["status"] in ("racing", "handing_over"):
            under_way = [one["progress"] for one in found["trials"] if one["progress"]]
            racing = sum(one["state"] == "racing" for one in found["trials"])
            note = f"rung {found['rung'] + 1} of {len(found['rungs'])}, {racing} trials racing"
            bar.total = sum(of for _, of in under_way) or None
            bar.update(sum(done for done, _ in under_way), note)
            time.sleep(LOOK_SECONDS)
            found = _found(client, stream, number)
    return found


def _tell(output: Output, found: dict[str, Any]) -> None:
    says = f": {found['says']}" if found["says"] else ""
    output.say(
        f"retraining {found['retraining']} of {found['stream']}: {found['status'].replace('_', ' ')}{says}"
    )
    _tell_forecast(output, found)
    columns = (
        "trial",
        "state",
        *(f"loss at {part:.0%}" for part in found["rungs"]),
        "CPU",
        "MB",
        "specification",
    )
    rows = []
    for one in found["trials"]:
        losses = [rung["loss"] for rung in one["rungs"]]
        rows.append(
            [
                f"{one['trial']} (champion's)" if one["reference"] else str(one["trial"]),
                one["why"] or one["state"],
                *("" if loss is None else f"{loss:.5f}" for loss in losses),
                *[""] * (len(found["rungs"]) - len(losses)),
                duration(sum(rung["cpu_seconds"] for rung in one["rungs"])),
                f"{max((rung['memory_mb'] for rung in one['rungs']), default=0):.0f}",
                _in_short(one["specification"]),
            ]
        )
    output.table(columns, rows)
    if found["served"] is not None:
        served = found["served"]
        output.say(
            f"the champion {found['champion']} lost {served['loss']:.5f} an event on the {served['labels']:,} labels "
            "that decided"
        )
    if found["gain"] is not None and not found["trials"][found["winner"]]["reference"]:
        output.say(f"the winner lost {abs(found['gain']):.5f} {'less' if found['gain'] > 0 else 'more'}")


def tell_cost(output: Output, said: dict[str, Any]) -> None:
    """What a retraining should take, as the registry says it beforehand."""
    most = f"at most {_priced(said, said['most_cpu_seconds'], said['most_cost'])}"
    expected = (
        "not known"
        if said["cpu_seconds"] is None
        else f"{_priced(said, said['cpu_seconds'], said['cost'])} (as {said['basis']} took)"
    )
    output.say(f"expected cost: {expected}; {most}")


def tell_lost(output: Output, said: dict[str, Any]) -> None:
    """What there is to be gained, if that is known beforehand."""
    if said.get("lost") is not None:
        output.say(
            f"expected gain: {said['lost']:.4g} {said['lost_of']} an event, if the winner is as good as the champion "
            "was before"
        )


def _priced(said: dict[str, Any], seconds: float, cost: float) -> str:
    unit = said["currency"] or "(no currency)"
    return f"{duration(seconds)} of processor time" + (f", {cost:,.4f} {unit}" if cost else "")


def _tell_forecast(output: Output, found: dict[str, Any]) -> None:
    """What was said of it beforehand, what it has taken, and what its winner is expected to gain."""
    said, worth = found["forecast"], found["worth"]
    if said is not None:
        tell_cost(output, said)
        output.say(f"taken so far: {_priced(said, found['cpu_seconds'], found['cost'])}")
    if worth is not None:
        output.say(
            f"expected gain: {worth['gain']:+,.2f} over {worth['horizon_decisions']:,} decisions (an answer of the "
            f"winner was worth {worth['winner']:.6f}, of the champion {worth['champion']:.6f})"
        )
    elif said is not None and said.get("lost") is not None:
        tell_lost(output, said)
    elif said is not None:
        racing = found["status"] == "racing"
        why = "before the race" if racing else "without a payoff that both have answered to"
        output.say(f"expected gain: not known {why}")


def _in_short(specification: dict[str, Any]) -> str:
    """A specification's steps, in a line."""
    steps = specification["model"]
    text = " | ".join(_step(step) for step in (steps if isinstance(steps, list) else [steps]))
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _step(step: Any) -> str:
    if not isinstance(step, dict):
        return str(step).rsplit(".", 1)[-1]
    if "class" not in step:
        return "+".join(step)  # union, say: what is in it would fill the line
    name = str(step["class"]).rsplit(".", 1)[-1]
    parameters = step.get("parameters", {})
    given = ", ".join(
        f"{key}={_step(value) if isinstance(value, dict) else _short(value)}"
        for key, value in parameters.items()
    )
    return f"{name}({given})" if given else name


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
