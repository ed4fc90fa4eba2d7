"""An alarm explained: all figures of the records around it, in one document.

What moved is measured once more on the stretch, beside what the detector said of it. The change was dated where it
shows most, so the figures of the very thing that moved are larger than they would be at a date that somebody had
chosen before; the split of the loss among fields is not chosen so.
"""

import msgspec
import numpy as np

from headrace.contracts.events import DriftDetected, Scalar
from services.monitor.domain.drift.arrays import Floats
from services.monitor.domain.why.advice import Advice, Evidence, Rival, Takeover, advise
from services.monitor.domain.why.chance import between, limit, side
from services.monitor.domain.why.parts import LossChange, Part, Split, carried, changed
from services.monitor.domain.why.shifts import Change, Column, Sort, compare, cut
from services.monitor.domain.why.sorting import sort_texts
from services.monitor.domain.why.stretch import SERVED, Stretch, Voice
from services.monitor.domain.why.subject import Block, Subject, as_numbers, course, subject_of

FIELDS = 200
"""Fields that are looked at, the first of the contract."""
SHOWN = 6
"""Columns with a histogram, besides the subject's."""
TOLD = 30
"""Columns that are told of, the most changed."""
TAKEOVERS = 10
FEW_ANSWERS = 50
"""Answers of the version before, without which nobody has taken over from it."""


class Figure(msgspec.Struct, frozen=True):
    """A mean, and of how many records."""

    mean: float | None
    count: int


class Read(msgspec.Struct, frozen=True):
    """What was read: observations and labels on each side, from which offset to which. waiting: not labelled yet."""

    first_offset: int
    last_offset: int
    before: int
    after: int
    labelled_before: int
    labelled_after: int
    waiting: int


class Loss(msgspec.Struct, frozen=True):
    """What it did to the answers: `of` whose (as served, if that is ""). others: the other figures of the same answers.

    parts: what carries the change, beyond chance. splits: by field. everywhere: it is beyond chance, and no field sets
    it apart. course: None if the subject is the loss itself.
    """

    of: str
    change: LossChange
    others: list[LossChange]
    parts: list[Part]
    splits: list[Split]
    everywhere: bool
    course: list[Block] | None


class Explanation(msgspec.Struct, frozen=True):
    """See the module. loss: None while it is not known. complete: more time will not tell more."""

    drift: DriftDetected
    meaning: str
    before: Figure
    after: Figure
    read: Read
    course: list[Block]
    columns: list[Change]
    loss: Loss | None
    takeovers: list[Takeover]
    rivals: list[Rival]
    advice: Advice
    complete: bool


def explain(drift: DriftDetected, stretch: Stretch, *, complete: bool) -> Explanation:
    """All of it. complete: whether the stretch has been read to its end, labels included."""
    whose = f"{drift.model}@{drift.version}" if drift.model else SERVED
    voice = stretch.voices.get(whose, stretch.voices[SERVED])
    subject = subject_of(stretch, drift, voice)
    after = stretch.after
    columns = _columns(stretch, voice)
    sorted_in = cut(columns, after)
    changes = compare(columns, sorted_in, after, shown=SHOWN, first=drift.subject)
    loss = _loss(drift, stretch, whose, voice, columns)
    rivals = _rivals(stretch, whose, voice, drift)
    takeovers = _takeovers(stretch)
    read = _read(stretch)
    evidence = Evidence(
        drift, changes, None if loss is None else loss.change, _recovered(drift, stretch, voice),
        [] if loss is None else loss.parts, takeovers, rivals, read.waiting,
    )  # fmt: skip
    return Explanation(
        drift, subject.meaning, *_sides(subject, stretch), read, course(subject.values, stretch), changes[:TOLD],
        loss, takeovers, rivals, advise(evidence), complete,
    )  # fmt: skip


def _columns(stretch: Stretch, voice: Voice) -> dict[str, Column]:
    """Everything that can be compared: fields, answers, labels, their delay."""
    facts = stretch.facts
    found: dict[str, Column] = {}
    for name in [name for name in facts.types if facts.types[name] != "time"][:FIELDS]:
        of: Sort = "aside" if name in facts.aside else "feature"
        if name in stretch.numbers:
            found[name] = Column(of, numbers=stretch.numbers[name])
        elif name in stretch.texts:
            found[name] = Column(of, texts=stretch.texts[name])
    if np.isfinite(voice.scores).any():
        found.setdefault("score", Column("score", numbers=voice.scores))
    answers: tuple[tuple[Sort, list[Scalar | None]], ...] = (
        ("answer", voice.answers),
        ("label", stretch.labels),
    )
    for sort, values in answers:
        if facts.task == "regression":
            column = Column(sort, numbers=as_numbers(values))
        else:
            column = Column(sort, texts=[None if one is None else str(one).lower() for one in values])
        found.setdefault(sort, column)
    found.setdefault("label_delay", Column("label_delay", numbers=stretch.delays))
    return found


