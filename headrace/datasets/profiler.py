"""Takes log records in and says what they are: figures per feature, labels, sources, and how good all of it is.

Observations and labels are joined by the very shard that scoring runs, without a model: so what counts as a duplicate,
as late or as unmatched is the contract's word, and memory is bounded as a shard's is. Pure: no clock, no reading; fed
with the chunks of a log (`headrace.history.chunks`), the result depends on the records alone.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from headrace.contracts.events import ContractAdopted, Control, Label, LogRecord, Observation, Outcome, Scalar
from headrace.contracts.stream import Field, StreamContract
from headrace.datasets.columns import DistinctColumn, NumberColumn, TextColumn
from headrace.datasets.measurement import FieldProfile, LabelProfile, Profile, Quality
from headrace.fold.counters import Counters
from headrace.fold.edits import controlling
from headrace.fold.log import decode
from headrace.fold.shard import Shard

MOST_FIELDS = 256
"""Features that are profiled; of more, the first ones."""
LG_ENTITY_REGISTERS = 14
"""A standard error of 0.8 %."""


class Profiler:
    """Profiles partitions one after the other: `begin`, `feed` as often as need be, `end`; at last the figures."""

    def __init__(self, most_fields: int = MOST_FIELDS) -> None:
        self._most_fields = most_fields
        self._fields: dict[str, _Feature] = {}
        self._unprofiled: dict[str, None] = {}
        self._present: tuple[StreamContract | None, list[_Feature]] = (None, [])
        self._labels = 0
        self._balance, self._numbers, self._delays = TextColumn(), NumberColumn(), NumberColumn()
        self._entities = DistinctColumn(LG_ENTITY_REGISTERS)
        self._sources = TextColumn()
        self._records = self._controls = self._undecodable = self._waiting = 0
        self._late = self._latest = 0
        self._first: int | None = None
        self._last: int | None = None
        self._counted = Counters()
        self._shard = Shard()
        self._watermark: int | None = None
        self._only_contracts = controlling(_contract_or_nothing)

    def begin(self, contract: ContractAdopted | None) -> None:
        """A partition begins. contract: in force before its first record; None: there is none yet."""
        self._shard, self._watermark = Shard(), None
        if contract is not None:
            self._shard.fold([contract], [-1])

    def feed(self, offsets: Sequence[int], values: Sequence[bytes | None]) -> None:
        """The partition's next chunk."""
        records, decoded, undecodable = decode(offsets, values)
        self._records += len(offsets)
        self._undecodable += len(undecodable)
        data = [record for record in records if isinstance(record, Observation | Label)]
        self._controls += len(records) - len(data)
        self._sources.add([record.source for record in data])
        self._note_times(data)
        for some, where in _parted(*self._only_contracts(records, decoded)):
            folded = self._shard.fold(some, where)
            answered = {prediction.offset for prediction in folded.predictions}
            observed = [
                record
                for record, offset in zip(some, where, strict=True)
                if isinstance(record, Observation) and offset in answered
            ]
            self._observe(observed)
            self._resolve([one for one in folded.outcomes if one.status == "labelled"])

    def end(self) -> None:
        """The partition ends."""
        counters = self._shard.counters
        for name in Counters.__struct_fields__:
            setattr(self._counted, name, getattr(self._counted, name) + getattr(counters, name))
        self._waiting += self._shard.pending

    def quality(self, left_out: int) -> Quality:
        """How good the records of all partitions are. left_out: how many do not belong."""
        counted = self._counted
        settled = counted.labelled + counted.second_labels + counted.corrected
        return Quality(
            records=self._records,
            left_out=left_out,
            controls=self._controls,
            refused=counted.refused + self._undecodable,
            observations=counted.observations,
            duplicates=counted.duplicates,
            labels=counted.labels,
            matched=counted.labelled,
            unmatched=counted.labels - settled,
            ignored=counted.second_labels,
            corrected=counted.corrected,
            expired=counted.expired,
            waiting=self._waiting,
            late=self._late,
            latest_ms=self._latest,
        )

    def profile(self) -> Profile:
        """What is in the records of all partitions."""
        return Profile(
            fields=[feature.figures() for feature in self._fields.values()],
            unprofiled=len(self._unprofiled),
            label=LabelProfile(
                self._labels, self._balance.top()[0], self._numbers.figures(), self._delays.figures()
            ),
            entities=self._entities.figure(),
            sources=self._sources.top()[0],
            first_at=self._first,
            last_at=self._last,
        )

    def _note_times(self, data: Sequence[Observation | Label]) -> None:
        watermark = self._watermark
        for record in data:
            at = record.at
            if watermark is None or at >= watermark:
                watermark = at
            else:
                self._late += 1
                self._latest = max(self._latest, watermark - at)
        self._watermark = watermark
        if data:
            times = [record.at for record in data]
            self._first = min(times) if self._first is None else min(self._first, *times)
            self._last = max(times) if self._last is None else max(self._last, *times)

    def _observe(self, observed: Sequence[Observation]) -> None:
        contract = self._shard.contract
        if not observed or contract is None:
            return
        self._entities.add([one.entity for one in observed])
        rows = [one.x for one in observed]
        for feature in self._features(contract):
            name = feature.name
            values = [row[name] for row in rows if name in row]
            feature.missing += len(rows) - len(values)
            feature.add(values)

    def _features(self, contract: StreamContract) -> "list[_Feature]":
        """The features under a contract; one keeps its type for life (`contracts.compatibility`)."""
        if self._present[0] is not contract:
            found = []
            for field in contract.fields:
                if not field.feature:
                    continue
                if field.name not in self._fields and len(self._fields) >= self._most_fields:
                    self._unprofiled[field.name] = None
                    continue
                found.append(self._fields.setdefault(field.name, _Feature(field)))
            self._present = (contract, found)
        return self._present[1]

    def _resolve(self, outcomes: Sequence[Outcome]) -> None:
        contract = self._shard.contract
        if not outcomes or contract is None:
            return
        truths = [one.y for one in outcomes if one.y is not None]
        self._labels += len(truths)
        if contract.task == "regression":
            self._numbers.add([float(y) for y in truths])
        else:
            self._balance.add([_text(y) for y in truths])
        self._delays.add([one.at - one.observed_at for one in outcomes])


