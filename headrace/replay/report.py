"""The report of a what-if replay as one plain document: what JSON shows, and what the table and the page are made of.

It says nothing about when or how fast it was made, so the same question over the same log gives the same bytes. The
differences between models come with a 95% interval that allows for neighbouring outcomes being alike: each window of
time counts as one draw (windows are weighed by their outcomes), with Student's t for few windows.
"""

from itertools import accumulate
from math import isfinite, sqrt
from statistics import NormalDist
from typing import Any

from headrace.contracts.stream import StreamContract
from headrace.contracts.times import to_text
from headrace.fold.metrics import BINS, BinaryTally
from headrace.replay.plan import SERVED, Plan
from headrace.replay.tallies import WIDTHS_MS, Pairing, Series, Tallies, error_edge
from headrace.replay.whatif import Counted, Span

CALIBRATION_BINS = 20
CURVE_STEPS = 100
FEWEST_WINDOWS = 8
"""With fewer draws no interval is given."""
MOST_CLASSES = 12
"""Classes of a confusion that are shown; the rarest are taken together."""
OTHERS = "(others)"
CONFIDENCE = 0.95

LOSSES = {"binary": "log_loss", "multiclass": "log_loss", "regression": "mae"}
"""What is compared, under the name it has among the metrics."""

LIMITS = (
    "Answers of the past were acted on; what other answers would have led to, a replay cannot know.",
    "Every answer was given before its label was known: labels arrived when they really arrived.",
)


def document(
    plan: Plan, contract: StreamContract, spans: list[Span], counted: Counted, command: str = ""
) -> dict[str, Any]:
    """The whole report. contract: under the plan's policy; command: what asks the same question again."""
    tallies = counted.tallies
    width = WIDTHS_MS[tallies.width]
    windows = sorted(tallies.windows)
    return {
        "stream": plan.stream,
        "task": contract.task,
        "digest": plan.digest,
        "command": command,
        "parameters": plan.to_dict(),
        "label": {
            "name": contract.label.name,
            "wait_seconds": contract.label.wait_seconds,
            "expiry": contract.label.expiry,
            "second": contract.label.second,
        },
        "log": [_span(span, counted) for span in spans],
        "counted": _counts(tallies),
        "happened": {
            "labelled": tallies.happened_labelled,
            "expired": tallies.happened_expired,
            "corrected": tallies.happened_corrected,
        },
        "fold": counted.counters,
        "window_seconds": width / 1000,
        "windows": [
            {
                "from": to_text(window * width),
                "to": to_text((window + 1) * width),
                "observations": tallies.windows[window],
            }
            for window in windows
        ],
        "models": [
            *(
                _model(name, series, windows, kind="replayed", role=role, **counted.models.get(name, {}))
                for (name, series), role in _replayed(tallies)
            ),
            *(
                _model(name, series, windows, kind="happened", role=role)
                for name, series, role in _happened(tallies)
            ),
        ],
        "differences": _differences(plan, contract, tallies),
        "notes": _notes(plan, spans, counted),
    }


def _replayed(tallies: Tallies) -> list[tuple[tuple[str, Series], str]]:
    return [
        (item, "challenger" if place else "champion") for place, item in enumerate(tallies.replayed.items())
    ]


def _happened(tallies: Tallies) -> list[tuple[str, Series, str]]:
    """What was served, and each version on its own unless that is the same thing."""
    found = []
    if tallies.served.windows:
        found.append((SERVED, tallies.served, SERVED))
    served = tallies.served.total()
    for (model, version), series in tallies.versions.items():
        total = series.total()
        if len(tallies.versions) > 1 or total.count != served.count:
            found.append((f"{model}@{version}", series, "version"))
    return found


def _span(span: Span, counted: Counted) -> dict[str, Any]:
    return {
        "partition": span.partition,
        "end": span.end,
        "folded_to": counted.folded_to[span.partition],
        "outcomes_known_from": counted.known_from[span.partition],
    }


