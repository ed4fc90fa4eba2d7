"""Decodes the records of a topic into columns.

Structs declare only what is looked at (msgspec skips the rest). The one for observations is made for the contract in
force, so that a good record is decoded and typed in one step. One that it refuses gets a second look, value by value:
the log may be written by others than ingest. Nothing here raises for a record that is no event of its topic.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import msgspec
import numpy as np
from msgspec.structs import astuple

from headrace.contracts import groups
from headrace.contracts.events import ContractAdopted, Control, Scalar
from headrace.contracts.statistics import ContractFacts
from headrace.contracts.stream import FieldType, StreamContract, from_dict
from headrace.errors import Unusable
from services.monitor.domain.columns import (
    CONTROL,
    LABEL,
    NUMERIC,
    OBSERVATION,
    TEXT_LENGTH,
    LogColumns,
    OutcomeColumns,
    PredictionColumns,
    RejectedColumns,
    SeenOutcome,
    SeenPrediction,
    SeenRejected,
)

CONTROLS = {kind.__struct_config__.tag for kind in get_args(Control) if kind is not ContractAdopted}
"""What control records say under `type`, but for contracts, which are looked into."""

KNOWN_KEPT = 1_000
"""Texts of a field that are remembered as not new; when there are more, none is called new any more."""

BAD = (msgspec.MsgspecError, UnicodeDecodeError, TypeError)


class AnyObservation(msgspec.Struct, tag="observation", gc=False):
    """An observation that the contract's struct would not take."""

    at: int
    x: dict[str, Scalar]
    aside: dict[str, Scalar] | None = None


class SeenContract(msgspec.Struct, tag="contract"):
    """A contract comes into force."""

    at: int
    version: int
    contract: dict[str, Any]


class SeenControl(msgspec.Struct, gc=False):
    """Another control record."""

    at: int
    type: str


class SeenLabel(msgspec.Struct, tag="label", gc=False):
    """What is counted of a label: it arrived."""

    at: int


def facts(contract: StreamContract, version: int) -> ContractFacts:
    """What the monitor keeps of a contract."""
    features = [field.name for field in contract.fields if field.feature]
    aside = groups.aside(contract)
    grouping = list(groups.grouping(contract))
    shown = {*features, *aside}
    return ContractFacts(
        version,
        contract.task,
        contract.partitions,
        features,
        {field.name: field.type for field in contract.fields if field.name in shown},
        aside,
        [field.name for field in grouping if field.sensitive],
        [field.name for field in grouping if field.segment],
    )


_decode_other = msgspec.json.Decoder(AnyObservation | SeenLabel | SeenContract).decode
_decode_control = msgspec.json.Decoder(SeenControl).decode


