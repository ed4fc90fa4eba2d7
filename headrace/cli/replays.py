"""`headrace replay`: what other models, thresholds or label policies would have made of a stream's past."""

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.common import Json, client_of, sources_of
from headrace.cli.home import Home
from headrace.cli.models import read_specification
from headrace.cli.output import Output, count, duration, guarded
from headrace.cli.progress import Bar
from headrace.cli.publishing import contract_of
from headrace.client import Client, calls
from headrace.contracts.left_out import FORMS
from headrace.errors import Unusable

LIVE = "live"
"""Given as a model: the specification of the stream's champion."""
REPLAYS = "replays"
DRAW_SECONDS = 0.1
COLUMNS = {
    "binary": ("roc_auc", "log_loss", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("accuracy", "f1", "log_loss"),
    "regression": ("mae", "rmse", "r2"),
}


@guarded
def replay(  # noqa: PLR0913, PLR0917  # one option each
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    model: Annotated[
        list[str],
        typer.Option(help="Specification (YAML or JSON), or `live` for the champion's; may be repeated."),
    ],
    start: Annotated[
        str, typer.Option("--from", help="Count from this offset or time on (default: the log's start).")
    ] = "",
    end: Annotated[
        str, typer.Option("--to", help="Count up to this offset or time, without it (default: all).")
    ] = "",
    warm_up: Annotated[
        str, typer.Option(help="Learn from this offset or time on, before what is counted.")
    ] = "",
    label_policy: Annotated[
        str, typer.Option(help="Another label policy: wait=3d,expiry=negative,second=correct.")
    ] = "",
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="Say yes from this score on; may be repeated, the first one decides."),
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help=f"Leave out {FORMS}; may be repeated.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one HTML page.", dir_okay=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on.")] = False,
    as_json: Json = False,
) -> None:
    """Fold a stream's past with other models, and report beside what really happened. Ctrl-C, and it goes on."""
    from headrace.contracts.left_out import parse
    from headrace.replay import plan as plans

    home, output = Home.from_environment(), Output(as_json)
    history = sources_of(home).history
    with client_of(home) as client:
        contract = contract_of(client, stream)
        models = [_candidate(client, stream, one) for one in model]
    plan = plans.Plan(
        stream,
        models,
        start=plans.parse_bound(start),
        end=plans.parse_bound(end),
        warm_up=plans.parse_bound(warm_up),
        policy=plans.parse_policy(label_policy),
        thresholds=plans.parse_thresholds(threshold or []),
        without=parse(without or []),
    )
    single = {"--from": start, "--to": end, "--warm-up": warm_up, "--label-policy": label_policy}
    several = {"--model": model, "--threshold": threshold or [], "--without": without or []}
    command = _command(stream, single, several)
    document = _run(home, output, history, plan, contract, command, fresh=fresh)
    if html is not None:
        _write_page(html, document)
    output.answer(document)
    show(output, document)
    if html is not None:
        output.next(f"{html} shows more: over time, calibration, thresholds")


def _command(stream: str, single: dict[str, str], several: dict[str, list[str]]) -> str:
    """What asks the same question again."""
    words = [word for name, values in several.items() for value in values for word in (name, value)]
    words += [word for name, value in single.items() if value for word in (name, value)]
    return shlex.join(["headrace", "replay", stream, *words])


def _write_page(path: Path, document: dict[str, Any]) -> None:
    from headrace.replay.page import page

    try:
        path.write_text(page(document), encoding="utf-8")
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error.strerror}") from None