def _counts(tallies: Tallies) -> dict[str, int]:
    return {
        "observations": tallies.observations,
        "labelled": tallies.labelled,
        "expired": tallies.expired,
        "unresolved": tallies.observations - tallies.labelled - tallies.expired,
        "corrected": tallies.corrected,
    }


def _model(
    name: str, series: Series, windows: list[int], *, kind: str, role: str, **counts: int
) -> dict[str, Any]:
    total = series.total()
    entry: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "role": role,
        **counts,
        "metrics": _finite(total.view()),
        "windows": [_finite(series.windows[at].view()) if at in series.windows else None for at in windows],
    }
    if series.task == "binary":
        entry |= _binary(series, total)
    elif series.task == "multiclass":
        entry |= {"confusion": _confusion(series), "calibration": _confidence(series)}
    else:
        entry["errors"] = _errors(series)
    return entry


def _finite(view: dict[str, Any]) -> dict[str, Any]:
    """A model that has run away has errors whose squares are infinite; JSON knows no such number."""
    return {name: value if value is None or isfinite(value) else None for name, value in view.items()}


# -- binary -----------------------------------------------------------------------------------------------------------


def _binary(series: Series, total: BinaryTally) -> dict[str, Any]:
    return {
        "decides_at": series.threshold,
        "confusion": {"tp": total.tp, "fp": total.fp, "fn": total.fn, "tn": total.tn},
        "thresholds": [
            {"threshold": cut, **decisions(*counts)} for cut, counts in series.cuts.items() if any(counts)
        ],
        "curve": _curve(total),
        "calibration": _calibration(total),
    }


def decisions(tp: int, fp: int, fn: int, tn: int) -> dict[str, Any]:
    """Figures of yes-or-no decisions; None where there is nothing to divide by."""
    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "false_alarms": _ratio(fp, fp + tn),
    }


def _curve(total: BinaryTally) -> list[dict[str, Any]]:
    """Decisions at thresholds 0, 0.01, ... 1, from the score histograms (scores to within 0.001)."""
    if not total.scored:
        return []
    positives = list(accumulate(reversed(total.positives)))[::-1]
    negatives = list(accumulate(reversed(total.negatives)))[::-1]
    points = []
    for step in range(CURVE_STEPS + 1):
        place = step * BINS // CURVE_STEPS
        tp, fp = positives[place], negatives[place]
        made = decisions(tp, fp, positives[0] - tp, negatives[0] - fp)
        points.append({"threshold": step / CURVE_STEPS, **made})
    return points


def _calibration(total: BinaryTally) -> list[dict[str, Any]]:
    """By bins of the score: how many, their mean score (to within 0.0005), the share that was positive."""
    bins = []
    width = BINS // CALIBRATION_BINS
    for first in range(0, BINS, width):
        last = first + width + (1 if first + width == BINS else 0)  # a score of 1 has a bin of its own
        places = range(first, last)
        count = sum(total.positives[place] + total.negatives[place] for place in places)
        if count:
            scores = sum(
                (total.positives[place] + total.negatives[place]) * min((place + 0.5) / BINS, 1.0)
                for place in places
            )
            share = sum(total.positives[place] for place in places) / count
            bins.append({"count": count, "said": scores / count, "was": share})
    return bins


# -- the other tasks --------------------------------------------------------------------------------------------------


def _confusion(series: Series) -> dict[str, Any]:
    """Counts by truth (rows) and answer (columns), the most frequent classes first."""
    totals: dict[Any, int] = {}
    for (truth, answer), count in series.cells.items():
        for name in {truth, answer}:
            totals[name] = totals.get(name, 0) + count
    ranked = sorted(totals, key=lambda name: (-totals[name], str(name)))
    shown = ranked[:MOST_CLASSES]
    names = [*shown, OTHERS] if len(ranked) > MOST_CLASSES else shown
    place = {name: at for at, name in enumerate(shown)}
    counts = [[0] * len(names) for _ in names]
    for (truth, answer), count in series.cells.items():
        counts[place.get(truth, MOST_CLASSES)][place.get(answer, MOST_CLASSES)] += count
    return {"classes": names, "counts": counts, "not_told_apart": series.beyond}


