"""What moved, record by record: the values whose mean (share, rate) an alarm is about, and their course."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

import msgspec
import numpy as np

from headrace.contracts.events import DriftDetected
from services.monitor.domain.drift.arrays import Floats
from services.monitor.domain.why.sorting import UNSEEN, sort_texts
from services.monitor.domain.why.stretch import LARGEST, Flags, Stretch, Voice

BLOCKS_SHOWN = 60
BLOCKS_AFTER = 24
"""Of those, that lie after the change, if there are as many records."""
SHORTEST = 16
"""Records of a block: fewer show noise."""


class Block(msgspec.Struct, frozen=True):
    """A run of records. offset, at: of its first. value: mean of what is known of it, None if nothing is."""

    offset: int
    at: int
    after: bool
    count: int
    value: float | None


class Subject(NamedTuple):
    """values: a row each, NaN where it is not about a record. meaning: of their mean."""

    values: Floats
    meaning: str


def subject_of(stretch: Stretch, drift: DriftDetected, voice: Voice) -> Subject:
    """What the event is about; voice: whose answers."""
    if drift.kind == "bias":
        return _of_group(stretch, drift, voice)
    if drift.kind == "delay":
        return Subject(stretch.delays, "seconds until the label came")
    if drift.kind == "concept":
        return _of_answers(stretch, drift.subject, voice)
    first, cross, second = drift.subject.partition(" x ")
    if cross and first in stretch.numbers and second in stretch.numbers:
        ranks = [_ranks(stretch.numbers[name]) for name in (first, second)]
        return Subject(3 * ranks[0] * ranks[1], f"rank correlation of {first} and {second}")
    if drift.kind == "prediction":
        if drift.subject == "score" or stretch.facts.task != "regression":
            numbers = voice.scores if drift.subject == "score" else None
            texts = [None if one is None else str(one).lower() for one in voice.answers]
            return _of_values(drift, numbers, texts, stretch.cut)
        return _of_values(drift, as_numbers(voice.answers), [], stretch.cut)
    return _of_values(
        drift, stretch.numbers.get(drift.subject), stretch.texts.get(drift.subject, []), stretch.cut
    )


def course(values: Floats, stretch: Stretch) -> list[Block]:
    """Means of up to `BLOCKS_SHOWN` runs of equally many records, of which one begins with the change."""
    before, after = stretch.cut, len(values) - stretch.cut
    size = max(SHORTEST, ceil(after / BLOCKS_AFTER), ceil((before + after) / (4 * BLOCKS_SHOWN)))
    most = BLOCKS_SHOWN - min(BLOCKS_AFTER, ceil(after / size))
    begin = stretch.cut - min(most, before // size) * size
    blocks = []
    for place in range(begin, len(values), size):
        run = values[place : place + size]
        known = run[np.isfinite(run)]
        blocks.append(
            Block(
                int(stretch.offsets[place]), int(stretch.at[place]), place >= stretch.cut, len(known),
                float(known.mean()) if len(known) else None,
            )
        )  # fmt: skip
    return blocks[:BLOCKS_SHOWN]


def as_numbers(values: Sequence[object]) -> Floats:
    """Answers or labels that are numbers; NaN for what is not."""
    found = [
        float(one) if isinstance(one, int | float) and not isinstance(one, bool) else np.nan for one in values
    ]
    held: Floats = np.clip(np.array(found, np.float64), -LARGEST, LARGEST)
    return held


def _of_answers(stretch: Stretch, subject: str, voice: Voice) -> Subject:
    if subject == "calibration":
        truth = np.array([np.nan if one is None else float(one is True) for one in stretch.labels])
        return Subject(truth - voice.scores, "truth less score")
    if subject == "error":
        return Subject(voice.wrong, "share of wrong answers")
    return Subject(voice.loss, subject.replace("_", " "))


def _of_group(stretch: Stretch, drift: DriftDetected, voice: Voice) -> Subject:
    field, _, group = drift.group.partition("=")
    inside = np.array([one == group for one in stretch.groups.get(field, [None] * len(stretch.offsets))])
    if drift.subject == "representation":
        return Subject(inside.astype(float), f"share of {drift.group}")
    known = np.array([one is not None for one in stretch.labels])
    truth = np.array([one is True for one in stretch.labels])
    said = np.array([one is True for one in voice.answers])
    spoke = np.array([one is not None for one in voice.answers])
    about: dict[str, tuple[Floats, Flags]] = {
        "selection_rate": (said.astype(float), spoke & known),
        "base_rate": (truth.astype(float), known),
        "true_positive_rate": (said.astype(float), spoke & known & truth),
        "false_positive_rate": (said.astype(float), spoke & known & ~truth),
        "error": (voice.wrong, known),
    }
    values, counted = about.get(drift.subject, about["error"])
    return Subject(
        np.where(inside & counted, values, np.nan), f"{drift.subject.replace('_', ' ')} of {drift.group}"
    )


def _of_values(
    drift: DriftDetected, numbers: Floats | None, texts: Sequence[str | None], cut: int
) -> Subject:
    """A column, looked at as the detector did."""
    way = drift.method.partition(" ")[2]
    if numbers is not None:
        if way == "missing":
            return Subject((~np.isfinite(numbers)).astype(float), f"share without {drift.subject}")
        if way == "scale":
            finite = numbers[:cut][np.isfinite(numbers[:cut])]
            centre = float(np.median(finite)) if len(finite) else 0.0
            return Subject(np.abs(numbers - centre), f"distance of {drift.subject} from {centre:.4g}")
        return Subject(numbers, f"mean of {drift.subject}")
    chosen, name = _chosen(way, texts, cut)
    return Subject(np.array([float(chosen(one)) for one in texts]), f"share of {drift.subject} {name}")


def _chosen(way: str, texts: Sequence[str | None], cut: int) -> tuple[Callable[[str | None], bool], str]:
    if way.startswith("category="):
        wanted = way.removeprefix("category=")
        return (lambda one: one == wanted), f"= {wanted}"
    if way in ("unseen", "rare"):
        known = set(texts[:cut])
        if way == "unseen":
            return (lambda one: one is not None and one not in known), UNSEEN
        frequent = set(sort_texts(texts, np.arange(len(texts)) >= cut).names[:10])
        return (lambda one: one is not None and one in known and one not in frequent), "(rare ones)"
    return (lambda one: one is None), "(missing)"


def _ranks(values: Floats) -> Floats:
    """Ranks from -1 to 1; the mean product of two such is a third of their rank correlation."""
    found = np.full(len(values), np.nan)
    finite = np.flatnonzero(np.isfinite(values))
    order = np.argsort(np.argsort(values[finite], kind="stable"), kind="stable")
    found[finite] = 2 * (order + 0.5) / max(1, len(finite)) - 1
    return found
