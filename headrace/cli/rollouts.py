"""`headrace rollout`: another model takes the champion's place, step by step, judged on real labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.common import Json, Reason, client_of, numbered, versioned
from headrace.cli.home import Home
from headrace.cli.models import LearnLog, latest, register
from headrace.cli.output import Output, guarded
from headrace.cli.preparing import prepare_learnt
from headrace.cli.value import PayoffFile, read_payoff
from headrace.client import Client
from headrace.errors import Unusable

rollouts_app = typer.Typer(
    help="Another model takes the champion's place, if it is better.", no_args_is_help=True
)

StreamArgument = Annotated[str, typer.Argument(help="Name of the stream.")]
NumberOption = Annotated[
    int | None, typer.Option("--rollout", min=1, help="Its number (default: the newest).")
]

SAYS = {
    "better": "the labels say it is better",
    "worse": "the labels say it is worse",
    "no_worse": "its labels came, nothing speaks against it",
    "undecided": "its labels came without a verdict",
    "": "by hand",
}


@rollouts_app.command()
@guarded
def start(  # noqa: PLR0913, PLR0917  # one option each
    stream: StreamArgument,
    model: Annotated[
        str, typer.Argument(help="Specification (YAML or JSON file), or a model as NAME[@VERSION].")
    ],
    name: Annotated[str, typer.Option(help="The model's name (default: the file's).")] = "",
    canary: Annotated[str, typer.Option(help="Shares of the entities that it answers first: 0.05,0.25")] = "",
    canary_labels: Annotated[int, typer.Option(min=1, help="Labels at each share.")] = 1_000,
    learn_log: LearnLog = False,
    warm_up: Annotated[
        int | None,
        typer.Option(
            min=0, help="Labels that it may learn before any count (default: 1,000; 0 with --learn-log)."
        ),
    ] = None,
    error_rate: Annotated[
        float, typer.Option(help="How often one that is not better may be called so.")
    ] = 0.05,
    harm_rate: Annotated[
        float, typer.Option(help="How often one that is not worse may be called so.")
    ] = 0.05,
    most_labels: Annotated[int, typer.Option(min=1, help="Dropped if undecided by then.")] = 100_000,
    guard_labels: Annotated[
        int, typer.Option(min=0, help="How long the old champion stays beside it.")
    ] = 10_000,
    payoff: PayoffFile = None,
    approval: Annotated[bool, typer.Option("--approval", help="A second person has to approve.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Ask a model beside the champion; it takes the place if the labels say that it is better."""
    home, output = Home.from_environment(), Output(as_json)
    worth = None if payoff is None else read_payoff(payoff)
    plan = {
        "warm_up_labels": warm_up if warm_up is not None else 0 if learn_log else 1_000,
        "error_rate": error_rate,
        "harm_rate": harm_rate,
        "most_labels": most_labels,
        "canary": _shares(canary),
        "canary_labels": canary_labels,
        "guard_labels": guard_labels,
        "approval": approval,
    }
    with client_of(home) as client:
        chosen, version = _registered(client, model, name, reason)
        if learn_log:
            version = latest(client, chosen) if version is None else version
            prepare_learnt(home, output, client, stream, chosen, version)
        answer = client.begin_rollout(
            stream, chosen, version=version, plan=plan, learnt=learn_log, payoff=worth, reason=reason
        )
    output.answer(answer)
    output.say(
        f"rollout {answer['rollout']}: {answer['challenger']} is asked beside {answer['champion']} on {stream}"
    )
    output.next(f"headrace rollout status {stream}    shows what the labels say")


@rollouts_app.command()
@guarded
def status(stream: StreamArgument, rollout: NumberOption = None, as_json: Json = False) -> None:
    """Show a rollout: where it stands, what the labels say, what came before."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = _found(client, stream, rollout)
    output.answer(found)
    _tell(output, found)


def _found(client: Client, stream: str, number: int | None) -> dict[str, Any]:
    return numbered(client, stream, "rollouts", number, f"headrace rollout start {stream} SPEC.yaml")


def _tell(output: Output, found: dict[str, Any]) -> None:
    share = f", answers {found['share']:.0%} of the entities" if found["share"] else ""
    waits = ", waits for approval" if found["awaits_approval"] else ", held" if found["held"] else ""
    output.say(
        f"rollout {found['rollout']} of {found['stream']}: {found['challenger']} for {found['champion']}: "
        f"{found['stage'].replace('_', ' ')}{share}{waits}"
    )
    columns = ("stage", "labels", "less loss an event", "better", "worse", "ended")
    rows = [
        [
            past["stage"] + (f" {past['share']:.0%}" if past["share"] else ""),
            *_evidence(past["evidence"]),
            f"{past['ended_at']} {SAYS[past['ruling']]} ({past['decided_by']})",
        ]
        for past in found["past"]
    ]
    warm_up = found["plan"]["warm_up_labels"]
    if found["stage"] == "shadow" and found["warmed"] < warm_up:
        output.say(f"it learns first: {found['warmed']:,} of {warm_up:,} labels that do not count")
    if found["open"]:
        ends = found["decides_at"]
        rows.append(
            [
                found["stage"],
                *_evidence(found["evidence"]),
                f"at better {ends['better']:,.0f} or worse {ends['worse']:,.0f}",
            ]
        )
    output.table(columns, rows)
    output.say("less loss: of the model that is asked beside; better, worse: e-values (docs/rollouts.md)")


def _evidence(evidence: dict[str, Any]) -> list[Any]:
    difference = f"{evidence['mean_difference']:+.5f} ± {evidence['standard_error']:.5f}"
    return [evidence["labels"], difference, f"{evidence['better']:,.3g}", f"{evidence['worse']:,.3g}"]


def _registered(client: Client, model: str, name: str, reason: str) -> tuple[str, int | None]:
    """A model by its name, or by a file that becomes its next version."""
    path = Path(model)
    return register(client, path, name, reason) if path.is_file() else versioned(model)


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise Unusable(f"--canary takes shares like 0.05,0.25, not {text!r}") from None


def _add(action: str, name: str, summary: str) -> None:
    def act(
        stream: StreamArgument, rollout: NumberOption = None, reason: Reason = "", as_json: Json = False
    ) -> None:
        home, output = Home.from_environment(), Output(as_json)
        with client_of(home) as client:
            number = _found(client, stream, rollout)["rollout"]
            found = client.turn_rollout(stream, number, action, reason=reason)
        output.answer(found)
        _tell(output, found)

    act.__doc__ = summary
    command: Callable[..., None] = guarded(act)
    rollouts_app.command(name)(command)


_add("promote", "promote", "Make the challenger the champion now.")
_add("roll-back", "rollback", "Bring the old champion back.")
_add("abort", "abort", "End it: a shadow or canary leaves; a new champion stays, without its guard.")
_add("approve", "approve", "Agree, as a second person.")
_add("hold", "hold", "Stop it where it is; labels do not count meanwhile.")
_add("resume", "resume", "Let it go on.")
