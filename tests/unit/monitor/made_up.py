"""A made-up stream for the monitor's tests, and what a dumb count over it gives.

The count shares no code with the monitor: plain loops over plain dictionaries, and ROC AUC by comparing all pairs of
ranks. Scores are multiples of 1/1000, so that the monitor's histogram is exact too.
"""

import random
from collections import Counter, defaultdict
from math import log

from headrace.contracts import stream as contracts
from headrace.contracts.codec import encode
from headrace.contracts.events import (
    Answer,
    ContractAdopted,
    Label,
    Observation,
    Outcome,
    Prediction,
    Rejected,
)

START = 1_357_000_000_000 - 1_357_000_000_000 % 3_600_000
HOUR = 3_600_000
FIELDS = ("carrier", "dep_hour", "distance", "sex")


def contract(name, partitions):
    fields = [
        contracts.Field("carrier", "string", required=True, segment=True),
        contracts.Field("dep_hour", "integer"),
        contracts.Field("distance", "number"),
        contracts.Field("sex", "string", feature=False, sensitive=True),
    ]
    return contracts.check(contracts.StreamContract(name, "binary", fields, partitions=partitions))


def made_up(name, partitions, per_partition, seed=7, spoilt=()):
    """Records by kind and partition, in log order. spoilt: hours (counted from START) in which models guess."""
    rng = random.Random(seed)
    declared = contract(name, partitions)
    kinds = {kind: [[] for _ in range(partitions)] for kind in ("log", "predictions", "outcomes", "rejected")}
    for place in range(partitions):
        kinds["log"][place].append(ContractAdopted("c1", START, 1, declared.to_dict()))
        waiting = []
        for number in range(per_partition):
            at = START + number * 20_000 + rng.randrange(5_000) * partitions
            identity = f"{place}-{number}"
            x = {"carrier": rng.choice("ABC"), "dep_hour": number % 24, "distance": rng.random()}
            if rng.random() < 0.1:
                del x["dep_hour"]
            if rng.random() < 0.02:
                del x["distance"]
            aside = {"sex": rng.choice("FM")} if rng.random() < 0.9 else None
            groups = {"carrier": x["carrier"], **(aside or {})}
            kinds["log"][place].append(Observation(identity, "e", at, x, "", aside))
            truth = rng.random()
            y = rng.random() < truth
            hour = (at - START) // HOUR
            score = round(rng.random() if hour in spoilt else truth, 3)
            said = Prediction(identity, "e", at, number, "lr", 1, score >= 0.5, score, groups=groups)
            other = round(rng.random(), 3)
            said.challengers = [Answer("tree", 2, other >= 0.5, other) if number % 5 else Answer("tree", 2)]
            said.outliers = ["distance", "dep_hour"][: number % 3] or None
            said.anomalous = number % 4 == 0
            kinds["predictions"][place].append(said)
            waiting.append((at + rng.randrange(30_000, 4 * HOUR), number, at, identity, y, said))
            if rng.random() < 0.01:
                rule, field = rng.choice([("range", "distance"), ("type", "dep_hour"), ("json", "")])
                kinds["rejected"][place].append(Rejected(at, rule, "bad", b"x", field))
        for resolved, number, at, identity, y, said in sorted(waiting, key=lambda entry: entry[:2]):
            kinds["log"][place].append(Label(identity, "e", resolved, y))
            expired = number % 50 == 0
            kinds["outcomes"][place].append(
                Outcome(
                    identity, "e", resolved, "expired" if expired else "labelled", number, at, number,
                    None if expired else y, None, said.model, said.version, said.answer, said.score, None,
                    said.challengers, said.groups,
                )
            )  # fmt: skip
        kinds["log"][place][1:] = sorted(kinds["log"][place][1:], key=lambda record: record.at)
    return kinds


def as_messages(records):
    return [{"key": b"e", "value": encode(record)} for record in records]


def auc(pairs):
    """The share of (positive, negative) pairs that are in order, ties half."""
    negatives = Counter(score for y, score in pairs if not y)
    positives = Counter(score for y, score in pairs if y)
    if not negatives or not positives:
        return None
    wins = 0.0
    for score, count in positives.items():
        for other, others in negatives.items():
            wins += count * others * (1.0 if other < score else 0.5 if other == score else 0.0)
    return wins / (sum(positives.values()) * sum(negatives.values()))


def counted(kinds, length_ms):
    """By window start: the counts, delays and scored answers that the records hold."""
    windows = defaultdict(_nothing)
    for kind, partitions in kinds.items():
        for record in (record for run in partitions for record in run):
            window = windows[record.at - record.at % length_ms]
            window["counts"][type(record).__name__] += 1
            if kind == "log" and isinstance(record, Observation):
                values = {**record.x, **(record.aside or {})}
                window["missing"].update(field for field in FIELDS if field not in values)
                for field, value in values.items():
                    window["values"][field].append(value)
            elif kind == "predictions":
                window["flagged"] += bool(record.outliers or record.anomalous)
                window["anomalous"] += record.anomalous
                window["outliers"].update(record.outliers or ())
            elif kind == "rejected":
                window["rejected"][record.rule, record.field] += 1
            elif kind == "outcomes":
                window["statuses"][record.status] += 1
                if record.status == "labelled":
                    window["delays"].append(record.at - record.observed_at)
                    for said in (record, *record.challengers):
                        if said.answer is None:
                            window["unanswered"][said.model] += 1
                        else:
                            window["scored"][said.model].append((record.y, said.score, said.answer))
                            for of in record.groups.items():
                                window["grouped"][said.model, *of].append((record.y, said.score, said.answer))
    return dict(windows)


def _nothing():
    return {
        "counts": Counter(),
        "missing": Counter(),
        "flagged": 0,
        "anomalous": 0,
        "outliers": Counter(),
        "rejected": Counter(),
        "statuses": Counter(),
        "delays": [],
        "scored": defaultdict(list),
        "unanswered": Counter(),
        "values": defaultdict(list),
        "grouped": defaultdict(list),
    }


def log_loss(scored):
    return -sum(log(max(score if y else 1 - score, 1e-15)) for y, score, _ in scored) / len(scored)
