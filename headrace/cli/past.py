"""`headrace rebuild` and `headrace why`: a model folded again from its log, and one prediction taken apart."""

from typing import Annotated, Any

import msgspec
import typer

from headrace.cli.common import Data, Json, client_of, sources_of, versioned
from headrace.cli.home import Home
from headrace.cli.lineage import show_learnt
from headrace.cli.output import Output, count, guarded
from headrace.cli.profiles import measured_life
from headrace.cli.progress import Bar
from headrace.cli.streams import every
from headrace.cli.tail import unusual
from headrace.client import Client, ServiceProblem, calls
from headrace.errors import Unusable

Stream = Annotated[str, typer.Option(help="Name of the stream (needed only if there could be several).")]


@guarded
def rebuild(
    model: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="Which model, as deployed.")],
    stream: Stream = "",
    at: Annotated[
        str,
        typer.Option(help="Up to this log offset or event time, without it (default: all that is scored)."),
    ] = "",
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Hold predictions, outcomes and fingerprints against what was stored."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Fold the log again, from its start, into the very model that learnt from it; exit code 1 if it is another."""
    from headrace.replay import verify as verifying
    from headrace.replay.plan import parse_bound

    home, output = Home.from_environment(), Output(as_json)
    name, version = versioned(model)
    with client_of(home) as client:
        stream = stream or _stream_of_model(client, name)
    sources = sources_of(home)
    bound = parse_bound(at)
    verdicts = []
    with Bar(output, f"folding {stream} again", None) as bar:
        for partition in range(sources.partitions(stream)):
            scored = sources.answered(stream, partition)
            end = min(bound.value, scored) if bound is not None and bound.by == "offset" else scored
            moment = bound.value if bound is not None and bound.by == "time" else None
            stretch = verifying.Stretch(stream, partition, end, at=moment)
            snapshots = sources.snapshots(stream, partition) if verify else []
            verdict, _ = verifying.fold_again(
                sources.history,
                stretch,
                snapshots=snapshots,
                compare=verify,
                rebuilder=sources.rebuilder,
                progress=lambda done, end: bar.update(done, f"of {count(end)}"),
            )
            verdicts.append(verdict)
    wanted = name if version is None else f"{name}@{version}"
    document = {
        "model": wanted,
        "stream": stream,
        "well": all(verdict.well for verdict in verdicts),
        "partitions": [
            {**msgspec.to_builtins(verdict), "models": _only(verdict.models, wanted), "well": verdict.well}
            for verdict in verdicts
        ],
    }
    output.answer(document)
    _show_rebuilt(output, document, verify=verify)
    if not document["well"]:
        raise typer.Exit(1)


@guarded
def why(
    prediction: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of the observation, or its place: STREAM/PARTITION/OFFSET."),
    ],
    stream: Stream = "",
    data: Data = False,
    as_json: Json = False,
) -> None:
    """Take a prediction apart: what came in, what each model saw, said and had learnt, what came of it; made again."""
    from headrace.replay.explain import Explainer

    home, output = Home.from_environment(), Output(as_json)
    sources = sources_of(home)
    place = _place(prediction)
    with client_of(home) as client:
        streams = (
            [stream]
            if stream
            else [one["stream"] for one in every(client, "registry", "/v1/streams", "streams")]
        )
    with Bar(output, "travelling", None) as bar:
        explainer = Explainer(
            sources.history,
            sources.states,
            sources.rebuilder,
            lambda done, end: bar.update(done, f"of {count(end)}"),
        )
        if place is not None and place[0] in streams:
            found = [explainer.at(*place)]
        else:
            looked = [explainer.find(name, prediction) for name in streams]
            found = [one for one in looked if one is not None]
        if not found:
            raise Unusable(
                f"no observation with the id {prediction!r} in {', '.join(streams) or 'any stream'}"
            )
        if len(found) > 1:
            names = ", ".join(one.stream for one in found)
            raise Unusable(f"{prediction!r} is an id in several streams; say which with --stream: {names}")
        story = explainer.explain(found[0], sources.answered(found[0].stream, found[0].partition))
    with client_of(home) as client:
        story["learnt"] = _learnt(client, story)
        if data and story["learnt"] is not None:
            story["learnt"]["data"] = measured_life(home, output, client, story["learnt"])
    output.answer(story)
    _show_story(output, story)
    if story["equal"] is False:
        raise typer.Exit(1)


def _learnt(client: Client, story: dict[str, Any]) -> dict[str, Any] | None:
    """What the version that answered had learnt by then, as its lineage has it: of its partition, and before.

    None if nobody answered, or the registry knows of no such version there.
    """
    said = story["prediction"] or story["recomputed"] or {}
    if not said.get("model"):
        return None
    path = f"{calls.model_path(said['model'])}/versions/{said['version']}/lineage"
    try:
        lives = client.get("registry", path)["lives"]
    except ServiceProblem as problem:
        if problem.status != 404:
            raise
        return None
    part, offset = str(story["partition"]), story["offset"]
    for life in lives:
        span = life["learnt"].get(part)
        if life["stream"] != story["stream"] or span is None or span["from"] > offset:
            continue
        if span["before"] is None or offset < span["before"]:
            by_then = [
                one for one in (_cut(dataset, part, offset) for dataset in life["datasets"]) if one["share"]
            ]
            return {
                **life,
                "learnt": {part: {"from": span["from"], "before": offset}},
                "datasets": by_then,
            }
    return None


