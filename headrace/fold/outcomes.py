"""What becomes of a prediction, as the outcome that is told of it. It keeps what was said, but for flags."""

from headrace.contracts.events import Label, Outcome, OutcomeStatus, Prediction, Scalar


def ended(said: Prediction, status: OutcomeStatus, at: int, offset: int, y: Scalar | None) -> Outcome:
    """The first outcome of a prediction."""
    return Outcome(
        said.id, said.entity, at, status, offset, said.at, said.offset, y, None,
        said.model, said.version, said.answer, said.score, said.probabilities, said.challengers, said.groups,
    )  # fmt: skip


def corrected(first: Outcome, label: Label, offset: int) -> Outcome:
    """The outcome that a second label makes of an earlier one."""
    return Outcome(
        first.id, first.entity, label.at, "corrected", offset, first.observed_at, first.prediction_offset,
        label.y, first.y, first.model, first.version, first.answer, first.score, first.probabilities,
        first.challengers, first.groups,
    )  # fmt: skip
