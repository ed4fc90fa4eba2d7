"""Adding window summaries up: a closed window into its partition's total, the partitions of a stream into one view.

Only sums are added. Whatever places a summary (start, offsets, watermark, closed) belongs to the caller. Names come
from outside (a refused record names a field as its producer wrote it), so in a sum as in a window only so many are
counted apart, and the rest as `other`; without that a total would grow with every new name for ever.
"""

from headrace.contracts.statistics import Answers, FieldTally, Quality, WindowSummary
from services.monitor.domain import fields, quality, sketches
from services.monitor.domain.columns import TEXT_LENGTH

OTHER = "other"
RULES_KEPT = 200
"""Different `rule/field` pairs counted apart in one window; more are counted as `other`."""
MISSING_KEPT = 1000
"""Fields whose absence is counted apart; a contract with more has the rest counted as `other`."""
MODELS_KEPT = 32
"""Different `model@version` counted apart in one window; more are counted as `other`."""
FIELDS_KEPT = 64
"""Fields whose values are counted in one window; of those beyond only the absence is."""
CLASSES_KEPT = 50
"""Classes told apart in what a model said; more are counted as `other`."""
GROUPING_KEPT = 16
"""Fields by which the quality of one model is told apart; those beyond are not."""
GROUPS_KEPT = 32
"""Groups of one field; more are counted as `other`."""
GROUP_TALLIES = 300
"""Groups of all fields and models in one window; those beyond are not told, or a summary would be no Kafka message."""

SUMS = (
    "records", "value_bytes", "undecodable", "late", "revised", "observations", "labels", "controls", "flagged",
    "anomalous",
)  # fmt: skip
"""What is added up as it is."""


def bump(counts: dict[str, int], name: str, by: int = 1, limit: int = RULES_KEPT) -> None:
    """Count under a name, or under `other` if the dictionary is full."""
    if name not in counts and len(counts) >= limit:
        name = OTHER
    counts[name] = counts.get(name, 0) + by


def quality_of(summary: WindowSummary, model: str) -> Quality:
    """The tally of `model@version` in this window, made if need be."""
    found = summary.quality.get(model)
    if found is None:
        if len(summary.quality) >= MODELS_KEPT and model != OTHER:
            return quality_of(summary, OTHER)
        found = summary.quality[model] = Quality()
    return found


def group_of(summary: WindowSummary, model: str, field: str, group: str) -> Quality | None:
    """The tally of a group by `model@version`, made if need be; None if that would be one too many."""
    found = summary.groups.get(model, {}).get(field, {}).get(group)
    if found is not None:
        return found
    if model not in summary.groups and len(summary.groups) >= MODELS_KEPT:
        model = OTHER
    by_field = summary.groups.setdefault(model, {})
    by_group = by_field.get(field)
    if by_group is None:
        if len(by_field) >= GROUPING_KEPT:
            return None
        by_group = by_field[field] = {}
    if group not in by_group and (len(by_group) >= GROUPS_KEPT or len(group) > TEXT_LENGTH):
        group = OTHER
    found = by_group.get(group)
    if found is None and summary.grouped < GROUP_TALLIES:
        found = by_group[group] = Quality()
        summary.grouped += 1
    return found


def answers_of(summary: WindowSummary, model: str) -> Answers:
    """The answer counts of `model@version` in this window, made if need be."""
    found = summary.answers.get(model)
    if found is None:
        if len(summary.answers) >= MODELS_KEPT and model != OTHER:
            return answers_of(summary, OTHER)
        found = summary.answers[model] = Answers()
    return found


def merge(into: WindowSummary, other: WindowSummary) -> None:
    """Add what `other` counted to `into`."""
    for name in SUMS:
        setattr(into, name, getattr(into, name) + getattr(other, name))
    for counts, more, limit in (
        (into.missing, other.missing, MISSING_KEPT),
        (into.outliers, other.outliers, FIELDS_KEPT),
        (into.statuses, other.statuses, RULES_KEPT),
        (into.rejected, other.rejected, RULES_KEPT),
    ):
        for name, count in more.items():
            bump(counts, name, count, limit)
    for model, answers in other.answers.items():
        mine = answers_of(into, model)
        mine.answered += answers.answered
        mine.unanswered += answers.unanswered
        mine.scored += answers.scored
        mine.score_sum += answers.score_sum
        for name, count in answers.classes.items():
            bump(mine.classes, name, count, CLASSES_KEPT)
        sketches.merge(mine.scores, answers.scores)
        for cell, count in answers.cells.items():
            mine.cells[cell] = mine.cells.get(cell, 0) + count
    for model, tally in other.quality.items():
        quality.merge(quality_of(into, model), tally)
    _merge_details(into, other)
    into.delay.count += other.delay.count
    into.delay.early += other.delay.early
    into.delay.sum_ms += other.delay.sum_ms
    for place, count in other.delay.buckets.items():
        into.delay.buckets[place] = into.delay.buckets.get(place, 0) + count
    if other.contract is not None and (
        into.contract is None or into.contract.version < other.contract.version
    ):
        into.contract = other.contract


def _merge_details(into: WindowSummary, other: WindowSummary) -> None:
    """Fields and groups, which windows have and totals do not."""
    if into.start is None:
        return
    for name, tally in other.fields.items():
        if name not in into.fields:
            if len(into.fields) >= FIELDS_KEPT:
                continue
            into.fields[name] = FieldTally()
        fields.merge(into.fields[name], tally)
    for model, by_field in other.groups.items():
        for field, by_group in by_field.items():
            for group, scored in by_group.items():
                tally_of_group = group_of(into, model, field, group)
                if tally_of_group is not None:
                    quality.merge(tally_of_group, scored)