def _cut(dataset: dict[str, Any], part: str, offset: int) -> dict[str, Any]:
    """What of a dataset was learnt before an offset of a partition, which is a model of its own."""
    span = dataset["ranges"].get(part)
    ranges = (
        {part: {"from": span["from"], "before": min(span["before"], offset)}}
        if span is not None and span["from"] < offset
        else {}
    )
    seen, kept = (
        sum(one["before"] - one["from"] for one in some.values()) for some in (dataset["ranges"], ranges)
    )
    return {**dataset, "ranges": ranges, "share": dataset["share"] * kept / seen}


def _stream_of_model(client: Client, model: str) -> str:
    """The only stream on which a model stands or stood."""
    names = []
    for one in every(client, "registry", "/v1/streams", "streams"):
        deployments = client.get("registry", calls.stream_path(one["stream"], "deployments"))["deployments"]
        if any(placed["model"] == model for placed in deployments):
            names.append(str(one["stream"]))
    if len(names) != 1:
        where = f"on several streams: {', '.join(names)}" if names else "on no stream"
        raise Unusable(f"{model} is {where}; say which with --stream")
    return names[0]


def _place(text: str) -> tuple[str, int, int] | None:
    """STREAM/PARTITION/OFFSET, if the text is one."""
    match text.split("/"):
        case [stream, partition, offset] if partition.isdigit() and offset.isdigit():
            return stream, int(partition), int(offset)
    return None


def _only(fingerprints: dict[str, str], wanted: str) -> dict[str, str]:
    return {name: found for name, found in fingerprints.items() if wanted in (name, name.partition("@")[0])}


def _show_rebuilt(output: Output, document: dict[str, Any], *, verify: bool) -> None:
    rows = [
        [part["partition"], f"{part['start']}..{part['end']}", part["records"], name, fingerprint]
        for part in document["partitions"]
        for name, fingerprint in (part["models"] or {"(not deployed there then)": ""}).items()
    ]
    output.table(("partition", "offsets", "records", "model", "fingerprint"), rows)
    if not verify:
        output.next("--verify holds it against what was stored")
        return
    for part in document["partitions"]:
        output.say()
        for what in ("predictions", "outcomes"):
            output.say(f"partition {part['partition']}: {what} {_compared(part[what])}")
        equal = sum(one["stored"] == one["rebuilt"] for one in part["fingerprints"])
        output.say(
            f"partition {part['partition']}: {equal} of {len(part['fingerprints'])} stored fingerprints equal"
        )
    output.say()
    if document["well"]:
        output.say("Everything that was stored was found again.", style="green")
    else:
        output.say("What was stored is NOT what the log gives.", style="red")


def _compared(found: dict[str, Any]) -> str:
    parts = [f"{count(found['equal'])} equal"]
    parts += [
        f"{count(found[name])} {name}" for name in ("different", "missing", "superfluous") if found[name]
    ]
    if found["unknown"]:
        parts.append(f"{count(found['unknown'])} no longer kept")
    if found["first_difference"] >= 0:
        parts.append(f"first difference at offset {found['first_difference']}")
    return ", ".join(parts)


def _show_story(output: Output, story: dict[str, Any]) -> None:
    said = story["prediction"] or story["recomputed"] or {}
    output.say(f"{story['id']} · {story['stream']}/{story['partition']}/{story['offset']}", style="bold")
    flags = unusual(said)
    output.say(f"entity {story['observation']['entity']}, answered by {said.get('model') or 'nobody'}")
    if flags:
        output.say(f"flagged as {', '.join(flags)}")
    output.say()
    names = sorted({name for one in story["models"] for name in one["features"]})
    columns = [f"{one['model']}@{one['version']}" for one in story["models"]]
    rows = [[name, *(one["features"].get(name) for one in story["models"])] for name in names]
    output.table(("feature as served", *columns), rows)
    output.say()
    today = {one["model"]: one for one in story["today"]["models"]}
    output.table(
        ("model", "role", "answer", "score", "learnt", "today's answer", "today's score", "state"),
        [
            [column, one["role"], one["answer"], one["score"], one["learned"],
             today.get(one["model"], {}).get("answer"), today.get(one["model"], {}).get("score"),
             (one["fingerprint"] or "")[:12]]
            for column, one in zip(columns, story["models"], strict=True)
        ],
    )  # fmt: skip
    output.say()
    if story["learnt"] is not None:
        output.say(f"{said['model']}@{said['version']}, by then:")
        show_learnt(output, story["learnt"])
        output.say()
    outcome = story["outcome"]
    output.say(f"outcome: {outcome['status']}, truth {outcome.get('y')}" if outcome else "outcome: none yet")
    verdict = {True: "computed again: equal, byte for byte", False: "computed again: NOT what was stored"}
    output.say(verdict.get(story["equal"], "computed again; the stored prediction is no longer kept"))
