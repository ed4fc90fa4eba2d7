"""The figures of a what-if report's page: lines over time, calibration, curves, confusion, with keys and captions.

From the report's document to HTML with drawings (`headrace.replay.plots`). Names come from strangers: all text that is
put in goes through `escape`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from statistics import median, quantiles
from typing import Any

from headrace.contracts.times import parse_ms
from headrace.replay import plots
from headrace.replay.plan import SERVED
from headrace.replay.plots import Axis, Line, chart, linear, number, unit

Document = dict[str, Any]

NAMES = {
    "count": "answered", "roc_auc": "ROC AUC", "log_loss": "log loss", "brier": "Brier", "accuracy": "accuracy",
    "precision": "precision", "recall": "recall", "f1": "F1", "mae": "MAE", "rmse": "RMSE",
    "r2": "R\N{SUPERSCRIPT TWO}", "false_alarms": "false alarms", "threshold": "threshold",
}  # fmt: skip
VERDICTS = {
    "better": "better than",
    "worse": "worse than",
    "same": "the same as",
    "unclear": "not clearly different from",
}
"""In words, of a difference."""

OVER_TIME = {
    "binary": ("roc_auc", "log_loss"),
    "multiclass": ("accuracy", "log_loss"),
    "regression": ("mae", "r2"),
}
FEWEST_OUTCOMES = 20
"""A window with fewer is not drawn, unless few have more."""
DAY_MS = 86_400_000


def over_time(document: Document) -> str:
    """Quality by windows of event time, and how many observations each has."""
    windows = document["windows"]
    if len(windows) < 2:
        return ""
    starts = [parse_ms(window["from"]) for window in windows]
    width = document["window_seconds"] * 1000
    x = _time_axis(starts[0], starts[-1] + width)
    least = _fewest(document)
    drawn = []
    for name in OVER_TIME[document["task"]]:

        def points(model: Document, name: str = name) -> list[tuple[float, float | None]]:
            return [
                (at + width / 2, view[name] if view is not None and view["count"] >= least else None)
                for at, view in zip(starts, model["windows"], strict=True)
            ]

        lines = _lines(document, points, hint=lambda at, value: f"{_moment(at)}, {number(value)}")
        values = [value for line in lines for _, value in line.points if value is not None]
        if values:
            y = linear(_without_outliers(values), "")
            drawn.append(_figure_of(NAMES[name], chart(f"{NAMES[name]} over time", x, y, lines)))
    counts = plots.bars(
        "Observations over time",
        [(day(window["from"]), window["observations"]) for window in windows],
        "observations",
    )
    drawn.append(_figure_of("Observations", counts))
    return (
        f"<section><h2>Over time</h2>{_key(document)}"
        f'<div class="plots">{"".join(drawn)}</div><p class="quiet">By event time of the observation, in windows of '
        f"{duration(document['window_seconds'])}.</p></section>"
    )


def _fewest(document: Document) -> float:
    counts = [
        view["count"] for model in _shown(document) for view in model["windows"] if view and view["count"]
    ]
    return min(FEWEST_OUTCOMES, median(counts) / 4) if counts else 0


def _binary(document: Document) -> str:
    key = _key(document)
    roc = _lines(
        document,
        lambda model: [(one["false_alarms"] or 0.0, one["recall"]) for one in reversed(model["curve"])],
    )
    reliability = _lines(
        document,
        _calibration,
        hint=lambda said, was: f"said {said:.0%}, was {was:.0%}",
    )
    figures = [
        _figure_of(
            "Does 70% mean 70%?",
            chart("Calibration", unit("score"), unit("share that was positive"), reliability, diagonal=True),
            "On the dotted line, scores are what they say.",
        ),
        _figure_of(
            "Hits against false alarms (ROC)",
            chart("ROC curve", unit("false alarms"), unit("recall"), roc, diagonal=True),
            "Further to the upper left is better; each threshold is a point on the line.",
        ),
    ]
    figures += [
        _by_threshold(document, "precision", "Of all that are called positive, the share that is."),
        _by_threshold(document, "recall", "Of all that are positive, the share that is called so."),
    ]
    return f'<section><h2>Scores</h2>{key}<div class="plots">{"".join(figures)}</div></section>'


def _calibration(model: Document) -> list[tuple[float, float | None]]:
    """What was said and what was; a bin with few answers says nothing."""
    return [(one["said"], one["was"]) for one in model["calibration"] if one["count"] >= FEWEST_OUTCOMES]


def _by_threshold(document: Document, name: str, caption: str) -> str:
    def points(model: Document) -> list[tuple[float, float | None]]:
        return [
            (one["threshold"], one[name] if one["tp"] + one["fp"] >= FEWEST_OUTCOMES else None)
            for one in model["curve"]
        ]

    marks = [Line("", "h", [(cut, 0.0), (cut, 1.0)]) for cut in document["parameters"]["thresholds"]]
    lines = [*marks, *_lines(document, points)]
    drawn = chart(f"{name} by threshold", unit("threshold"), unit(name), lines)
    return _figure_of(f"{NAMES[name].capitalize()} by threshold", drawn, caption)


def _multiclass(document: Document) -> str:
    figures = []
    sure = _lines(
        document,
        _calibration,
        hint=lambda said, was: f"said {said:.0%}, was right {was:.0%}",
    )
    if sure:
        drawn = chart("Calibration", unit("probability of the answer"), unit("right"), sure, diagonal=True)
        figures.append(
            _figure_of("Does 70% mean 70%?", drawn, "On the dotted line, probabilities are what they say.")
        )
    tables = "".join(_confusion(document, model) for model in _named(document))
    return f'<section><h2>Answers</h2>{_key(document)}<div class="plots">{"".join(figures)}{tables}</div></section>'


def _confusion(document: Document, model: Document) -> str:
    confusion = model["confusion"]
    classes = [str(name) for name in confusion["classes"]]
    if not classes:
        return ""
    rows = []
    for name, counts in zip(classes, confusion["counts"], strict=True):
        total = sum(counts) or 1
        cells = "".join(
            f'<td class="cell" style="background: color-mix(in srgb, currentColor {count / total:.0%}, transparent)">'
            f'<span style="color: var(--{"paper" if count / total > 0.55 else "ink"})">{count:,}</span></td>'
            for count in counts
        )
        rows.append(
            f'<tr class="{_style(document, model)}"><th>{escape(plots.shortened(name, 24))}</th>{cells}</tr>'
        )
    heads = "".join(f"<th class='cell'>{escape(plots.shortened(name, 14))}</th>" for name in classes)
    return (
        f'<figure><h3>{swatch(document, model)}{described(model)}</h3><div class="wide"><table><caption>Truth down, '
        f"answer across</caption><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        "</figure>"
    )


def _regression(document: Document) -> str:
    lines = _lines(
        document,
        lambda model: [(one["error"], one["share"]) for one in model["errors"]],
        hint=lambda error, share: f"{share:.0%} within {number(error)}",
    )
    if not lines:
        return ""
    far = [
        next((at for at, share in line.points if share is not None and share >= 0.95), 0.0) for line in lines
    ]
    x = linear([0.0, max(far) or 1.0], "absolute error")
    near = [line._replace(points=[(0.0, 0.0), *(p for p in line.points if p[0] <= x.high)]) for line in lines]
    drawn = chart("Distribution of errors", x, unit("share of answers"), near)
    figure = _figure_of("How far off?", drawn, "The share of answers with an error up to so much.")
    return f'<section><h2>Errors</h2>{_key(document)}<div class="one">{figure}</div></section>'


BY_TASK: dict[str, Callable[[Document], str]] = {
    "binary": _binary,
    "multiclass": _multiclass,
    "regression": _regression,
}


def described(model: Document) -> str:
    """A model's name, and what it is, as HTML."""
    name = escape(model["name"])
    if model["kind"] == "happened":
        what = "as it happened" if model["role"] == SERVED else "as it answered"
        return f"{name} <small>{what}</small>"
    threshold = model.get("decides_at")
    notes = ["replayed"] if threshold is None else [f"replayed, yes from {threshold:g} on"]
    if model.get("failures"):
        notes.append(f"failed {model['failures']:,} times")
    return f"{name} <small>{', '.join(notes)}</small>"


