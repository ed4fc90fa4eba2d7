"""The command `headrace`: its commands and options.

Only the wiring is here; the work is in the modules beside it and is imported when a command runs, so that `--help` and
completion stay quick.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from headrace.cli.access import keys_app
from headrace.cli.alerts import alerts_app
from headrace.cli.audit import audit_app
from headrace.cli.common import Json, bootstrap_of, client_of
from headrace.cli.datasets import datasets_app
from headrace.cli.drift import drift_app
from headrace.cli.home import Home
from headrace.cli.lineage import card, diff, lineage, versions
from headrace.cli.models import models_app
from headrace.cli.output import Output, guarded
from headrace.cli.past import rebuild, why
from headrace.cli.proposals import approve, dismiss, proposals, story
from headrace.cli.registry import registry_app
from headrace.cli.replays import replay
from headrace.cli.retrain import retrain_app
from headrace.cli.rollouts import rollouts_app
from headrace.cli.streams import streams_app
from headrace.cli.undo import undo
from headrace.cli.value import payoff, value

app = typer.Typer(
    name="headrace",
    help="Runs machine-learning models that learn from a stream.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(streams_app, name="stream")
app.add_typer(models_app, name="model")
app.add_typer(rollouts_app, name="rollout")
app.add_typer(retrain_app, name="retrain")
app.add_typer(datasets_app, name="dataset")
app.add_typer(alerts_app, name="alert")
app.add_typer(drift_app, name="drift")
app.add_typer(audit_app, name="audit")
app.add_typer(registry_app, name="registry")
app.add_typer(keys_app, name="key")
for command in (versions, lineage, diff, card):
    models_app.command()(command)
models_app.command()(payoff)
for about_proposals in (proposals, approve, dismiss, story):
    retrain_app.command()(about_proposals)
app.command()(value)
app.command()(rebuild)
app.command()(why)
app.command()(undo)
app.command()(replay)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _version(wanted: bool) -> None:
    if wanted:
        from headrace import __version__

        typer.echo(f"headrace {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Runs machine-learning models that learn from a stream. The system lives in $HEADRACE_HOME (~/.headrace)."""


@app.command()
@guarded
def up(as_json: Json = False) -> None:
    """Start the broker and the four services; what runs is kept."""
    from headrace.cli import reports, system

    home, output = Home.from_environment(), Output(as_json)
    with output.waiting("starting") as say:
        started = system.up(home, say, partial(reports.show_key, output))
    reports.show_started(home, output, started)