class _Feature:
    """A feature's figures, by its type."""

    def __init__(self, field: Field) -> None:
        self.name = field.name
        self.missing = 0
        self._type = field.type
        self._count = self._unfit = 0
        self._fits: Callable[[Scalar], bool] = _FITS[field.type]
        self._numeric = field.type in ("integer", "number", "time")
        self._personal = field.personal
        self._numbers, self._texts, self._distinct = NumberColumn(), TextColumn(), DistinctColumn()

    def add(self, values: Sequence[Scalar]) -> None:
        fitting = [value for value in values if self._fits(value)]
        self._count += len(values)
        self._unfit += len(values) - len(fitting)
        if self._numeric and not self._personal:
            self._numbers.add([float(value) for value in fitting])
            return
        texts = [_text(value) for value in fitting]
        self._distinct.add(texts)
        if not self._personal:
            self._texts.add(texts)

    def figures(self) -> FieldProfile:
        top, error = self._texts.top()
        known = not self._numeric or self._personal
        return FieldProfile(
            self.name,
            self._type,
            self._count,
            self.missing,
            self._unfit,
            self._numbers.figures(),
            self._distinct.figure() if known else None,
            top,
            error,
        )


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: dict[str, Callable[[Scalar], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_number,
    "number": _is_number,
    "time": _is_number,
}


def _text(value: Scalar) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _contract_or_nothing(control: Control, _: int) -> LogRecord | None:
    return control if isinstance(control, ContractAdopted) else None


def _parted(
    records: Sequence[LogRecord], offsets: Sequence[int]
) -> Iterator[tuple[Sequence[LogRecord], Sequence[int]]]:
    """The records, parted so that each contract begins a part: under one contract the same features are expected."""
    begins = [place for place, record in enumerate(records) if isinstance(record, ContractAdopted)]
    borders = [0, *(place for place in begins if place), len(records)]
    for start, stop in pairwise(borders):
        if start < stop:
            yield records[start:stop], offsets[start:stop]
