"""Adding window summaries up: a closed window into its partition's total, the partitions of a stream into one view.

Only sums are added. Whatever places a summary (start, offsets, watermark, closed) belongs to the caller. Names come
from outside (a refused record names a field as its producer wrote it), so in a sum as in a window only so many are
counted apart, and the rest as `other`; without that a total would grow with every new name for ever.
"""

from headrace.contracts.statistics import Answers, Quality, WindowSummary
from services.monitor.domain import quality

OTHER = "other"
RULES_KEPT = 200
"""Different `rule/field` pairs counted apart in one window; more are counted as `other`."""
MISSING_KEPT = 1000
"""Fields whose absence is counted apart; a contract with more has the rest counted as `other`."""
MODELS_KEPT = 32
"""Different `model@version` counted apart in one window; more are counted as `other`."""


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
    for name in ("records", "value_bytes", "undecodable", "late", "observations", "labels", "controls"):
        setattr(into, name, getattr(into, name) + getattr(other, name))
    for counts, more, limit in (
        (into.missing, other.missing, MISSING_KEPT),
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
    for model, tally in other.quality.items():
        quality.merge(quality_of(into, model), tally)
    into.delay.count += other.delay.count
    into.delay.early += other.delay.early
    into.delay.sum_ms += other.delay.sum_ms
    for place, count in other.delay.buckets.items():
        into.delay.buckets[place] = into.delay.buckets.get(place, 0) + count
    if other.contract is not None and (
        into.contract is None or into.contract.version < other.contract.version
    ):
        into.contract = other.contract
