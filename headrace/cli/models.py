"""`headrace model`: deploy, list and show models."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
import yaml

from headrace.cli.common import Json, Reason, client_of
from headrace.cli.home import Home
from headrace.cli.output import Output, guarded, places
from headrace.cli.preparing import prepare_learnt
from headrace.cli.streams import every
from headrace.cli.value import PayoffFile, read_payoff
from headrace.client import Client, calls
from headrace.errors import Unusable

LearnLog = Annotated[
    bool, typer.Option("--learn-log", help="It begins with what the log would have taught it.")
]

models_app = typer.Typer(help="Models and where they are deployed.", no_args_is_help=True)


@models_app.command()
@guarded
def deploy(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    specification: Annotated[
        Path, typer.Argument(help="Specification (YAML or JSON).", exists=True, dir_okay=False)
    ],
    name: Annotated[str, typer.Option(help="The model's name (default: the file's).")] = "",
    challenger: Annotated[bool, typer.Option("--challenger", help="Answers beside the champion.")] = False,
    learn_log: LearnLog = False,
    payoff: PayoffFile = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Register a specification and put it on a stream, as champion unless --challenger."""
    home, output = Home.from_environment(), Output(as_json)
    role = "challenger" if challenger else "champion"
    worth = None if payoff is None else read_payoff(payoff)
    with client_of(home) as client:
        model, version = register(client, specification, name, reason)
        if learn_log:
            prepare_learnt(home, output, client, stream, model, version)
        answer = client.deploy(
            stream, model, version=version, role=role, learnt=learn_log, payoff=worth, reason=reason
        )
    output.answer(answer)
    output.say(
        f"{model} version {answer.get('version')} is {role} of {stream} "
        f"from these log offsets on: {places(answer.get('offsets'))}"
    )
    output.next(
        f"headrace publish {stream} FILE        sends events",
        f"headrace tail predictions {stream}    shows its answers",
        "headrace status                     shows how good they are",
    )


@models_app.command()
@guarded
def live(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    at: Annotated[str, typer.Option(help="RFC 3339 time (default: now).")] = "",
    as_json: Json = False,
) -> None:
    """Show which models stood on a stream at any time, since when, and who decided it."""
    home, output = Home.from_environment(), Output(as_json)
    query = f"live?{urlencode({'at': at})}" if at else "live"
    with client_of(home) as client:
        found: dict[str, Any] = client.get("registry", f"{calls.stream_path(stream)}/{query}")
    output.answer(found)
    champion = found["champion"]
    output.say(
        f"{found['at']}: {champion['model']}@{champion['version']} answered"
        if champion
        else "nobody answered"
    )
    columns = ("model", "version", "role", "share", "frozen", "decided_at", "decided_by", "offsets")
    output.table(columns, [[one.get(column) for column in columns] for one in found["models"]])


@models_app.command("list")
@guarded
def list_models(as_json: Json = False) -> None:
    """List the models."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        models = every(client, "registry", "/v1/models", "models")
    output.answer({"models": models})
    if not models:
        output.next("No model yet: headrace model deploy STREAM SPEC.yaml")
        return
    columns = ("model", "version", "description")
    output.table(columns, [[one.get(column) for column in columns] for one in models])


@models_app.command()
@guarded
def show(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int | None, typer.Option(min=1, help="Only this version.")] = None,
    as_json: Json = False,
) -> None:
    """Show a model: its versions and their specification."""
    home, output = Home.from_environment(), Output(as_json)
    path = calls.model_path(model) + (f"/versions/{version}" if version else "")
    with client_of(home) as client:
        found: dict[str, Any] = client.get("registry", path)
    output.answer(found)
    if not as_json:
        typer.echo(yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())


@models_app.command()
@guarded
def rollback(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Make the champion before the present one the champion again, with all that it has learnt since."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        stood: dict[str, Any] = client.get("registry", f"{calls.stream_path(stream)}/live")
        previous = stood["previous"]
        if previous is None:
            raise Unusable(f"{stream} has had no other champion")
        model, version = previous["model"], previous["version"]
        standing = [one for one in stood["models"] if one["role"] != "retired"]
        if not any((one["model"], one["version"]) == (model, version) for one in standing):
            raise Unusable(
                f"{model}@{version} was champion before, and stands on {stream} no more: roll it out again "
                f"(headrace rollout start {stream} {model}@{version})"
            )
        answer = client.change_deployment(stream, model, "promote", reason=reason)
    output.answer(answer | {"model": model, "version": version})
    output.say(
        f"{model}@{version} answers on {stream} from these log offsets on: {places(answer['offsets'])}"
    )


def _add(change: str, summary: str, done: str) -> None:
    def act(
        stream: Annotated[str, typer.Argument(help="Name of the stream.")],
        model: Annotated[str, typer.Argument(help="Name of the model.")],
        reason: Reason = "",
        as_json: Json = False,
    ) -> None:
        home, output = Home.from_environment(), Output(as_json)
        with client_of(home) as client:
            answer = client.change_deployment(stream, model, change, reason=reason)
        output.answer(answer)
        if not answer["changed"]:
            output.say(f"{model} {done} on {stream} already")
            return
        output.say(f"{model} {done} on {stream} from these log offsets on: {places(answer['offsets'])}")

    act.__doc__ = summary
    models_app.command(change)(guarded(act))


_add(
    "promote",
    "Make a deployed model the champion; the old one goes on beside it. Both keep their state.",
    "answers",
)
_add("retire", "Take a model off a stream; what it learnt is dropped.", "is gone")
_add("freeze", "Stop a model's learning; it goes on answering.", "learns no more")
_add("unfreeze", "Let a model learn again.", "learns")


def register(client: Client, path: Path, name: str, reason: str) -> tuple[str, int]:
    """Make a file's specification a version of the model `name` (default: the file's): (model, version)."""
    document = read_specification(path)
    model = name or path.name.split(".")[0]
    made = client.create_model(model, document, str(document.get("description", "")), reason=reason)
    return model, int(made["version"])


def latest(client: Client, model: str) -> int:
    """A model's latest version."""
    return int(client.get("registry", calls.model_path(model))["version"])


def read_specification(path: Path) -> dict[str, Any]:
    """A specification from a YAML or JSON file. Raises `Unusable` if it is not an object."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unusable(f"{path.name} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise Unusable(f"{path.name} must hold an object with the key model")
    return document
