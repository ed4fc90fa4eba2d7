"""`headrace registry`: what is done to the registry itself, and not through it."""

import json
import subprocess
from typing import Annotated, Any

import typer

from headrace.cli.common import Json, bootstrap_of
from headrace.cli.home import Home
from headrace.cli.launch import service_command, service_environment
from headrace.cli.output import Output, count, guarded
from headrace.errors import Unusable

registry_app = typer.Typer(help="The registry's own database.", no_args_is_help=True)


@registry_app.callback()
def root() -> None:
    """The registry's own database."""


@registry_app.command()
@guarded
def restore(
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Believe whoever wrote the topic: the audit key is lost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a lost database again from the topic headrace.changes; one that is not empty is refused."""
    home, output = Home.from_environment(), Output(as_json)
    command = service_command("registry", "restore", *(["--unverified"] if unverified else []))
    environment = service_environment(home, bootstrap_of(home))
    with output.waiting("reading headrace.changes"):
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"the registry ended with {ended.returncode}"]
        raise Unusable(lines[-1].removeprefix("registry: "))
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    output.answer(found)
    output.say(f"{count(found['changes'])} change(s) made again; the audit trail: {found['audit']}")
    if found["unfinished"]:
        output.say(f"change {found['unfinished']} was not told to its end, and is not among them")
    if found["strange"]:
        output.say(
            f"{count(found['strange'])} message(s) were not signed with the audit key, and passed over"
        )
    output.next("headrace up starts what does not run yet")
