"""`headrace model versions|lineage|diff|card`: what a model version is made of."""

import difflib
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from headrace.cli.card import card_of, span
from headrace.cli.common import Data, Json, client_of, versioned
from headrace.cli.home import Home
from headrace.cli.models import latest
from headrace.cli.output import Output, guarded
from headrace.cli.profiles import measured_life, show_quality
from headrace.client import Client, ServiceProblem, calls

VersionArgument = Annotated[
    str, typer.Argument(help="A model version: NAME@VERSION, or NAME for the latest.")
]


@guarded
def versions(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    as_json: Json = False,
) -> None:
    """List a model's versions: who made them, when, and where they live."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = client.get("registry", calls.model_path(model))["versions"]
        for version in found:
            version["lives"] = _lineage(client, model, version["version"])["lives"]
    output.answer({"model": model, "versions": found})
    rows = [
        [
            one["version"],
            one["created_at"],
            one["created_by"],
            one["parent"],
            ", ".join(f"{life['stream']}: {_stands(life)}" for life in one["lives"]),
            one["description"],
        ]
        for one in found
    ]
    output.table(("version", "created", "by", "rebuilt from", "lives", "description"), rows)


@guarded
def lineage(version: VersionArgument, data: Data = False, as_json: Json = False) -> None:
    """Show what a version has learnt: streams, offsets, contracts, what was left out, how it stood and who decided."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        found = _lineage(client, *_chosen(client, version))
        if data:
            for life in found["lives"]:
                life["data"] = measured_life(home, output, client, life)
    output.answer(found)
    for life in found["lives"]:
        show_learnt(output, life)
        columns = ("role", "share", "frozen", "decided_at", "decided_by", "offsets")
        rows = [[place.get(column) for column in columns] for place in life["places"]]
        if life["ended_at"]:
            rows.append(["gone", None, None, life["ended_at"], None, None])
        output.table(columns, rows)
    if not found["lives"]:
        output.say(f"{version} was never deployed: it has learnt nothing")


@guarded
def diff(first: VersionArgument, second: VersionArgument, as_json: Json = False) -> None:
    """Show how the specifications of two versions differ."""
    home, output = Home.from_environment(), Output(as_json)
    with client_of(home) as client:
        texts, names = [], []
        for chosen in (first, second):
            model, number = _chosen(client, chosen)
            found = client.get("registry", f"{calls.model_path(model)}/versions/{number}")
            texts.append(
                yaml.safe_dump(found["specification"], sort_keys=True, allow_unicode=True).splitlines()
            )
            names.append(f"{model}@{number}")
    lines = list(difflib.unified_diff(texts[0], texts[1], names[0], names[1], lineterm=""))
    output.answer({"first": names[0], "second": names[1], "equal": not lines, "diff": lines})
    output.say("\n".join(lines) if lines else f"{names[0]} and {names[1]} have the same specification")


@guarded
def card(
    version: VersionArgument,
    output_file: Annotated[
        Path | None, typer.Option("--output", help="Write it there (default: print it).", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a version's model card (Hugging Face's layout): data, learning, quality, decisions."""
    home = Home.from_environment()
    with client_of(home) as client:
        found = _lineage(client, *_chosen(client, version))
        text = card_of(found, _qualities(client, found))
    output = Output(as_json)
    output.answer({"version": version, "card": text})
    if output_file is not None:
        output_file.write_text(text, encoding="utf-8")
        output.say(f"wrote {output_file}")
    elif not as_json:
        typer.echo(text)


def show_learnt(output: Output, life: dict[str, Any]) -> None:
    """What a version learnt on a stream: ranges, contracts, datasets; what is in them, if they were read."""
    output.say(
        f"{life['stream']}: learnt {ranges(life)} under contract {', '.join(map(str, life['contracts']))}"
    )
    if life["datasets"]:
        shown = [f"{one['name']}@{one['version']} ({one['share']:.1%})" for one in life["datasets"]]
        output.say(f"datasets: {', '.join(shown)}")
    if life.get("data") is not None:
        show_quality(output, life["data"])


def ranges(life: dict[str, Any]) -> str:
    """Which offsets were learnt, in words."""
    parts = [f"offsets {span(one)} of partition {number}" for number, one in life["learnt"].items()]
    without = f" without {len(life['without'])} selections of records" if life["without"] else ""
    return (", ".join(parts) or "nothing yet") + without


def _stands(life: dict[str, Any]) -> str:
    return "gone" if life["ended_at"] else str(life["places"][-1]["role"])


def _lineage(client: Client, model: str, version: int) -> dict[str, Any]:
    found: dict[str, Any] = client.get("registry", f"{calls.model_path(model)}/versions/{version}/lineage")
    return found


def _chosen(client: Client, text: str) -> tuple[str, int]:
    model, version = versioned(text)
    return model, latest(client, model) if version is None else version


def _qualities(client: Client, found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Live metrics by stream, of those where the version stands now."""
    qualities = {}
    for life in found["lives"]:
        if life["ended_at"]:
            continue
        try:
            models = client.metrics(life["stream"])["total"]["models"]
        except ServiceProblem:
            continue  # scoring holds no shard of it now: a card without them is still one
        for one in models:
            if (one["model"], one["version"]) == (life["model"], life["version"]):
                qualities[life["stream"]] = one["metrics"]["overall"]
    return qualities
