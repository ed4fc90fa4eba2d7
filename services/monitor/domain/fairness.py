"""Whether a model treats groups of people alike: rates by group, what sets the groups apart, and how sure that is.

The measures and their signs are those of the literature (and of Fairlearn): the difference is that between the largest
and the smallest rate, the ratio the smallest over the largest, so 0 and 1 are parity. Rates have Wilson's interval,
differences Newcombe's and ratios that of Donner and Zou, which combine Wilson's; all hold for small groups. A group of
fewer than `SMALLEST` outcomes is shown and not compared. The extremes of many small groups differ by chance: look at
the interval. Rates need labels, and the model's answers may decide which cases get one; that is not corrected for.
"""

from collections.abc import Mapping
from math import sqrt
from typing import Any, NamedTuple

from headrace.contracts.statistics import GROUP_SCORE_BINS, Quality

SMALLEST = 30
"""Outcomes that a group must have to be compared."""
Z = 1.959963984540054
"""95 % of a normal distribution lie within +- this."""
CALIBRATION_BINS = 10


class Rate(NamedTuple):
    """A share of `cases`, with a 95 % interval. value None: there was no case."""

    value: float | None
    low: float
    high: float
    cases: int


def rate(part: int, count: int) -> Rate:
    """A share, with Wilson's interval."""
    if count <= 0:
        return Rate(None, 0.0, 1.0, 0)
    share = part / count
    middle = share + Z * Z / (2 * count)
    reach = Z * sqrt(share * (1.0 - share) / count + Z * Z / (4 * count * count))
    whole = 1.0 + Z * Z / count
    return Rate(share, max((middle - reach) / whole, 0.0), min((middle + reach) / whole, 1.0), count)


def rates(tally: Quality) -> dict[str, Rate]:
    """One group's rates; those of a confusion matrix by their usual names."""
    tp, fp, tn, fn = tally.tp, tally.fp, tally.tn, tally.fn
    n = tp + fp + tn + fn
    return {
        "selection_rate": rate(tp + fp, n),
        "base_rate": rate(tp + fn, n),
        "true_positive_rate": rate(tp, tp + fn),
        "false_positive_rate": rate(fp, fp + tn),
        "false_negative_rate": rate(fn, tp + fn),
        "precision": rate(tp, tp + fp),
        "accuracy": rate(tp + tn, n),
    }


COMPARED = {
    "demographic_parity": "selection_rate",
    "equal_opportunity": "true_positive_rate",
    "false_positive_parity": "false_positive_rate",
    "predictive_parity": "precision",
    "accuracy_parity": "accuracy",
}
"""What is compared, by the name of its being equal."""


def assess(groups: Mapping[str, Quality], everybody: Quality) -> dict[str, Any]:
    """All of it for one model and one field of a binary stream, as plain JSON (shape: docs/monitor.md).

    everybody: the model's whole tally, which also holds those of no group.
    """
    by_group = {name: rates(tally) for name, tally in sorted(groups.items())}
    counts = {name: _count(tally) for name, tally in groups.items()}
    told = sum(counts.values())
    compared = [name for name in by_group if counts[name] >= SMALLEST]
    measures: dict[str, Any] = {
        measure: _apart({name: by_group[name][of] for name in compared}) for measure, of in COMPARED.items()
    }
    measures["equalized_odds"] = _worse(measures["equal_opportunity"], measures["false_positive_parity"])
    return {
        "compared": compared,
        "too_small": [name for name in by_group if name not in compared],
        "without_group": max(_count(everybody) - told, 0),
        "measures": measures,
        "groups": [
            {
                "group": name,
                "count": counts[name],
                "share": counts[name] / told if told else None,
                **{which: _plain(one) for which, one in by_group[name].items()},
                "calibration": calibration(groups[name], GROUP_SCORE_BINS),
            }
            for name in by_group
        ],
    }


