"""The chaos checker and oracle by themselves: each planted violation is found, and a faultless history is let pass."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import ContractAdopted, Label, ModelDeployed, Observation
from headrace.processor import Batch
from services.scoring.processor import ScoringProcessor
from tests.chaos import checker, stream
from tests.chaos.follower import Logs, Record
from tests.chaos.load import Sent

LOG = ("chaos.log", 0)
PREDICTIONS = ("chaos.predictions", 0)
OUTCOMES = ("chaos.outcomes", 0)
INBOX = ("chaos.inbox", 0)
REJECTED = ("chaos.rejected", 0)


def log_values() -> list[bytes]:
    """Both models; labels in time, early, second, late and for nothing; a repeated observation."""
    values = [encode(ContractAdopted("contract", 0, 1, stream.CONTRACT))]
    for model, specification in stream.MODELS.items():
        role = "champion" if model == stream.CHAMPION else "challenger"
        values.append(encode(ModelDeployed(f"deploy/{model}", 0, model, 1, specification, role)))
    for number in range(300):
        at = 1_700_000_000_000 + 100 * number
        x = {"amount": float(number % 17 - 8), "hour": number % 24, "channel": ["web", "shop"][number % 2]}
        name = f"inbox-{number}" if number % 2 else f"http-{number}"
        if number % 7 == 0:
            values.append(encode(Label(name, "c", at, number % 3 == 0)))
        values.append(encode(Observation(name, "c", at, x)))
        if number % 11 == 0 and number % 2 == 0:
            values.append(encode(Observation(name, "c", at, x)))
        if number % 5:
            values.append(encode(Label(name, "c", at + 50, number % 3 == 0)))
    values.append(encode(Label("http-0", "c", at, True)))
    values.append(encode(Label("http-nothing", "c", at, True)))
    values.append(encode(Observation("http-last", "c", at + 60_000, x)))
    values.append(encode(Label("http-10", "c", at + 60_001, False)))
    return values


def history() -> tuple[Logs, Sent]:
    """A log, what Headrace makes of it, and inbox and rejects to go with it."""
    values = log_values()
    processor = ScoringProcessor(*LOG)
    out = processor.process(Batch(*LOG, range(len(values)), [b"c"] * len(values), values))
    logs: Logs = {LOG: _records(values)}
    for place in (PREDICTIONS, OUTCOMES):
        logs[place] = _records([message["value"] or b"" for message in out[place]])
    sent, inbox = Sent(), []
    for value in values[3:]:
        record = json.loads(value)
        names = sent.labels if record["type"] == "label" else sent.observations
        names.add(record["id"])
        if record["id"].startswith("inbox-"):
            kind = {"label": record["y"]} if record["type"] == "label" else {}
            inbox.append(json.dumps({"id": record["id"], **kind}).encode())
    inbox.append(b"poison")
    sent.placed.add((0, len(inbox) - 1))
    sent.refused.add("http-poison-1-")
    logs[INBOX] = _records(inbox)
    logs[REJECTED] = _records(
        [_reject(b"poison", f"chaos.inbox/0/{len(inbox) - 1}"), _reject(b'{"id": "http-poison-1-"', "http")]
    )
    return logs, sent


def _records(values: list[bytes]) -> list[Record]:
    return [Record(offset, b"c", value, 0.0, 0.0) for offset, value in enumerate(values)]


def _reject(original: bytes, origin: str) -> bytes:
    return json.dumps({"original": base64.b64encode(original).decode(), "origin": origin}).encode()


def verdict_of(logs: Logs, sent: Sent) -> checker.Verdict:
    return checker.check(logs, stream.STREAM, sent, checker.expected(logs, stream.STREAM))


def test_a_faultless_history_is_let_pass() -> None:
    logs, sent = history()
    verdict = verdict_of(logs, sent)
    assert verdict.findings == {}
    statuses = {json.loads(record.value or b"")["status"] for record in logs[OUTCOMES]}
    assert statuses == {"labelled", "expired", "ignored", "unmatched"}
    assert any("answer" in json.loads(r.value or b"")["challengers"][0] for r in logs[PREDICTIONS])


def _changed(place: tuple[str, int], number: int, **changes: Any) -> Callable[[Logs, Sent], None]:
    def change(logs: Logs, _: Sent) -> None:
        record = logs[place][number]
        value = json.dumps({**json.loads(record.value or b""), **changes}).encode()
        logs[place][number] = record._replace(value=value)

    return change


def _next_double(logs: Logs, _: Sent) -> None:
    record = logs[PREDICTIONS][200]
    document = json.loads(record.value or b"")
    document["score"] *= 1 + 2**-52
    logs[PREDICTIONS][200] = record._replace(value=json.dumps(document).encode())


@pytest.mark.parametrize(
    ("harm", "count"),
    [
        (lambda logs, _: logs[PREDICTIONS].pop(100), "lost"),
        (lambda logs, _: logs[PREDICTIONS].append(logs[PREDICTIONS][100]), "doubled"),
        (lambda logs, _: logs[OUTCOMES].append(logs[OUTCOMES][100]), "doubled"),
        (lambda _, sent: sent.observations.add("http-unheard-of"), "lost"),
        (lambda _, sent: sent.labels.add("http-unheard-of"), "lost"),
        (_next_double, "wrong"),
        (_changed(OUTCOMES, 50, y=None), "wrong"),
        (_changed(PREDICTIONS, 250, model="tree"), "wrong"),
        (lambda logs, _: logs[OUTCOMES].reverse(), "wrong"),
        (lambda logs, _: logs[INBOX].insert(0, logs[INBOX][0]._replace(offset=-1)), "lost"),
        (lambda logs, _: logs[INBOX].pop(0), "doubled"),
        (lambda logs, _: logs[REJECTED].pop(0), "lost"),
        (lambda logs, _: logs[REJECTED].append(logs[REJECTED][0]), "doubled"),
        (lambda logs, _: logs[REJECTED].pop(1), "lost"),
        (lambda logs, _: logs[REJECTED].append(_records([_reject(b"{}", "chaos.log/0/9")])[0]), "wrong"),
    ],
)
def test_a_planted_violation_is_found(harm: Callable[[Logs, Sent], Any], count: str) -> None:
    logs, sent = history()
    harm(logs, sent)
    assert getattr(verdict_of(logs, sent), count) > 0


def test_a_reader_that_saw_something_else_is_found() -> None:
    during, after = history()[0], history()[0]
    verdict = checker.Verdict()
    checker.check_readers(verdict, during, after)
    assert verdict.findings == {}
    during[PREDICTIONS][3] = during[PREDICTIONS][3]._replace(value=b"{}")
    checker.check_readers(verdict, during, after)
    assert len(verdict.findings) == 1


def test_an_offset_short_of_the_end_is_found() -> None:
    verdict = checker.Verdict()
    checker.check_committed(verdict, {0: 5, 1: 7}, {0: 5, 1: 7})
    assert verdict.findings == {}
    checker.check_committed(verdict, {0: 5, 1: 6}, {0: 5, 1: 7})
    assert len(verdict.findings) == 1


def test_live_metrics_are_those_of_the_plain_loop_and_others_are_found() -> None:
    from services.scoring.views import stream_view

    logs, _ = history()
    processor = ScoringProcessor(*LOG)
    records = logs[LOG]
    processor.process(
        Batch(*LOG, *([getattr(r, name) for r in records] for name in ("offset", "key", "value")))
    )
    shown = stream_view("chaos", {0: processor.shard})
    replayed = checker.expected(logs, stream.STREAM)
    verdict = checker.Verdict()
    checker.check_metrics(verdict, shown, replayed)
    assert verdict.findings == {}
    shown["total"]["models"][1]["metrics"]["overall"]["roc_auc"] += 1e-6
    shown["partitions"]["0"]["labelled"] += 1
    checker.check_metrics(verdict, shown, replayed)
    assert len(verdict.findings["live metrics differ from the plain loop"]) == 2