def _losses(drift: DriftDetected, stretch: Stretch, voice: Voice) -> list[tuple[str, Floats]]:
    """The figures of the answers, that which the alarm is about first."""
    if stretch.facts.task == "regression":
        return [("absolute_error", voice.loss)]
    both = [("log_loss", voice.loss), ("error", voice.wrong)]
    return both[::-1] if drift.subject == "error" or not np.isfinite(voice.loss).any() else both


def _loss(
    drift: DriftDetected, stretch: Stretch, whose: str, voice: Voice, columns: dict[str, Column]
) -> Loss | None:
    after = stretch.after
    (name, values), *more = _losses(drift, stretch, voice)
    change = changed(name, values, after)
    if change is None:
        return None
    fields = {name: one for name, one in columns.items() if one.sort in ("feature", "aside")}
    cells = cut(fields, after)
    # Groups are told apart as the contract declares them.
    cells |= {field: sort_texts(groups, after) for field, groups in stretch.groups.items()}
    parts, splits = carried(cells, values, after)
    others = [found for name, of in more if (found := changed(name, of, after)) is not None]
    same = drift.kind == "concept" and drift.subject == name
    return Loss(
        whose, change, others, parts, splits, change.sure and not parts,
        None if same else course(values, stretch),
    )  # fmt: skip


def _recovered(drift: DriftDetected, stretch: Stretch, voice: Voice) -> bool:
    """Whether the second half of what came since is as it was before, where the first half was worse."""
    values = _losses(drift, stretch, voice)[0][1]
    late = np.flatnonzero(np.isfinite(values) & stretch.after)
    halves = []
    for half in (late[: len(late) // 2], late[len(late) // 2 :]):
        chosen = np.isfinite(values) & ~stretch.after
        chosen[half] = True
        halves.append(changed("", np.where(chosen, values, np.nan), stretch.after))
    first, second = halves
    return (
        first is not None
        and second is not None
        and first.sure
        and first.change > 0
        and second.change < max(second.error, 0.25 * first.change)
    )


def _rivals(stretch: Stretch, whose: str, voice: Voice, drift: DriftDetected) -> list[Rival]:
    """The others that were asked since, the best first."""
    if whose == SERVED:
        return []
    mine = _losses(drift, stretch, voice)[0][1]
    found = []
    others = {name: one for name, one in stretch.voices.items() if name not in (SERVED, whose)}
    for name, other in others.items():
        theirs = _losses(drift, stretch, other)[0][1]
        both = np.isfinite(mine) & np.isfinite(theirs) & stretch.after
        count = int(both.sum())
        if count < FEW_ANSWERS:
            continue
        apart = (theirs - mine)[both]
        between_blocks = side(np.zeros(count, np.intp), apart, 1)
        error = float(np.sqrt(max(apart.var() / count, between(between_blocks.residuals())[0])))
        mean = float(apart.mean())
        better = mean < -limit(len(others)) * error
        found.append(Rival(name, float(theirs[both].mean()), mean, error, count, better))
    return sorted(found, key=lambda rival: rival.apart)


def _takeovers(stretch: Stretch) -> list[Takeover]:
    """Where a version answered for the first time after another had, the last of them."""
    known = np.array([one is not None for one in stretch.labels])
    answers: dict[str, int] = {}
    last, found = "", []
    for row, name in enumerate(stretch.top):
        if not name:
            continue
        if (
            last
            and name != last
            and name not in answers
            and answers[last] >= FEW_ANSWERS
            and row <= stretch.cut
        ):
            labels = int(known[row : stretch.cut].sum())
            found.append(Takeover(int(stretch.offsets[row]), int(stretch.at[row]), last, name, labels))
        answers[name] = answers.get(name, 0) + 1
        last = name
    return found[-TAKEOVERS:]


def _read(stretch: Stretch) -> Read:
    known = np.array([one is not None for one in stretch.labels], bool)
    after = stretch.after
    return Read(
        int(stretch.offsets[0]), int(stretch.offsets[-1]), stretch.cut, len(known) - stretch.cut,
        int((known & ~after).sum()), int((known & after).sum()), int((~stretch.resolved & after).sum()),
    )  # fmt: skip


def _sides(subject: Subject, stretch: Stretch) -> tuple[Figure, Figure]:
    found = []
    for flag in (False, True):
        values = subject.values[stretch.after == flag]
        known = values[np.isfinite(values)]
        found.append(Figure(float(known.mean()) if len(known) else None, len(known)))
    return found[0], found[1]