def _shown(document: Document) -> list[Document]:
    """What is drawn: what was served, then the replayed models over it."""
    models = document["models"]
    return [
        *(model for model in models if model["role"] == SERVED),
        *(model for model in models if model["kind"] == "replayed"),
    ]


def _named(document: Document) -> list[Document]:
    """The same, in the order of the tables."""
    return sorted(_shown(document), key=lambda model: bool(model["role"] == SERVED))


def _style(document: Document, model: Document) -> str:
    if model["kind"] == "happened":
        return "h"
    replayed = [one["name"] for one in document["models"] if one["kind"] == "replayed"]
    place = replayed.index(model["name"])
    return f"c{place % plots.COLOURS}" + (" second" if place >= plots.COLOURS else "")


def swatch(document: Document, model: Document) -> str:
    """A stroke in the model's colour."""
    return f'<i class="{_style(document, model)}"></i>'


def _key(document: Document) -> str:
    entries = "".join(f"<li>{swatch(document, model)}{described(model)}</li>" for model in _named(document))
    return f'<ul class="key">{entries}</ul>'


def _lines(
    document: Document, points: Callable[[Document], list[tuple[float, float | None]]], **more: Any
) -> list[Line]:
    return [
        Line(model["name"], _style(document, model), points(model), **more)
        for model in _shown(document)
        if points(model)
    ]


def _figure_of(title: str, drawn: str, caption: str = "") -> str:
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{drawn}{said}</figure>"


def _without_outliers(values: list[float]) -> list[float]:
    """What an axis is drawn around: the rare value far out is held at the border."""
    if len(values) < FEWEST_OUTCOMES:
        return values
    cuts = quantiles(values, n=20)
    reach = 1.5 * (cuts[-1] - cuts[0])
    return [min(max(value, cuts[0] - reach), cuts[-1] + reach) for value in values]


def _time_axis(first: float, last: float) -> Axis:
    """Five ticks or so, written as days or as times of day."""
    count = 4
    ticks = [first + (last - first) * place / count for place in range(count + 1)]
    days = last - first > 3 * DAY_MS
    return Axis(
        first, last, _years(first, last), ticks, lambda at: _written(at, "%-d %b" if days else "%-d %b %H:%M")
    )


def _years(first: float, last: float) -> str:
    years = [_written(at, "%Y") for at in (first, last - 1)]
    return years[0] if years[0] == years[1] else " to ".join(years)


def _written(at: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(at / 1000, tz=UTC).strftime(form)
    except (OverflowError, ValueError, OSError):
        return ""


def _moment(at: float) -> str:
    return _written(at, "%-d %b %Y %H:%M")


def day(text: str) -> str:
    """An RFC 3339 time for people, to the minute."""
    return _written(parse_ms(text), "%-d %B %Y %H:%M").replace(" 00:00", "")


def duration(seconds: float) -> str:
    """Seconds in the largest unit that goes into them."""
    for name, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = int(seconds // length)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds:g} s"
