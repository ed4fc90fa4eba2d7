"""The test kit: hold your own processor to the laws that Headrace's own keep.

A host may cut a log into batches as it likes, kill a process anywhere and start it from a snapshot, and be handed the
same record twice. A processor that is a function of its log does not notice; one that is not loses or doubles
something, some day. `laws` finds that out beforehand, from a history and a factory; `builders` make the history;
`clock` is a clock that goes when you say so; `adapter` dresses anything that folds records up as a processor.

It needs no test framework: a broken law is an `AssertionError` that says which law, and shows the first difference.
Nothing that serves events imports it.

>>> import json
>>> from headrace.processor import Batch, Outputs
>>> from headrace.testing import builders, laws
>>> class Counts:
...     "How many observations each entity had."
...     def __init__(self) -> None:
...         self.seen: dict[str, int] = {}
...     def process(self, batch: Batch) -> Outputs:
...         out = []
...         for value in batch.values:
...             entity = json.loads(value)["entity"]
...             self.seen[entity] = self.seen.get(entity, 0) + 1
...             out.append({"key": entity.encode(), "value": b"%d" % self.seen[entity]})
...         return {("counts", batch.partition): out}
...     def snapshot(self) -> bytes:
...         return json.dumps(self.seen).encode()
...     def restore(self, state: bytes) -> None:
...         self.seen = json.loads(state)
...     def fingerprints(self) -> dict[str, str]:
...         return {}
>>> history = builders.batch([builders.observation(f"o{i}", entity="ab"[i % 2]) for i in range(20)])
>>> laws.batches_change_nothing(Counts, history)
>>> laws.restoring_changes_nothing(Counts, history)

It keeps these two. It does not refuse a damaged snapshot by name, counts a repeated record twice, and would remember
every entity for ever:

>>> laws.damage_is_refused(Counts, history)
Traceback (most recent call last):
    ...
headrace.testing.laws.LawBroken: damage is refused: a snapshot cut to 0 of 18 bytes raised JSONDecodeError, not Unusable
>>> laws.duplicates_change_nothing(Counts, history)
Traceback (most recent call last):
    ...
headrace.testing.laws.LawBroken: duplicates change nothing: with 20 repeats there are 40 messages for counts/0, not 20
  first difference, at 1:
    without: {'key': b'b', 'value': b'1'}
    with 20 repeats: {'key': b'a', 'value': b'2'}
>>> crowd = builders.batch([builders.observation(f"o{i}", entity=f"e{i}") for i in range(600)])
>>> laws.memory_is_bounded(Counts, crowd, full_after=100)
Traceback (most recent call last):
    ...
headrace.testing.laws.LawBroken: memory is bounded: bytes of a snapshot still grew
    in records 100 to 350: at most 3740
    in records 350 to 600: at most 6490
"""