class LogReader:
    """Reads the log; a contract in it decides how the records after it are read."""

    def __init__(self) -> None:
        self.resume(None, {})

    def resume(self, facts: ContractFacts | None, known: Mapping[str, Iterable[str]]) -> None:
        """Continue under this contract. known: texts that the log has shown, by field."""
        self.facts = facts
        types: dict[str, FieldType] = {} if facts is None else facts.types
        aside = set() if facts is None else set(facts.aside)
        self.known = {name: dict.fromkeys(texts) for name, texts in known.items() if name in types}
        # Those of `x` first, and in each struct the numbers first.
        order = sorted(types, key=lambda name: (name in aside, types[name] not in NUMERIC))
        self._fields = [(name, types[name]) for name in order]
        x = _struct("X", [(name, types[name]) for name in order if name not in aside])
        beside = _struct("Aside", [(name, types[name]) for name in order if name in aside])
        self._beside_none = (None,) * len(aside)
        self._observation = msgspec.defstruct(
            "SeenObservation",
            [("at", int), ("x", x), ("aside", beside | None, None)],
            tag="observation",
            gc=False,
        )
        self._decode = msgspec.json.Decoder(self._observation | SeenLabel | SeenContract).decode

    def read(self, offsets: Sequence[int], values: Sequence[bytes | None]) -> Iterator[LogColumns]:
        """The batch in runs: one, and one more for every contract in it."""
        begin = 0
        while begin < len(values):
            columns = self._read(offsets[begin:], values[begin:])
            yield columns
            begin += len(columns.at)

    def _read(self, offsets: Sequence[int], values: Sequence[bytes | None]) -> LogColumns:
        """The records up to the next contract."""
        at: list[int | None] = []
        kinds = bytearray()
        given: list[tuple[Any, ...]] = []
        mistyped: list[tuple[int, str]] = []
        has_aside = bool(self._beside_none)
        adopted: ContractFacts | None = None
        decode, observation = self._decode, self._observation
        for value in values:
            try:
                record = decode(value)  # type: ignore[arg-type]  # None raises TypeError
            except BAD:
                record = _other(value)
            kind = type(record)
            at.append(None if record is None else record.at)
            if kind is observation:
                kinds.append(OBSERVATION)
                known = astuple(record.x)
                if has_aside:
                    known += self._beside_none if record.aside is None else astuple(record.aside)
                given.append(known)
            elif kind is SeenLabel:
                kinds.append(LABEL)
            elif kind is AnyObservation:
                kinds.append(OBSERVATION)
                given.append(self._second_look(record, len(given), mistyped))
            else:
                kinds.append(CONTROL)
                if kind is SeenContract and (adopted := _adopted(record)) is not None:
                    break
        columns = LogColumns(offsets[: len(at)], at, self.facts)
        columns.kinds = np.frombuffer(bytes(kinds), np.int8)
        columns.observed = np.flatnonzero(columns.kinds == OBSERVATION)
        columns.mistyped, columns.adopted = mistyped, adopted
        for (name, of), column in zip(self._fields, zip(*given, strict=True), strict=False):
            if of in NUMERIC:
                columns.numbers[name] = np.array(column, np.float64)
            elif of == "boolean":
                columns.texts[name] = [None if one is None else "true" if one else "false" for one in column]
            else:
                columns.texts[name] = column
        columns.new = self._find_new(columns)
        if adopted is not None:
            self.resume(adopted, self.known)
        return columns

    def _find_new(self, columns: LogColumns) -> dict[int, list[tuple[str, str]]]:
        new: dict[int, list[tuple[str, str]]] = {}
        for name, texts in columns.texts.items():
            known = self.known.setdefault(name, {})
            if len(known) >= KNOWN_KEPT or not (unknown := set(texts) - known.keys() - {None}):
                continue
            for place, text in enumerate(texts):
                if text is not None and text in unknown:
                    unknown.discard(text)
                    if len(known) < KNOWN_KEPT and len(text) <= TEXT_LENGTH:
                        known[text] = None
                        new.setdefault(int(columns.observed[place]), []).append((name, text))
        return new

    def _second_look(
        self, record: AnyObservation, place: int, mistyped: list[tuple[int, str]]
    ) -> tuple[Any, ...]:
        values = {**(record.aside or {}), **record.x}
        fit: list[Scalar | None] = []
        for name, kind in self._fields:
            value = values.get(name)
            if value is not None and not _fits(value, kind):
                mistyped.append((place, name))
                value = None
            fit.append(value)
        return tuple(fit)


def read_predictions(offsets: Sequence[int], values: Sequence[bytes | None]) -> PredictionColumns:
    """A batch of predictions."""
    return PredictionColumns(offsets, _records(_decode_prediction, values), _sizes(values))


def read_outcomes(offsets: Sequence[int], values: Sequence[bytes | None]) -> OutcomeColumns:
    """A batch of outcomes."""
    return OutcomeColumns(offsets, _records(_decode_outcome, values), _sizes(values))


def read_rejected(offsets: Sequence[int], values: Sequence[bytes | None]) -> RejectedColumns:
    """A batch of rejects."""
    return RejectedColumns(offsets, _records(_decode_rejected, values))


_decode_prediction = msgspec.json.Decoder(SeenPrediction).decode
_decode_outcome = msgspec.json.Decoder(SeenOutcome).decode
_decode_rejected = msgspec.json.Decoder(SeenRejected).decode


READERS = {"predictions": read_predictions, "outcomes": read_outcomes, "rejected": read_rejected}
"""By kind of topic, but for the log: how it is read depends on what was read before."""


def _records(decode: Any, values: Sequence[bytes | None]) -> list[Any]:
    try:
        return list(map(decode, values))
    except BAD:
        return [_one(decode, value) for value in values]


def _sizes(values: Sequence[bytes | None]) -> list[int]:
    return [0 if value is None else len(value) for value in values]


def _one(decode: Any, value: bytes | None) -> Any:
    try:
        return decode(value)
    except BAD:
        return None


def _struct(name: str, fields: list[tuple[str, FieldType]]) -> Any:
    """Keys need not be Python names, so members are numbered."""
    kinds = {"string": str, "boolean": bool}
    return msgspec.defstruct(
        name,
        [(f"m{n}", kinds.get(kind, float) | None, None) for n, (_, kind) in enumerate(fields)],
        rename={f"m{n}": key for n, (key, _) in enumerate(fields)},
        gc=False,
    )


def _other(value: bytes | None) -> Any:
    """An observation whose values have other types, a control record, or None."""
    record = _one(_decode_other, value)
    if record is None:
        record = _one(_decode_control, value)
        if record is not None and record.type not in CONTROLS:
            return None  # of a kind that nobody knows
    return record


def _adopted(record: SeenContract) -> ContractFacts | None:
    """One that cannot be read is the shard's to refuse, and changes nothing here."""
    try:
        return facts(from_dict(record.contract), record.version)
    except Unusable:
        return None


def _fits(value: Scalar, kind: FieldType) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)