def _confidence(series: Series) -> list[dict[str, Any]]:
    return [
        {"count": int(count), "said": total / count, "was": hits / count}
        for _, (count, hits, total) in sorted(series.confidence.items())
        if count > 0
    ]


def _errors(series: Series) -> list[dict[str, float]]:
    """The share of answers whose absolute error is at most so large."""
    total = sum(series.errors.values())
    points, below = [], 0
    for place, count in sorted(series.errors.items()):
        below += count
        if total > 0:
            points.append({"error": error_edge(place), "share": below / total})
    return points


# -- differences ------------------------------------------------------------------------------------------------------


def _differences(plan: Plan, contract: StreamContract, tallies: Tallies) -> list[dict[str, Any]]:
    found = []
    for against, pairings in (
        (SERVED, tallies.to_served),
        (plan.models[0].name, tallies.to_first),
    ):
        for name, pairing in pairings.items():
            made = difference(pairing)
            if made["mean"] is not None:
                found.append({"model": name, "against": against, "loss": LOSSES[contract.task], **made})
    return found


def difference(pairing: Pairing) -> dict[str, Any]:
    """Mean difference in loss (negative: better) with its interval; no interval below `FEWEST_WINDOWS` windows."""
    windows = [(count, total) for count, total in pairing.windows.values() if count]
    count = int(sum(n for n, _ in windows))
    mean = sum(total for _, total in windows) / count if count else None
    made: dict[str, Any] = {
        "count": count,
        "windows": len(windows),
        "mean": mean,
        "low": None,
        "high": None,
        "verdict": "unclear",
    }
    draws = len(windows)
    if mean is None or not isfinite(mean):
        made["mean"] = None
        return made
    if draws < FEWEST_WINDOWS:
        return made
    spread = sum((total - mean * n) ** 2 for n, total in windows)
    half = t_quantile(draws - 1) * sqrt(spread * draws / (draws - 1)) / count
    if not isfinite(half):
        return made
    made["low"], made["high"] = mean - half, mean + half
    if made["low"] == made["high"] == 0:
        made["verdict"] = "same"
    elif made["high"] < 0:
        made["verdict"] = "better"
    elif made["low"] > 0:
        made["verdict"] = "worse"
    return made


def t_quantile(freedom: int) -> float:
    """Of Student's t, for a two-sided interval of 95%; an expansion, right to 0.02 from 5 degrees of freedom on."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


# -- what must be said ------------------------------------------------------------------------------------------------


def _notes(plan: Plan, spans: list[Span], counted: Counted) -> list[str]:
    tallies = counted.tallies
    notes = list(LIMITS)
    start = f"from {plan.start} on" if plan.start else "from the log's start on"
    end = f"before {plan.end}" if plan.end else "up to the log's end"
    learning = f"; models learn from {plan.folded_from} on" if plan.folded_from else ""
    notes.append(f"Counted are the outcomes of observations {start}, {end}{learning}.")
    if plan.thresholds:
        notes.append(
            f"Replayed models say yes from a score of {plan.thresholds[0]:g} on; what happened is as it was decided."
        )
    gone = [span.partition for span in spans if counted.known_from[span.partition] is not None]
    for partition in gone:
        notes.append(
            f"Partition {partition}: outcomes of the past are kept for a while only; what happened is known from log "
            f"offset {counted.known_from[partition]} on, and compared from there on."
        )
    seen = tallies.happened_labelled + tallies.happened_expired
    if not seen:
        notes.append(
            "No outcome of the past is known for these observations: there is nothing to compare with."
        )
    elif not gone and not plan.policy and seen < tallies.labelled + tallies.expired:
        missing = tallies.labelled + tallies.expired - seen
        notes.append(f"{missing} outcomes of the past are missing: scoring may not have been through.")
    if tallies.versions_beyond:
        notes.append("More model versions answered in the past than are told apart; the others are left out.")
    if counted.counters.get("refused"):
        notes.append(
            f"{counted.counters['refused']} records could not be used (the same as live: see S.rejected)."
        )
    return notes


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
