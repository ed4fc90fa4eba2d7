"""A model card from what the registry knows, as Hugging Face lays one out (huggingface.co/docs/hub/model-cards)."""

from collections.abc import Mapping
from typing import Any

import yaml

_PROCEDURE = """Every event is answered before its label is known, and learnt when the label comes (test, then train).
Seeded and deterministic: `headrace rebuild {name} --verify` folds the log again and compares."""


def card_of(lineage: Mapping[str, Any], qualities: Mapping[str, Mapping[str, Any]]) -> str:
    """The card of a version as Markdown. lineage: as the registry answers it; qualities: overall metrics by stream."""
    version = lineage["version"]
    name = f"{version['model']}@{version['version']}"
    front = yaml.safe_dump(
        _front_matter(name, lineage["lives"], qualities), sort_keys=False, allow_unicode=True
    )
    sections = [
        f"---\n{front}---",
        f"# {name}",
        version["description"] or "No description was given.",
        "## Model details\n\n" + _details(version),
        "## Training data\n\n" + _data(lineage["lives"]),
        f"## Training procedure\n\n{_PROCEDURE.format(name=name)}",
        f"```yaml\n{yaml.safe_dump(version['specification'], sort_keys=False, allow_unicode=True)}```",
        "## Evaluation\n\n" + _evaluation(qualities, lineage["rollouts"], name),
        "## Decisions\n\n" + _decisions(lineage["lives"]),
    ]
    return "\n\n".join(sections) + "\n"


def span(learnt: Mapping[str, Any]) -> str:
    """The offsets of a learnt range, in words."""
    return f"{learnt['from']} to {'now' if learnt['before'] is None else learnt['before'] - 1}"


def _front_matter(
    name: str, lives: list[dict[str, Any]], qualities: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "tabular-regression" if "mae" in metrics else "tabular-classification"},
            "dataset": {"type": "stream", "name": stream},
            "metrics": [
                {"type": metric, "value": value}
                for metric, value in metrics.items()
                if isinstance(value, float)
            ],
        }
        for stream, metrics in qualities.items()
    ]
    return {
        "library_name": "river",
        "tags": ["online-learning", "headrace"],
        "datasets": sorted({life["stream"] for life in lives}),
        "model-index": [{"name": name, "results": results}],
    }


def _details(version: Mapping[str, Any]) -> str:
    rows = [
        ("specification", f"sha256 `{version['digest']}`"),
        ("registered", f"{version['created_at']} by {version['created_by']}"),
    ]
    if version["parent"] is not None:
        rows.append(("rebuilt from", f"version {version['parent']}, without some records"))
    return "\n".join(f"- {name}: {value}" for name, value in rows)


def _data(lives: list[dict[str, Any]]) -> str:
    if not lives:
        return "It was never deployed and has learnt nothing."
    rows = []
    for life in lives:
        for partition, learnt in life["learnt"].items():
            contracts = ", ".join(map(str, life["contracts"]))
            left_out = len(life["without"]) or "nothing"
            rows.append(
                f"| `{life['stream']}.log` | {partition} | {span(learnt)} | {contracts} | {left_out} |"
            )
    head = "| log | partition | offsets | contract | left out |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])


def _evaluation(qualities: Mapping[str, Mapping[str, Any]], rollouts: list[dict[str, Any]], name: str) -> str:
    parts = []
    for stream, metrics in qualities.items():
        figures = [
            f"| {metric} | {value:,.4f} |" if isinstance(value, float) else f"| {metric} | {value:,} |"
            for metric, value in metrics.items()
            if isinstance(value, int | float)
        ]
        parts.append(f"Prequential, on `{stream}`:\n\n| metric | value |\n|---|---|\n" + "\n".join(figures))
    for rollout in rollouts:
        against = rollout["champion"] if rollout["challenger"] == name else rollout["challenger"]
        stages = "; ".join(
            f"{past['stage']}: {past['ruling'].replace('_', ' ') or 'by hand'} after "
            f"{past['evidence']['labels']:,} labels"
            for past in rollout["past"]
        )
        parts.append(
            f"Rollout {rollout['rollout']} on `{rollout['stream']}`, with {against}: "
            f"{rollout['stage'].replace('_', ' ')}. {stages}"
        )
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _decisions(lives: list[dict[str, Any]]) -> str:
    rows = [
        f"- {place['decided_at']}: {place['role']} on `{life['stream']}`"
        + (f", answers {place['share']:.0%} of the entities" if place["share"] else "")
        + (", frozen" if place["frozen"] else "")
        + f" ({place['decided_by']})"
        for life in lives
        for place in life["places"]
    ]
    return "\n".join(rows) or "None."
