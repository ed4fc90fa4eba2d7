"""Faults put into the product on purpose, to see that the simulation finds them.

A mutant replaces one piece of one function's text. The text must be there exactly once, so that a change of the product
cannot make a mutant vanish in silence.
"""

import ast
import importlib
import inspect
import textwrap
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Mutant(NamedTuple):
    """name; where: `module:Class.function`; old: the text replaced by new. breaks: invariants it may be caught by."""

    name: str
    where: str
    old: str
    new: str
    breaks: str


SHARD = "headrace.fold.shard:Shard"
SLOT = "headrace.fold.slot:ModelSlot"
HOST = "headrace.memory.host:MemoryHost"

MUTANTS = (
    Mutant("no dedupe", f"{SHARD}._observe", "if identity in self._known:", "if False:", "I1"),
    Mutant(
        "learns an early label before it predicts",
        f"{SHARD}._observe",
        "first = self.champion\n",
        "first = self.champion\n"
        "    early = self._early.get(identity)\n"
        "    if first is not None and early is not None:\n"
        "        first._estimator.learn_one({'a': 1.0, 'b': 1.0}, early.label.y)\n",
        "I5",
    ),
    Mutant(
        "learns before the answer is scored",
        f"{SHARD}._resolve",
        'self._emit(waiting.prediction, "labelled", at, offset, y)',
        "said = waiting.prediction\n"
        "    for slot, served, _ in waiting.asked[:1]:\n"
        "        said.answer, said.score, said.probabilities = slot.answer(served)\n"
        '    self._emit(said, "labelled", at, offset, y)',
        "I5",
    ),
    Mutant(
        "features as they are when the label comes",
        f"{SHARD}._score_and_learn",
        "slot.tell(waiting.x, entity, at, served, y, said)",
        "slot.tell(waiting.x, entity, at, slot.ask(waiting.x, entity, at)[0], y, said)",
        "I5",
    ),
    Mutant(
        "a wall clock in the fold",
        f"{SHARD}.fold",
        "at = record.at",
        "at = max(record.at, __import__('time').time_ns() // 1_000_000)",
        "I3 I5",
    ),
    Mutant(
        "`x or default` on a False label",
        f"{SHARD}._label",
        "self._resolve(identity, label.at, offset, label.y)",
        "self._resolve(identity, label.at, offset, label.y or None)",
        "I5",
    ),
    Mutant(
        "expiry at the border of a batch",
        f"{SHARD}.fold",
        "if at > self._deadlines.due:",
        "if offset == offsets[0] and at > self._deadlines.due:",
        "I2 I3 I5",
    ),
    Mutant(
        "the order of a set reaches an output",
        f"{SHARD}._ask_others",
        "for slot in self.slots.values():",
        "for slot in set(self.slots.values()):",
        "I5",
    ),
    Mutant(
        "an entity is answered now by one model, now by the other",
        f"{SHARD}._observe",
        "place(self.canary.model, entity)",
        "place(self.canary.model, identity)",
        "I3 I5 I8",
    ),
    Mutant("a canary outlives its promotion", f"{SHARD}._crown", "self.canary = None", "pass", "I3 I5 I8"),
    Mutant(
        "a decision takes effect twice",
        f"{SHARD}._control",
        "if control.id in self._controls:",
        "if False:",
        "I3 I5 I8",
    ),
    Mutant(
        "an observation judges itself",
        "headrace.fold.outliers:Outliers.mark",
        "prediction.anomaly = score = float(trees.score_one(places))",
        "trees.learn_one(places)\n            prediction.anomaly = score = float(trees.score_one(places))",
        "I5",
    ),
    Mutant(
        "flags forgotten at another version",
        "headrace.fold.shard:Shard._apply",
        "watching(self.contract, self._outliers)",
        "watching(self.contract, None)",
        "I5",
    ),
    Mutant("a frozen model learns", f"{SLOT}.settle", "if self.frozen:", "if False:", "I5"),
    Mutant("a model is left half taught", f"{SLOT}.settle", "self._restore()", "pass", "I4 I5 I6"),
    Mutant(
        "an id from the clock",
        "services.ingest.processor:InboxProcessor.process",
        "partial(placed_id, topic, partition, offset)",
        "partial(placed_id, topic, partition, now_ms)",
        "I1",
    ),
    Mutant(
        "what is refused is forgotten",
        "services.ingest.processor:InboxProcessor.process",
        "outputs[self._rejected] = refused",
        "pass",
        "I1",
    ),
    Mutant(
        "offsets are committed before the outputs",
        f"{HOST}._commit",
        "_produce(transaction, outputs)\n",
        "transaction.commit_offset(self._group, place, run.position, self._generations[place])\n"
        "        transaction.commit()\n"
        "        transaction = self._broker.begin(self._producer)\n"
        "        _produce(transaction, outputs)\n",
        "I2",
    ),
    Mutant(
        "outputs are committed without offsets",
        f"{HOST}._commit",
        "transaction.commit_offset(self._group, place, run.position, self._generations[place])",
        "pass",
        "I1 I2",
    ),
    Mutant(
        "a failed transaction keeps the state",
        f"{HOST}.step",
        "self.runs.pop(place, None)",
        "pass",
        "I1 I2 I3 I5",
    ),
    Mutant(
        "a zombie may commit",
        "headrace.memory.broker:Transaction.commit_offset",
        "if generation != self._broker.generation(group, place):",
        "if False:",
        "I1 I2 I3",
    ),
    Mutant(
        "what is relived is emitted again",
        "headrace.step:Run.feed",
        "if self.position < self.silent_until:",
        "if False:",
        "I1 I2 I3 I5 I7 I8",
    ),
    Mutant(
        "a snapshot's pointer names a later offset",
        "headrace.recovery:Checkpoints.store",
        "Snapshot(run.position,",
        "Snapshot(run.position + 1,",
        "I2 I3 I5 I6 I7",
    ),
    Mutant(
        "a snapshot's pointer names an earlier offset",
        "headrace.recovery:Checkpoints.store",
        "Snapshot(run.position,",
        "Snapshot(run.silent_until,",
        "I2 I3 I5 I6 I7",
    ),
    Mutant(
        "a snapshot from beyond what is committed",
        "headrace.recovery:Checkpoints.restore",
        "return Run(processor, position=saved.offset, silent_until=committed)",
        "return Run(processor, position=committed, silent_until=committed)",
        "I2 I3 I4 I5 I7 I8",
    ),
    Mutant(
        "a summariser forgets what was closed",
        "services.monitor.processor:Summariser.restore",
        "self._ledger.past = read.total",
        "self._ledger.past = self._fresh(None)",
        "I4 I6 I7",
    ),
    Mutant(
        "a summariser counts batches, too",
        "services.monitor.processor:Summariser.process",
        "through = batch.offsets[-1]",
        "through = batch.offsets[-1]\n    self._ledger.past.records += 1",
        "I7",
    ),
)


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The product with this fault in it. Raises AssertionError if the text is not there exactly once."""
    module_name, _, path = mutant.where.partition(":")
    owner = getattr(importlib.import_module(module_name), path.partition(".")[0])
    name = path.rpartition(".")[2]
    function = vars(owner)[name]
    text = textwrap.dedent(inspect.getsource(function))
    assert text.count(mutant.old) == 1, f"{mutant.where} has {mutant.old!r} {text.count(mutant.old)} times"
    setattr(owner, name, _compiled(text.replace(mutant.old, mutant.new), function))
    try:
        yield
    finally:
        setattr(owner, name, function)


def _compiled(text: str, function: types.FunctionType) -> types.FunctionType:
    """A function of this text in the other one's place, with its globals and defaults."""
    assert function.__closure__ is None
    module = compile(ast.parse(text), f"<mutant of {function.__qualname__}>", "exec")
    (code,) = (const for const in module.co_consts if isinstance(const, types.CodeType))
    made = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made
