"""The report of a what-if replay as one HTML page that stands alone: no script, no network, readable anywhere.

A pure function of the report's document (`headrace.replay.report`). Names of models, streams and classes are the work
of strangers, so all text goes through `escape`; by its own policy the page runs no script and fetches nothing.
"""

import json
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from headrace.replay import plots
from headrace.replay.figures import (
    BY_TASK,
    NAMES,
    VERDICTS,
    Document,
    day,
    described,
    duration,
    over_time,
    swatch,
)
from headrace.replay.plan import SERVED
from headrace.replay.plots import number
from headrace.replay.report import LOSSES

COLUMNS = {
    "binary": ("count", "roc_auc", "log_loss", "brier", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("count", "accuracy", "f1", "log_loss"),
    "regression": ("count", "mae", "rmse", "r2"),
}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse"})


def page(document: Document) -> str:
    """The whole page."""
    sections = [
        _head(document),
        _verdicts(document),
        _numbers(document),
        over_time(document),
        BY_TASK[document["task"]](document),
        _threshold_table(document),
        _notes(document),
        _parameters(document),
    ]
    body = "\n".join(section for section in sections if section)
    return _template().substitute(stream=escape(document["stream"]), body=body)


@cache
def _template() -> Template:
    return Template(files("headrace.replay").joinpath("page.html").read_text(encoding="utf-8"))


# -- words and numbers ------------------------------------------------------------------------------------------------


def _head(document: Document) -> str:
    counted, parameters = document["counted"], document["parameters"]
    names = ", ".join(model["name"] for model in parameters["models"])
    windows = document["windows"]
    span = f"{day(windows[0]['from'])} to {day(windows[-1]['to'])}" if windows else "no observation"
    tiles = [
        ("observations", counted["observations"]),
        ("labelled", counted["labelled"]),
        ("expired without a label", counted["expired"]),
        *([("corrected", counted["corrected"])] if counted["corrected"] else []),
        *([("still waiting", counted["unresolved"])] if counted["unresolved"] else []),
    ]
    shown = "".join(f"<li><b>{value:,}</b><span>{escape(name)}</span></li>" for name, value in tiles)
    return (
        f"<header><h1>What if: {escape(document['stream'])}</h1>"
        f'<p class="lead">{escape(names)}, replayed over {escape(span)}, beside what really happened</p>'
        f'<ul class="tiles">{shown}</ul></header>'
    )


def _verdicts(document: Document) -> str:
    found = document["differences"]
    if not found:
        return ""
    rows = [
        (
            f"{one['model']} \N{MINUS SIGN} {one['against']}",
            one["mean"],
            one["low"],
            one["high"],
            one["verdict"],
        )
        for one in found
    ]
    name = NAMES[LOSSES[document["task"]]]
    said = "".join(f'<li class="{one["verdict"]}">{_verdict(one, name)}</li>' for one in found)
    drawn = plots.intervals(f"Difference in {name}", rows, f"difference in {name}; left of 0 is better")
    return (
        "<section><h2>Would it have been better?</h2>"
        f'<ul class="verdicts">{said}</ul><figure class="one">{drawn}<figcaption>Mean difference in {escape(name)} '
        "on the labels that both answered. 95% intervals; each window of time counts as one draw, so that outcomes "
        "that are alike because they are neighbours do not count as many.</figcaption></figure></section>"
    )


def _verdict(one: Document, name: str) -> str:
    against = "what was served" if one["against"] == SERVED else one["against"]
    interval = (
        f"95% interval {number(one['low'])} to {number(one['high'])}"
        if one["low"] is not None
        else f"no interval: {one['windows']} windows are too few"
    )
    return (
        f'<b>{escape(one["model"])}</b> is <span class="mark">{VERDICTS[one["verdict"]]}</span> {escape(against)}: '
        f"{escape(name)} {_signed(one['mean'])} <small>({interval}; {one['count']:,} outcomes)</small>"
    )


def _numbers(document: Document) -> str:
    columns = COLUMNS[document["task"]]
    models = document["models"]
    best = {name: _best(name, models) for name in columns if name != "count"}
    rows = []
    for model in models:
        cells = []
        for name in columns:
            value = model["metrics"].get(name)
            mark = ' class="best"' if value is not None and value == best.get(name) else ""
            cells.append(f"<td{mark}>{_figure(value)}</td>")
        rows.append(f"<tr><th>{swatch(document, model)}{described(model)}</th>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{escape(NAMES[name])}</th>" for name in columns)
    return (
        '<section><h2>In numbers</h2><p class="quiet">Each answer scored on its label before the model learnt from '
        f'it; the best figure of a column is bold.</p><div class="wide"><table><thead><tr><th>model</th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _best(name: str, models: Sequence[Document]) -> float | None:
    values = [model["metrics"][name] for model in models if model["metrics"].get(name) is not None]
    if len(values) < 2:
        return None
    chosen: float = min(values) if name in LOWER_IS_BETTER else max(values)
    return chosen


# -- plots ------------------------------------------------------------------------------------------------------------


def _threshold_table(document: Document) -> str:
    columns = ("threshold", "tp", "fp", "fn", "tn", "accuracy", "precision", "recall", "f1", "false_alarms")
    if not document["parameters"]["thresholds"]:
        return ""
    rows = []
    for model in document["models"]:
        for entry in model["thresholds"]:
            cells = "".join(f"<td>{_figure(entry[name])}</td>" for name in columns)
            rows.append(f"<tr><th>{swatch(document, model)}{escape(model['name'])}</th>{cells}</tr>")
    heads = "".join(f"<th>{escape(NAMES.get(name, name.upper()))}</th>" for name in columns)
    return (
        '<section><h2>Thresholds</h2><p class="quiet">If all with a score from the threshold on had been called '
        'positive; what happened too, had its scores been read so.</p><div class="wide"><table><thead><tr>'
        f"<th>model</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _notes(document: Document) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in document["notes"])
    return f'<section><h2>What to keep in mind</h2><ul class="notes">{notes}</ul></section>'


def _parameters(document: Document) -> str:
    parameters, label = document["parameters"], document["label"]
    policy = f"wait {duration(label['wait_seconds'])}, expiry {label['expiry']}, second {label['second']}"
    changed = " (changed for this replay)" if parameters["label_policy"] else ""
    thresholds = ", ".join(f"{cut:g}" for cut in parameters["thresholds"]) or "as each model decides"
    facts: list[tuple[str, Any]] = [
        ("counted from", _or(parameters["from"], "the log's start")),
        ("counted to", _or(parameters["to"], "the log's end")),
        ("warm-up from", _or(parameters["warm_up"], "none")),
        ("label", f"{label['name']}: {policy}{changed}"),
        *([("thresholds", thresholds)] if document["task"] == "binary" else []),
        ("left out", ", ".join(parameters["without"]) or "nothing"),
        ("log", "; ".join(_read(part) for part in document["log"])),
        ("digest", document["digest"]),
    ]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts)
    specifications = "".join(
        f"<details><summary>{escape(model['name'])}</summary>"
        f"<pre>{escape(json.dumps(model['specification'], indent=2, ensure_ascii=False))}</pre></details>"
        for model in parameters["models"]
    )
    command = document["command"]
    asked = f"<h3>The same again</h3><pre>{escape(command)}</pre>" if command else ""
    return (
        f"<section><h2>What was asked</h2><dl>{listed}</dl>{asked}<h3>Specifications</h3>{specifications}</section>"
        "<footer>Made by headrace replay: the log folded again, with labels when they really arrived.</footer>"
    )


def _read(part: Document) -> str:
    known = part["outcomes_known_from"]
    since = f", outcomes known from {known} on" if known is not None else ""
    return f"partition {part['partition']}: offsets 0 to {part['folded_to']} of {part['end']}{since}"


def _or(value: Any, otherwise: str) -> str:
    if value is None:
        return otherwise
    return f"offset {value}" if isinstance(value, int) else str(value)


def _figure(value: Any) -> str:
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(f"{value:.4f}" if abs(value) < 10 else number(value))


def _signed(value: float) -> str:
    return escape(f"+{number(value)}" if value > 0 else number(value))