@app.command()
@guarded
def down(
    delete: Annotated[
        bool, typer.Option("--delete", help="Also delete all data of this installation.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Stop the services and the embedded broker; data stays unless --delete."""
    from headrace.cli import system

    home, output = Home.from_environment(), Output(as_json)
    if delete:
        _confirm_delete(home, output, yes)
    stopped = system.down(home, output.say)
    if delete:
        home.delete()
        output.say(f"{home.path} is deleted")
    output.answer({"stopped": stopped, "deleted": delete, "home": str(home.path)})
    if not delete:
        output.say("Stopped; the data stays." if stopped else "Nothing was running.")
        output.next("headrace up starts it again; headrace down --delete removes the data")


@app.command()
@guarded
def status(as_json: Json = False) -> None:
    """Show the broker, the services and the streams: what runs, how far it is, how good it is."""
    from headrace.cli import reports

    home, output = Home.from_environment(), Output(as_json)
    report = reports.collect_status(home)
    output.answer(report)
    reports.show_status(output, report)
    if not report["well"]:
        raise typer.Exit(1)


@app.command()
@guarded
def doctor(as_json: Json = False) -> None:
    """Check everything the system needs, and say what to do next."""
    from headrace.cli import reports
    from headrace.cli.doctor import Examination

    output = Output(as_json)
    findings = list(Examination(Home.from_environment()).findings())
    bad = [finding for finding in findings if finding.state == "bad"]
    output.answer({"ok": not bad, "findings": [finding.to_dict() for finding in findings]})
    reports.show_findings(output, findings)
    if bad:
        raise typer.Exit(1)


@app.command()
@guarded
def demo(
    flights: Annotated[
        int | None, typer.Option(min=1, help="Only the first N flights (default: the whole year).")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="Times real time (default: as fast as it goes).")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete this installation's data and start anew.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Stream a year of real flights through the system: predictions, delayed labels, live metrics."""
    from headrace.cli import system
    from headrace.cli.demo import Demo, show
    from headrace.errors import Unusable

    home, output = Home.from_environment(), Output(as_json)
    if fresh and home.path.exists():
        if home.bootstrap:
            raise Unusable(
                "--fresh cannot clear a Kafka of your own; delete its flights.* topics, or use an embedded one"
            )
        _confirm_delete(home, output, yes)
        system.down(home, output.say)
        home.delete()
    try:
        summary = Demo(home, output, flights, speed).run()
    except KeyboardInterrupt:
        output.say("\nInterrupted. headrace demo goes on where it stopped; headrace down stops the system.")
        raise
    output.answer(summary)
    show(output, summary)


@app.command()
@guarded
def publish(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    file: Annotated[
        Path, typer.Argument(help="CSV, JSON lines or Parquet; .gz too.", exists=True, dir_okay=False)
    ],
    label_column: Annotated[
        str, typer.Option(help="Column withheld and sent as label (default: the contract's).")
    ] = "",
    label_delay: Annotated[
        str, typer.Option(help="When the label becomes known: 90s, 2h, 3d or 100rows.")
    ] = "0s",
    id_column: Annotated[
        str, typer.Option(help="Column with the id (default: file name and row number).")
    ] = "",
    time_column: Annotated[
        str, typer.Option(help="Column with the event time (default: the contract's).")
    ] = "",
    speed: Annotated[
        float | None, typer.Option(help="Times real time (default: as fast as it goes).")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until scoring is through.")] = True,
    as_json: Json = False,
) -> None:
    """Send a file to a stream: observations now, labels when they become known."""
    from headrace.cli import publishing

    home, output = Home.from_environment(), Output(as_json)
    wanted = publishing.Wanted(stream, file, label_column, label_delay, id_column, time_column, speed, wait)
    with client_of(home) as client:
        report = publishing.run(client, bootstrap_of(home), output, wanted)
    output.answer(report)
    publishing.show(output, report)
    if report["rejected"] and not report["accepted"]:
        raise typer.Exit(1)


@app.command()
@guarded
def tail(
    what: Annotated[
        Literal["predictions", "outcomes", "alerts", "rejected"], typer.Argument(help="Which topic.")
    ],
    stream: Annotated[str, typer.Argument(help="Name of the stream (alerts: all if left out).")] = "",
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after so many.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more at the end.")] = True,
    as_json: Json = False,
) -> None:
    """Watch predictions, outcomes, alerts or rejects as they come (NDJSON with --json)."""
    from headrace.cli import tail as tails
    from headrace.errors import Unusable

    if not stream and what != "alerts":
        raise Unusable(f"say which stream: headrace tail {what} STREAM")
    home, output = Home.from_environment(), Output(as_json)
    tails.follow(output, bootstrap_of(home), what, stream, from_start=from_start, limit=limit, wait=follow)


def _confirm_delete(home: Home, output: Output, yes: bool) -> None:
    """Ask before data is deleted; without a terminal only --yes will do."""
    from headrace.errors import Unusable

    if yes or not home.path.exists():
        return
    if output.as_json or not output.moving:
        raise Unusable(f"this deletes everything in {home.path}; say so with --yes")
    typer.confirm(f"Delete everything in {home.path} (streams, models, predictions, keys)?", abort=True)


if __name__ == "__main__":
    app()
