"""Cost and value through the real system: the dearer model is seen to be dearer, and values equal a plain count."""

import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.contracts.codec import encode
from headrace.contracts.events import Outcome
from headrace.contracts.topics import OUTCOMES, topic
from headrace.kafka.tail import Tail
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import command

pytestmark = pytest.mark.broker

START, HOUR = 1_700_000_000_000 - 1_700_000_000_000 % 3_600_000, 3_600_000
PAYOFF = {"tp": 5.0, "fp": -1.0, "tn": 0.25, "fn": -20.0}
CHANGED = PAYOFF | {"fn": -2.0}
EVENTS = 2_000
LIGHT = {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]}
HEAVY = {"model": {"class": "forest.ARFClassifier", "parameters": {"n_models": 10, "seed": 1}}}


def contract(name: str) -> dict[str, Any]:
    fields = [{"name": name, "type": "number", "required": True} for name in ("a", "b")]
    return {"name": name, "task": "binary", "fields": fields, "label": {"name": "y"}}


def events() -> list[bytes]:
    """Observations over four hours and their labels, each a minute later."""
    rng, found = random.Random(11), []
    for number in range(EVENTS):
        at, x = START + number * 4 * HOUR // EVENTS, {"a": rng.random(), "b": rng.random()}
        found.append((at, {"id": str(number), "at": at, **x}))
        y = x["a"] + 0.2 * rng.random() > x["b"]
        found.append((at + 60_000, {"id": str(number), "at": at + 60_000, "label": y}))
    return [msgspec.json.encode(event) for _, event in sorted(found, key=lambda pair: pair[0])]


def outcomes(system: System, stream: str) -> list[Outcome]:
    tail, found = Tail(system.bootstrap, topic(OUTCOMES, stream), start="earliest"), []
    while not tail.caught_up():
        found += [msgspec.json.decode(one.value or b"", type=Outcome) for one in tail.read(5_000, 1.0)]
    tail.close()
    return found


def one_by_one(found: list[Outcome], payoff: dict[str, float]) -> dict[int, Counter[str]]:
    """The value of each model's answers by window, added up one by one."""
    values: dict[int, Counter[str]] = defaultdict(Counter)
    for outcome in found:
        for said in (outcome, *outcome.challengers):
            if outcome.y is not None and said.answer is not None:
                name = ("t" if outcome.y == said.answer else "f") + ("p" if said.answer else "n")
                values[outcome.at - outcome.at % HOUR][said.model] += payoff[name]
    return values


def test_each_model_has_its_cost_and_the_value_of_its_answers(system: System, tmp_path: Path) -> None:
    stream, payoff = "valued", tmp_path / "payoff.json"
    payoff.write_bytes(encode(PAYOFF))
    system.client.create_stream(contract(stream))
    for name, specification in (("light", LIGHT), ("heavy", HEAVY)):
        system.client.create_model(name, specification)
    system.client.deploy(stream, "light", payoff=PAYOFF)
    system.client.deploy(stream, "heavy", role="challenger")
    assert system.client.publish(stream, events(), "events").rejected == []
    system.wait(lambda: system.total(stream)["labelled"] == EVENTS)

    def rows(ledger: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {row["model"]: row for row in ledger["models"]}

    def known() -> bool:
        total = rows(command(system, "value", stream)["total"])
        return (
            len(total) == 2
            and all(row["decisions"] == EVENTS and row["cpu_seconds"] > 0 for row in total.values())
            and total["light"]["valued"] >= EVENTS - 1
        )  # it has said nothing before it learnt anything

    system.wait(known)
    found = outcomes(system, stream)
    shown = command(system, "value", stream)
    total = rows(shown["total"])
    assert total["heavy"]["cpu_seconds"] > 3 * total["light"]["cpu_seconds"]
    assert total["heavy"]["state_bytes"] > 0
    assert (total["light"]["role"], total["heavy"]["role"]) == ("champion", "challenger")
    assert (total["heavy"]["value"], total["heavy"]["return"]) == (None, None)
    expected = one_by_one(found, PAYOFF)
    assert len(expected) >= 4
    for window in shown["windows"]:
        assert rows(window)["light"]["value"] == pytest.approx(expected[window["start"]]["light"])
    assert total["light"]["value"] == pytest.approx(sum(one["light"] for one in expected.values()))
    written = sum(len(encode(outcome)) for outcome in found)
    assert sum(one["bytes_written"] for one in (*total.values(), shown["total"]["shared"])) > written

    # What is said later holds for the past, for every model that has nothing of its own.
    payoff.write_bytes(encode(CHANGED))
    command(system, "model", "payoff", stream, str(payoff), "--reason", "a miss is not so dear")
    later = one_by_one(found, CHANGED)
    system.wait(lambda: rows(command(system, "value", stream)["total"])["heavy"]["value"] is not None)
    again = rows(command(system, "value", stream)["total"])
    assert again["heavy"]["value"] == pytest.approx(sum(one["heavy"] for one in later.values()))
    assert again["light"]["value"] == pytest.approx(total["light"]["value"])
    newest = command(system, "audit", "list", "--stream", stream)["records"][0]
    assert (newest["action"], newest["after"], newest["why"]) == ("payoff", CHANGED, "a miss is not so dear")
