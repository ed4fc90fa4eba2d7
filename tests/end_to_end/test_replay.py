"""`headrace replay` against a running system: real flights, real Kafka, and the numbers that scoring itself has."""

import json
import math
from pathlib import Path

import pytest
import yaml

from headrace.cli.flights import document
from headrace.cli.flights.source import read_events
from headrace.contracts.topics import OUTCOMES, topic
from tests import oracles
from tests.end_to_end.system import System
from tests.end_to_end.test_any_stream import command
from tests.end_to_end.test_flights import by_http, create, read

pytestmark = pytest.mark.broker

FLIGHTS = 3_000
STREAM = "replayed"


def test_replays_of_real_flights_agree_with_what_scoring_said(system: System, tmp_path: Path) -> None:
    create(system, STREAM)
    events = list(read_events(FLIGHTS))
    by_http(system, STREAM, events)
    system.wait(lambda: system.total(STREAM)["labels"] == sum(event.is_label for event in events))
    lateness = tmp_path / "lateness.yaml"
    lateness.write_text(document("challenger.yaml"), encoding="utf-8")
    page = tmp_path / "report.html"
    words = ["replay", STREAM, "--model", "live", "--model", str(lateness)]
    made = command(system, *words, "--threshold", "0.3", "--html", str(page))

    # The champion's own specification over the whole log is the champion.
    [live] = system.total(STREAM)["models"]
    replayed, other, served = made["models"]
    assert (replayed["name"], other["name"], served["name"]) == ("flights-logistic", "lateness", "served")
    for name in ("count", "roc_auc", "log_loss", "brier"):
        assert replayed["metrics"][name] == pytest.approx(live["metrics"]["overall"][name], rel=1e-9)
    assert served["metrics"] == {
        name: pytest.approx(value, rel=1e-9) for name, value in live["metrics"]["overall"].items()
    }
    total = system.total(STREAM)
    assert made["counted"]["observations"] == FLIGHTS
    assert {name: made["counted"][name] for name in ("labelled", "expired")} == {
        name: total[name] for name in ("labelled", "expired")
    }
    assert made["happened"]["labelled"] == made["counted"]["labelled"]
    verdicts = {(one["model"], one["against"]): one for one in made["differences"]}
    assert verdicts["flights-logistic", "served"]["verdict"] == "same"

    # What happened, by somebody else's arithmetic over S.outcomes.
    outcomes = [json.loads(value) for _, value in read(system, topic(OUTCOMES, STREAM))]
    labelled = [one for one in outcomes if one["status"] == "labelled"]
    truth, scores = [one["y"] for one in labelled], [one["score"] for one in labelled]
    assert served["metrics"]["log_loss"] == pytest.approx(oracles.log_loss(truth, scores))
    assert served["metrics"]["roc_auc"] == pytest.approx(oracles.roc_auc(truth, scores), abs=2e-3)
    cut = next(one for one in replayed["thresholds"] if one["threshold"] == 0.3)
    assert cut["tp"] == sum(y and score >= 0.3 for y, score in zip(truth, scores, strict=True))
    assert "<title>What if: replayed</title>" in page.read_text(encoding="utf-8")

    # The challenger is what it would be if it were deployed: a second stream, on which it is the champion.
    create(system, "lived")
    system.client.create_model("lateness", yaml.safe_load(document("challenger.yaml")))
    system.client.deploy("lived", "lateness", role="challenger")
    by_http(system, "lived", events)
    system.wait(lambda: system.total("lived")["labels"] == made["fold"]["labels"])
    lived = next(one for one in system.total("lived")["models"] if one["model"] == "lateness")
    assert other["metrics"]["log_loss"] == pytest.approx(lived["metrics"]["overall"]["log_loss"], rel=1e-9)
    assert math.isfinite(verdicts["lateness", "served"]["mean"])

    # A range with a warm-up counts its own flights only, of which the past answered all.
    ranged = command(system, *words, "--warm-up", "0", "--from", "2013-01-02", "--to", "2013-01-03T12:00:00Z")
    inside = [one for one in labelled if 1_357_084_800_000 <= one["observed_at"] < 1_357_214_400_000]
    assert ranged["counted"]["labelled"] == ranged["happened"]["labelled"] == len(inside)
    assert ranged["models"][0]["metrics"] == ranged["models"][2]["metrics"]
    assert not list((system.home.path / "replays").iterdir())
