"""The shard: folds one partition of a stream's log into predictions and outcomes.

Everything a decision depends on comes from the log: contract, deployments, observations, labels, and event time (the
largest `at` so far is the watermark; nothing here has ever seen a clock). So live scoring, recovery, retraining,
replay and audit are this one class over different ranges of offsets, and they agree bit for bit. What would break that:
a read of anything outside the log, iteration over a set, or state that depends on where a batch ended.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from headrace.contracts import stream as contracts
from headrace.contracts.events import (
    Answer,
    ContractAdopted,
    Control,
    Label,
    LearningFrozen,
    LogRecord,
    ModelDeployed,
    ModelPromoted,
    ModelRebuilt,
    Observation,
    Outcome,
    OutcomeStatus,
    Prediction,
    Role,
    Scalar,
    TrafficShared,
)
from headrace.contracts.groups import Groups
from headrace.contracts.left_out import Below
from headrace.errors import Fatal, HeadraceError, Transient, Unusable
from headrace.fold.counters import Counters
from headrace.fold.deadlines import Deadlines
from headrace.fold.edits import Edit
from headrace.fold.outcomes import corrected, ended
from headrace.fold.outliers import Outliers, watching
from headrace.fold.parts import PLACES, Asked, Early, Folded, Rebuild, Refused, Waiting, place
from headrace.fold.slot import ModelSlot

CONTROLS_REMEMBERED = 1_000
"""Ids of control records kept for dedupe; a repeat comes soon after its original or not at all."""
ELDEST = 256
"""Observations that wait longest, looked up at a time."""
MODELS = 32
"""Models at a time, as every one of them answers every observation; a deployment of one more is refused."""
CLASSES = 1_000
"""Classes of a multiclass stream that declares none; a label that would be one more is refused."""


class Shard:
    """State over one partition of `S.log`: dedupe, pending observations, models, metrics.

    Bounds: `contract.limits`, at which the oldest gives way and is counted; `CONTROLS_REMEMBERED`, `MODELS`, `CLASSES`.
    What a model keeps is the model's own affair: a River model may grow with every new feature name or category. Not
    thread-safe: one writer a shard.
    """

    rebuilder: Callable[[Rebuild], tuple["Shard", Edit]] | None = None
    """How to fold the log before this record again; also tells as what edit. Whoever hosts the shard gives it."""

    def __init__(self) -> None:
        self.contract: contracts.StreamContract | None = None
        self.offset = -1
        """Offset of the last record folded; -1 before the first."""
        self.watermark = 0
        self._groups = Groups()
        self._outliers: Outliers | None = None
        self.counters = Counters()
        self.champion: ModelSlot | None = None
        self.canary: ModelSlot | None = None
        self._shared = 0
        """The canary answers the entities whose `place` is below."""
        self.slots: dict[str, ModelSlot] = {}
        self._controls: dict[str, None] = {}
        self._classes: dict[Scalar, None] = {}
        self._waiting: dict[str, Waiting] = {}
        self._early: dict[str, Early] = {}
        self._known: dict[str, Outcome | None] = {}
        self._known_order: deque[str] = deque()
        """The keys of `_known`, oldest first: a dict walks over all it has deleted to find its first key."""
        self._eldest: deque[tuple[str, Waiting]] = deque()
        """Some of `_waiting`, oldest first, for the same reason; nothing depends on which."""
        self._deadlines = Deadlines(self._waiting, self._early)
        self._out = Folded()

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "rebuilder": None, "_eldest": deque()}

    def __setstate__(self, state: dict[str, object]) -> None:
        if state.keys() - {"rebuilder"} != vars(Shard()).keys():
            raise Unusable("the state is of a shard that kept something else")
        vars(self).update(state)

    @property
    def pending(self) -> int:
        """Observations waiting for their label."""
        return len(self._waiting)

    def fingerprints(self) -> dict[str, str]:
        """For each deployed model, as `model@version`, the sha256 of its state."""
        return {f"{slot.model}@{slot.version}": slot.fingerprint() for slot in self.slots.values()}

    def fold(self, records: Sequence[LogRecord], offsets: Sequence[int]) -> Folded:
        """Fold records (oldest first, with their log offsets) and return what they gave."""
        self._out = out = Folded()
        for record, offset in zip(records, offsets, strict=True):
            self.offset = offset
            at = record.at
            if at > self.watermark:
                self.watermark = at
                if at > self._deadlines.due:
                    self._expire_overdue(at)
            kind = type(record)
            if kind is Observation:
                self._observe(record, offset)  # type: ignore[arg-type]  # narrowed by `kind`, cheaper than isinstance
            elif kind is Label:
                self._label(record, offset)  # type: ignore[arg-type]  # as above
            else:
                self._control(record, offset)  # type: ignore[arg-type]  # as above
        self._out = Folded()
        return out

    def watch(self, observation: Observation, offset: int) -> Waiting | None:
        """Fold an observation for somebody who wants to see what each model was shown and said; None: not answered.

        A label that came early is laid aside, as it would end the waiting at once. So the shard is of no further use.
        """
        self._early.pop(observation.id, None)
        self.fold([observation], [offset])
        return self._waiting.get(observation.id)

    # -- observations -----------------------------------------------------------------------------------------------

    def _observe(self, observation: Observation, offset: int) -> None:
        if self.contract is None:
            self._refuse(offset, "no_contract", "the log has no contract before this observation")
            return
        identity = observation.id
        if identity in self._known:
            self.counters.duplicates += 1
            return
        self.counters.observations += 1
        x, entity, at = observation.x, observation.entity, observation.at
        first = self.champion
        if self.canary is not None and place(self.canary.model, entity) < self._shared:
            first = self.canary
        asked: tuple[Asked, ...] = ()
        if first is not None:
            served, (answer, score, probabilities) = first.ask(x, entity, at)
            prediction = Prediction(
                identity, entity, at, offset, first.model, first.version, answer, score, probabilities
            )
            asked = ((first, served, prediction),)
        else:
            prediction = Prediction(identity, entity, at, offset)
        if len(self.slots) > len(asked):
            asked = self._ask_others(observation, prediction, asked)
        if self._groups:
            prediction.groups = self._groups.of(x, observation.aside)
        if self._outliers is not None:
            self._outliers.mark(prediction, x)
        self._out.predictions.append(prediction)
        self._park(identity, Waiting(prediction, x, asked))
        early = self._early.pop(identity, None) if self._early else None
        if early is not None:
            self._resolve(identity, early.label.at, offset, early.label.y)

    def _ask_others(
        self, observation: Observation, prediction: Prediction, asked: tuple[Asked, ...]
    ) -> tuple[Asked, ...]:
        more = []
        for slot in self.slots.values():
            if not asked or slot is not asked[0][0]:
                served, said = slot.ask(observation.x, observation.entity, observation.at)
                more.append((slot, served, Answer(slot.model, slot.version, *said)))
        prediction.challengers = [said for _, _, said in more]
        return (*asked, *more)

    def _park(self, identity: str, waiting: Waiting) -> None:
        assert self.contract is not None
        limits = self.contract.limits
        deadlines = self._deadlines
        deadline = waiting.prediction.at + deadlines.wait_ms
        if deadline < deadlines.due:  # noqa: PLR1730  quicker than min()
            deadlines.due = deadline
        self._waiting[identity] = waiting
        self._known[identity] = None
        self._known_order.append(identity)
        while len(self._waiting) > limits.pending:  # more than one after a contract that lowers the bound
            self.counters.pushed_out += 1
            self._expire(self._longest_waiting(), self.offset)
        while len(self._known) > limits.remembered:
            self._forget_oldest()

    def _longest_waiting(self) -> str:
        eldest = self._eldest
        while True:
            while eldest:
                identity, waiting = eldest.popleft()
                if self._waiting.get(identity) is waiting:
                    return identity
            eldest.extend(islice(self._waiting.items(), ELDEST))

    def _forget_oldest(self) -> None:
        """Drop the oldest id that is not waiting; `remembered >= pending` makes sure there is one."""
        order = self._known_order
        while (oldest := order.popleft()) in self._waiting:
            order.append(oldest)  # still needed: to the young end
        del self._known[oldest]

    # -- labels -----------------------------------------------------------------------------------------------------

    def _label(self, label: Label, offset: int) -> None:
        if self.contract is None:
            self._refuse(offset, "no_contract", "the log has no contract before this label")
            return
        if not contracts.is_label(self.contract.task, label.y):
            self._refuse(offset, "label_type", f"{label.y!r} is no label of a {self.contract.task} stream")
            return
        if self.contract.task == "multiclass" and not self._is_class(label.y):
            self._refuse(offset, "label_classes", f"{label.y!r} would be one more class than a shard takes")
            return
        self.counters.labels += 1
        identity = label.id
        if identity in self._waiting:
            self._resolve(identity, label.at, offset, label.y)
        elif identity in self._known:
            self._second_label(label, offset)
        elif identity in self._early:
            self._emit_unmatched(label, offset, "ignored")
        else:
            self._early[identity] = Early(label, offset)
            deadlines = self._deadlines
            deadlines.due = min(deadlines.due, label.at + deadlines.wait_ms)
            while len(self._early) > self.contract.limits.early_labels:
                oldest = next(iter(self._early))
                self._emit_unmatched(self._early.pop(oldest).label, offset, "unmatched")

    def _is_class(self, y: Scalar) -> bool:
        """Whether `y` is a class that is known, or may become one: models and metrics keep something for each."""
        assert self.contract is not None
        if y not in self._classes:
            if len(self._classes) >= max(CLASSES, len(self.contract.label.classes or ())):
                return False
            self._classes[y] = None
        return True

    def _resolve(self, identity: str, at: int, offset: int, y: Scalar) -> None:
        """Join a waiting observation with its label: score what was said, learn, emit."""
        waiting = self._waiting.pop(identity)
        self.counters.labelled += 1
        self._score_and_learn(waiting, y, at)
        self._emit(waiting.prediction, "labelled", at, offset, y)

    def _score_and_learn(self, waiting: Waiting, y: Scalar, at: int) -> None:
        entity = waiting.prediction.entity
        for slot, served, said in waiting.asked:
            slot.tell(waiting.x, entity, at, served, y, said)

    def _second_label(self, label: Label, offset: int) -> None:
        assert self.contract is not None
        first = self._known[label.id]
        if self.contract.label.second == "ignore" or first is None:
            self._emit_unmatched(label, offset, "ignored")
            return
        self.counters.corrected += 1
        answers: list[Answer | Outcome] = [first, *first.challengers]
        for said in answers:
            slot = self.slots.get(said.model)
            if slot is not None and slot.version == said.version:
                slot.metrics.correct(first.y, label.y, said)
        self._known[label.id] = revised = corrected(first, label, offset)
        self._out.outcomes.append(revised)

    # -- time -------------------------------------------------------------------------------------------------------

    def _expire_overdue(self, now: int) -> None:
        for deadline, identity in self._deadlines.passed(now, self.offset):
            if identity in self._waiting:
                self._expire(identity, self.offset, deadline)
            else:
                self._emit_unmatched(self._early.pop(identity).label, self.offset, "unmatched")

    def _expire(self, identity: str, offset: int, at: int | None = None) -> None:
        assert self.contract is not None
        waiting = self._waiting.pop(identity)
        self.counters.expired += 1
        when = self.watermark if at is None else at
        y: Scalar | None = None
        if self.contract.label.expiry == "negative":
            y = False
            self._score_and_learn(waiting, y, when)
        self._emit(waiting.prediction, "expired", when, offset, y)

    # -- control ----------------------------------------------------------------------------------------------------

    def _control(self, control: Control, offset: int) -> None:
        if control.id in self._controls:
            return
        try:
            self._apply(control)
        except (Fatal, Transient):
            raise
        except HeadraceError as error:
            self._refuse(offset, "control", str(error))
        self._controls[control.id] = None
        if len(self._controls) > CONTROLS_REMEMBERED:
            del self._controls[next(iter(self._controls))]

    def _apply(self, control: Control) -> None:
        if isinstance(control, ContractAdopted):
            self.contract = contracts.from_dict(control.contract)
            self._groups = Groups(self.contract)
            self._outliers = watching(self.contract, self._outliers)
            self._deadlines.adopt(self.contract.label.wait_seconds, self.offset)
        elif isinstance(control, ModelDeployed):
            self._deploy(control)
        else:
            slot = self.slots.get(control.model)
            if slot is None:
                raise HeadraceError(f"no model {control.model!r} is deployed here")
            if isinstance(control, ModelPromoted):
                self._crown(slot)
            elif isinstance(control, ModelRebuilt):
                self._hand_over(slot, control)
            elif isinstance(control, LearningFrozen):
                slot.frozen = control.frozen
            elif isinstance(control, TrafficShared):
                self._share(slot, control.share)
            else:
                self._leave(slot)

    def _deploy(self, control: ModelDeployed) -> None:
        if self.contract is None:
            raise HeadraceError("a model cannot be deployed before the stream's contract")
        before = self.slots.get(control.model)
        if before is None and len(self.slots) >= MODELS:
            raise HeadraceError(f"{MODELS} models are deployed here: one has to be retired first")
        slot = ModelSlot(control, self.contract.task, self.offset)
        other: Shard | None = None
        if control.learnt:
            left_out = (Below(control.without, self.offset),) if control.without else ()
            rebuild = Rebuild(control.model, -1, left_out, self.offset, control)
            slot, other, _ = self._fold_again(rebuild, control.version, control.role, self.offset)
        if before is not None:
            self._leave(before)
        if other is not None:
            self._take_over(slot, other)
        self.slots[control.model] = slot
        if control.role == "champion":
            self._crown(slot)

    def _hand_over(self, before: ModelSlot, control: ModelRebuilt) -> None:
        """Give a model's place to what the log without some records makes of it, its waiting observations too."""
        left_out = (*before.left_out, Below(control.without, self.offset))
        rebuild = Rebuild(control.model, before.since, left_out, self.offset, before.deployed)
        slot, other, edit = self._fold_again(rebuild, control.version, before.role, before.since)
        for waiting in self._waiting.values():
            waiting.asked = tuple([one for one in waiting.asked if one[0] is not before])
        self._take_over(slot, other)
        self._end_left_out(other, edit)
        self.slots[control.model] = slot
        if self.champion is before:
            self.champion = slot
        if self.canary is before:
            self.canary = slot

    def _end_left_out(self, other: "Shard", edit: Edit) -> None:
        """End the early labels that were left out; one that came second is now the first. Every other stays."""
        early, waiting = self._early, list(self._early.items())
        kept = set(edit([one.label for _, one in waiting], [one.offset for _, one in waiting])[1])
        for identity in [identity for identity, one in waiting if one.offset not in kept]:
            self._emit_unmatched(early.pop(identity).label, self.offset, "ignored")
            if identity in other._early:
                early[identity] = other._early[identity]
                self._deadlines.put_back(identity, early[identity])
        waiting = sorted(early.items(), key=lambda item: item[1].offset)
        early.clear()
        early.update(waiting)

    def _fold_again(
        self, rebuild: Rebuild, version: int, role: Role, since: int
    ) -> tuple[ModelSlot, "Shard", Edit]:
        """The model as the log makes it, the shard that holds what waits for it there, and what was changed."""
        if self.rebuilder is None:
            raise Fatal("a model is to be rebuilt, but whoever folds this log has no way to read it again")
        try:
            other, edit = self.rebuilder(rebuild)
        except Unusable as error:  # refusing the record would make the state depend on what can be read today
            raise Fatal(f"{rebuild.model} cannot be rebuilt: {error}") from None
        slot = other.slots[rebuild.model]
        slot.version, slot.role, slot.left_out = version, role, rebuild.without
        slot.since, slot.deployed = since, rebuild.deployed
        return slot, other, edit

    def _take_over(self, slot: ModelSlot, other: "Shard") -> None:
        """Let a model of another shard learn, when their labels come, what waits there and here."""
        for identity, waiting in self._waiting.items():
            theirs = other._waiting.get(identity)
            for _, served, said in theirs.asked if theirs is not None else ():
                told = Answer(said.model, slot.version, said.answer, said.score, said.probabilities)
                waiting.asked = (*waiting.asked, (slot, served, told))

    def _share(self, slot: ModelSlot, share: float) -> None:
        if slot is self.champion or not 0.0 <= share <= 1.0:
            raise HeadraceError("only a challenger can answer a share of the entities, 0 to 1")
        self.canary = slot if share > 0.0 else None
        self._shared = round(share * PLACES)

    def _crown(self, slot: ModelSlot) -> None:
        if self.champion is not None:
            self.champion.role = "challenger"
        slot.role = "champion"
        self.champion = slot
        self.canary = None

    def _leave(self, slot: ModelSlot) -> None:
        del self.slots[slot.model]
        if self.champion is slot:
            self.champion = None
        if self.canary is slot:
            self.canary = None
        # Or each that waits would keep a model that has left until its label comes.
        for waiting in self._waiting.values():
            if any(asked[0] is slot for asked in waiting.asked):
                waiting.asked = tuple([asked for asked in waiting.asked if asked[0] is not slot])

    # -- emitting ---------------------------------------------------------------------------------------------------

    def _emit(self, said: Prediction, status: OutcomeStatus, at: int, offset: int, y: Scalar | None) -> None:
        outcome = ended(said, status, at, offset, y)
        assert self.contract is not None
        if self.contract.label.second == "correct" and said.id in self._known:
            self._known[said.id] = outcome
        self._out.outcomes.append(outcome)

    def _emit_unmatched(self, label: Label, offset: int, status: OutcomeStatus) -> None:
        if status == "unmatched":
            self.counters.unmatched += 1
        else:
            self.counters.second_labels += 1
        self._out.outcomes.append(Outcome(label.id, label.entity, label.at, status, offset, y=label.y))

    def _refuse(self, offset: int, rule: str, reason: str) -> None:
        self.counters.refused += 1
        self._out.refused.append(Refused(offset, rule, reason, self.watermark))
