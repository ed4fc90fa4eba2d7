"""Time travel to one prediction: what was received, what the models saw, who they were, what they said, what came.

The log is folded up to the observation, from the nearest snapshot below it, and the answer is computed again: it must
equal the stored one byte for byte. Beside it stands what the models of today would say to the same observation.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from headrace.contracts.codec import decode_log_record, encode
from headrace.contracts.events import Label, LogRecord, Observation, Outcome, Prediction
from headrace.contracts.topics import LOG, OUTCOMES, PREDICTIONS, topic
from headrace.errors import Unusable
from headrace.fold.parts import Waiting
from headrace.history import History
from headrace.replay.rebuild import LogRebuilder, Progress, unwatched
from headrace.replay.states import States
from headrace.replay.verify import Stretch, fold_again, place_below

_prediction = msgspec.json.Decoder(Prediction).decode
_outcome = msgspec.json.Decoder(Outcome).decode


class Found(NamedTuple):
    """An observation's place in a log."""

    stream: str
    partition: int
    offset: int
    observation: Observation


class Explainer:
    """Explains predictions of the streams that a history holds."""

    def __init__(
        self, history: History, states: States, rebuilder: LogRebuilder, progress: Progress = unwatched
    ) -> None:
        self._history = history
        self._states = states
        self._rebuilder = rebuilder
        self._progress = progress

    def find(self, stream: str, identity: str) -> Found | None:
        """The first observation of that id, as a repeated one is never answered; None if there is none.

        Reads the log from its start, as ids are in no order: some hundred thousand records a second.
        """
        log = topic(LOG, stream)
        needle = b'"id":' + encode(identity)
        for partition in range(self._history.partitions(log)):
            first, end = self._history.bounds(log, partition)
            for batch in self._history.read(log, partition, first, end):
                self._progress(batch.offsets[-1] + 1, end)
                for offset, value in zip(batch.offsets, batch.values, strict=True):
                    if value is not None and needle in value:
                        record = _record(value)
                        if isinstance(record, Observation) and record.id == identity:
                            return Found(stream, partition, offset, record)
        return None

    def at(self, stream: str, partition: int, offset: int) -> Found:
        """The observation at a place of the log, or that of the label there. Raises `Unusable` if it is neither."""
        place = f"{stream}/{partition}/{offset}"
        first, end = self._history.bounds(topic(LOG, stream), partition)
        if first <= offset < end:
            for batch in self._history.read(topic(LOG, stream), partition, offset, offset + 1):
                record = _record(batch.values[0])
                if isinstance(record, Observation):
                    return Found(stream, partition, offset, record)
                if isinstance(record, Label):
                    found = self.find(stream, record.id)
                    if found is None:
                        raise Unusable(
                            f"{place} is the label of {record.id}, no observation of which ever came"
                        )
                    return found
        raise Unusable(f"{place} is no observation and no label")

    def explain(self, found: Found, answered: int) -> dict[str, Any]:
        """Everything about one prediction (shape: docs/time-travel.md). answered: how far scoring has committed.

        Raises `Unusable` if the log no longer reaches back far enough.
        """
        stream, partition, offset, observation = found
        history = self._history
        start = self._states.at_or_below(topic(LOG, stream), partition, offset)
        _, shard = fold_again(
            history,
            Stretch(stream, partition, offset, start),
            compare=False,
            rebuilder=self._rebuilder,
            progress=self._progress,
        )
        fingerprints = shard.fingerprints()
        seen = shard.watch(observation, offset)
        stored = next(self._emitted(PREDICTIONS.name, found, _prediction), None)
        stored = stored if stored is not None and stored.offset == offset else None
        again = seen.prediction if seen is not None else None
        return {
            "id": observation.id,
            "stream": stream,
            "partition": partition,
            "offset": offset,
            "observation": msgspec.to_builtins(msgspec.structs.replace(observation, aside=None)),
            "prediction": msgspec.to_builtins(stored),
            "recomputed": msgspec.to_builtins(again),
            "equal": encode(stored) == encode(again) if stored is not None and again is not None else None,
            "models": _asked(seen, fingerprints),
            **self._became(found),
            "today": self._today(found, seen, answered),
        }

    def _became(self, found: Found) -> dict[str, Any]:
        """The outcome and the label, if there are any yet."""
        for outcome in self._emitted(OUTCOMES.name, found, _outcome):
            if outcome.id == found.observation.id and outcome.prediction_offset == found.offset:
                break
        else:
            return {"outcome": None, "label": None}
        return {
            "outcome": msgspec.to_builtins(outcome),
            "label": msgspec.to_builtins(self._label(found, outcome)),
        }

    def _label(self, found: Found, outcome: Outcome) -> Label | None:
        """The record that brought the truth; one from before its observation is looked for from the log's start."""
        if outcome.y is None:
            return None
        log, partition = topic(LOG, found.stream), found.partition
        start = (
            outcome.offset if outcome.offset > found.offset else self._history.bounds(log, partition).first
        )
        needle = b'"id":' + encode(found.observation.id)
        for batch in self._history.read(log, partition, start, outcome.offset + 1):
            for value in batch.values:
                if value is not None and needle in value:
                    record = _record(value)
                    if isinstance(record, Label) and record.id == found.observation.id:
                        return record
        return None

    def _today(self, found: Found, seen: Waiting | None, answered: int) -> dict[str, Any]:
        """What the models that stand on the stream now would say: on the features as served then, where they were."""
        stream, partition = found.stream, found.partition
        log = topic(LOG, stream)
        _, shard = fold_again(
            self._history,
            Stretch(stream, partition, answered, self._states.at_or_below(log, partition, answered)),
            compare=False,
            rebuilder=self._rebuilder,
            progress=self._progress,
        )
        served = {slot.model: x for slot, x, _ in seen.asked} if seen is not None else {}
        models = []
        for slot in shard.slots.values():
            x = served.get(slot.model)
            if x is None:
                x = slot.served(found.observation.x, found.observation.entity, shard.watermark)
            answer, score, probabilities = slot.answer(x)
            models.append(
                {"model": slot.model, "version": slot.version, "role": slot.role, "learned": slot.learned,
                 "answer": answer, "score": score, "probabilities": probabilities}
            )  # fmt: skip
        return {"offset": answered, "models": models}

    def _emitted(self, kind: str, found: Found, decode: Any) -> Iterator[Any]:
        """Predictions or outcomes that the record at an offset or a later one gave, in order."""
        name, partition = f"{found.stream}.{kind}", found.partition
        place = place_below(self._history, name, partition, found.offset, decode)
        for batch in self._history.read(name, partition, place, self._history.bounds(name, partition).end):
            for value in batch.values:
                event = decode(value)
                if event.offset >= found.offset:
                    yield event


def _asked(seen: Waiting | None, fingerprints: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "model": slot.model,
            "version": slot.version,
            "role": slot.role,
            "fingerprint": fingerprints.get(f"{slot.model}@{slot.version}"),
            "learned": slot.learned,
            "features": served,
            "answer": said.answer,
            "score": said.score,
            "probabilities": said.probabilities,
        }
        for slot, served, said in (seen.asked if seen is not None else ())
    ]


def _record(value: bytes | None) -> LogRecord | None:
    try:
        record: LogRecord = decode_log_record(value or b"")
        return record
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