def calibration(tally: Quality, bins: int) -> dict[str, Any]:
    """Mean score against the share that came true: overall, by tenths of the score, and the expected error.

    bins: of the tally's histograms; scores are taken for the middle of their bin.
    """
    counts, scores, positives = ([0.0] * CALIBRATION_BINS for _ in range(3))
    for histogram, true in ((tally.positives, True), (tally.negatives, False)):
        for place, count in histogram.items():
            score = min((place + 0.5) / bins, 1.0)
            tenth = min(place * CALIBRATION_BINS // bins, CALIBRATION_BINS - 1)
            counts[tenth] += count
            scores[tenth] += count * score
            positives[tenth] += count if true else 0
    total = sum(counts)
    if total <= 0:
        return {"count": 0, "mean_score": None, "observed": None, "expected_error": None, "bins": []}
    gaps = [abs(said - came) for said, came in zip(scores, positives, strict=True)]
    return {
        "count": int(total),
        "mean_score": sum(scores) / total,
        "observed": sum(positives) / total,
        "expected_error": sum(gaps) / total,
        "bins": [
            {
                "from": tenth / CALIBRATION_BINS,
                "mean_score": scores[tenth] / count,
                "observed": _plain(rate(int(positives[tenth]), int(count))),
            }
            for tenth, count in enumerate(counts)
            if count > 0
        ],
    }


def difference(larger: Rate, smaller: Rate) -> tuple[float, float, float]:
    """(difference, low, high) of two rates that have values; Newcombe's hybrid interval."""
    p, q = _value(larger), _value(smaller)
    low = p - q - sqrt((p - larger.low) ** 2 + (smaller.high - q) ** 2)
    high = p - q + sqrt((larger.high - p) ** 2 + (q - smaller.low) ** 2)
    return p - q, max(low, -1.0), min(high, 1.0)


def ratio(smaller: Rate, larger: Rate) -> tuple[float | None, float, float | None]:
    """(ratio, low, high) of two rates that have values, None: without bound; Donner and Zou's interval."""
    p, q = _value(smaller), _value(larger)
    low_root = max(
        (p * q) ** 2 - smaller.low * larger.high * (2 * p - smaller.low) * (2 * q - larger.high), 0.0
    )
    low_whole = larger.high * (2 * q - larger.high)
    high_root = max(
        (p * q) ** 2 - smaller.high * larger.low * (2 * p - smaller.high) * (2 * q - larger.low), 0.0
    )
    high_whole = larger.low * (2 * q - larger.low)
    low = (p * q - sqrt(low_root)) / low_whole if low_whole > 0.0 else 0.0
    high = (p * q + sqrt(high_root)) / high_whole if high_whole > 0.0 else None
    return p / q if q > 0.0 else None, max(low, 0.0), high


def _apart(by_group: dict[str, Rate]) -> dict[str, Any] | None:
    """The two groups that are furthest apart; None if there are no two with cases."""
    known = [(name, one) for name, one in by_group.items() if one.value is not None]
    if len(known) < 2:
        return None
    least, smallest = min(known, key=lambda entry: _value(entry[1]))
    most, largest = max(known, key=lambda entry: _value(entry[1]))
    apart, low, high = difference(largest, smallest)
    part, part_low, part_high = ratio(smallest, largest)
    return {
        "difference": apart,
        "difference_interval": [low, high],
        "ratio": part,
        "ratio_interval": [part_low, part_high],
        "largest": most,
        "smallest": least,
    }


def _worse(one: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    known = [measure for measure in (one, other) if measure is not None]
    return max(known, key=lambda measure: float(measure["difference"]), default=None)


def _count(tally: Quality) -> int:
    return tally.tp + tally.fp + tally.tn + tally.fn


def _value(one: Rate) -> float:
    assert one.value is not None
    return one.value


def _plain(one: Rate) -> dict[str, Any]:
    return {"value": one.value, "interval": [one.low, one.high], "count": one.cases}