def _run(
    home: Home,
    output: Output,
    history: Any,
    plan: Any,
    contract: Any,
    command: str,
    *,
    fresh: bool,
) -> dict[str, Any]:
    """The report; the state of the run is gone once it is there."""
    from headrace.replay import plan as plans
    from headrace.replay.report import document
    from headrace.replay.running import Workbench, run_all, thin_out
    from headrace.replay.whatif import spans
    from headrace.signing import Keys

    changed = plans.check(plan, contract)
    folder = home.path / REPLAYS
    thin_out(folder, plan.digest)
    bench = Workbench(folder / plan.digest, Keys.at(home.path / "snapshot.key"))
    if fresh:
        with bench.alone():  # not under the feet of one that is running
            bench.remove()
    all_spans = bench.spans(lambda: spans(history, plan.stream))
    done = {span.partition: bench.position(span.partition) for span in all_spans}
    before = sum(done.values())
    if before:
        output.say(f"going on where it stopped: {count(before)} records are folded (--fresh begins anew)")
    began = drawn = time.monotonic()
    with Bar(output, f"replaying {plan.stream}", sum(span.end for span in all_spans)) as bar:
        bar.start_at(before)

        def told(partition: int, position: int) -> None:
            nonlocal drawn
            done[partition] = position
            now = time.monotonic()
            if now - drawn >= DRAW_SECONDS:
                drawn = now
                bar.update(sum(done.values()))

        read, counted = run_all(history, plan, contract, bench, told)
    made = document(plan, changed, read, counted, command)
    bench.remove()
    seconds = time.monotonic() - began
    records = sum(counted.folded_to.values()) - before
    output.say(f"{count(records)} records in {duration(seconds)}: {count(records / seconds)}/s")
    return made


def _candidate(client: Client, stream: str, text: str) -> Any:
    from headrace.replay.plan import Candidate

    if text == LIVE:
        deployments = client.stream(stream).get("deployments") or []
        champion = next((one for one in deployments if one.get("role") == "champion"), None)
        if champion is None:
            raise Unusable(f"{stream} has no champion whose specification could be replayed")
        path = f"{calls.model_path(champion['model'])}/versions/{champion['version']}"
        return Candidate(champion["model"], client.get("registry", path)["specification"])
    path_of = Path(text)
    if not path_of.is_file():
        raise Unusable(f"there is no specification {text}; give a YAML or JSON file, or {LIVE}")
    return Candidate(path_of.name.split(".")[0], read_specification(path_of))


def show(output: Output, document: dict[str, Any]) -> None:
    """The report for people who read terminals."""
    from headrace.replay.figures import NAMES

    counted = document["counted"]
    output.say()
    waiting = f", {count(counted['unresolved'])} still waited for" if counted["unresolved"] else ""
    output.say(
        f"{count(counted['observations'])} observations, {count(counted['labelled'])} labelled, "
        f"{count(counted['expired'])} expired{waiting}"
    )
    output.say()
    columns = COLUMNS[document["task"]]
    rows = [
        (_name(one), _kind(one), one["metrics"]["count"], *(one["metrics"].get(name) for name in columns))
        for one in document["models"]
    ]
    output.table(("model", "", "scored", *(NAMES[name] for name in columns)), rows)
    _show_thresholds(output, document)
    if document["differences"]:
        output.say()
        for one in document["differences"]:
            output.say(_difference(one, NAMES[one["loss"]]))
    output.say()
    for note in document["notes"]:
        output.say(note)


def _show_thresholds(output: Output, document: dict[str, Any]) -> None:
    cuts = [
        (
            _name(model),
            _kind(model),
            *(entry[name] for name in ("threshold", "accuracy", "precision", "recall", "f1")),
        )
        for model in document["models"]
        for entry in model.get("thresholds", ())
    ]
    if cuts:
        output.say()
        output.table(("model", "", "threshold", "accuracy", "precision", "recall", "F1"), cuts)


def _name(model: dict[str, Any]) -> str:
    return "what was served" if model["role"] == "served" else str(model["name"])


def _kind(model: dict[str, Any]) -> str:
    return "replayed" if model["kind"] == "replayed" else "as it happened"


def _difference(one: dict[str, Any], loss: str) -> str:
    from headrace.replay.figures import VERDICTS

    against = "what was served" if one["against"] == "served" else one["against"]
    interval = (
        f"95% interval {one['low']:+.4g} to {one['high']:+.4g}, {one['windows']} windows"
        if one["low"] is not None
        else f"{one['windows']} windows are too few for an interval"
    )
    return (
        f"{one['model']} is {VERDICTS[one['verdict']]} {against}: {loss} {one['mean']:+.4g} ({interval}, "
        f"{count(one['count'])} outcomes)"
    )
