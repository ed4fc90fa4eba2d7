"""Records for the laws, one at a time: `random` ones that collide in every way, `hostile` ones that are all different.

Makers of random records take a `random.Random`: Hypothesis hands in one that it controls, the hash seed law a seeded
one. Makers of hostile records take the record's number.
"""

import json
from random import Random

from headrace.contracts.codec import encode
from headrace.contracts.events import Answer, Label, Rejected
from headrace.contracts.outliers import OutlierSpec
from headrace.contracts.stream import Field, LabelSpec, Limits
from headrace.testing import builders
from tests.unit.monitor import made_up

# -- a stream's log --------------------------------------------------------------------------------------------

FEATURES = [
    {"name": "late", "kind": "rate", "of": "label", "by": ["entity"], "window_seconds": 60, "max_keys": 40},
    {"name": "seen", "kind": "count", "by": ["entity"], "window_seconds": 30, "max_keys": 40},
    {"name": "before", "kind": "last", "of": "a", "by": ["entity"], "max_keys": 40},
]
LOGISTIC = {**builders.LOGISTIC_REGRESSION, "features": FEATURES}
TREE = {"model": [{"class": "tree.HoeffdingTreeClassifier", "parameters": {"grace_period": 5}}]}
PRIOR = {"model": ["dummy.PriorClassifier"]}
NARROW = Limits(pending=8, remembered=12, early_labels=3)
"""Bounds that a short history meets."""
ROOMY = Limits(pending=1000, remembered=1000, early_labels=1000)
"""Bounds that no history here meets."""
WATCHING = OutlierSpec(["bounds"], fence=1.5, window=20)
"""Trees have their laws by themselves: thousands of nodes in every snapshot would make the shard's slow."""


def head(limits: Limits, wait_seconds: int, second="ignore", expiry="drop"):
    """What stands at the start of a log."""
    spec = LabelSpec(wait_seconds=wait_seconds, second=second, expiry=expiry)
    return [
        builders.adopted(builders.contract(limits=limits, label=spec, outliers=WATCHING)),
        builders.deployed("logistic", LOGISTIC),
        builders.deployed("tree", TREE, role="challenger"),
    ]


CONTROLS = [
    builders.promoted("tree"),
    builders.promoted("logistic", id="back"),
    builders.frozen("tree"),
    builders.frozen("tree", False),
    builders.retired("tree"),
    builders.deployed("tree", TREE, version=2, role="challenger"),
    builders.deployed("broken", {"model": "no.SuchModel"}),
    builders.retired("nobody"),
]
GARBAGE = [b"", b"{", b"[]", b'{"type":"nonsense"}', b"\xff", None, encode(Label("id1", "id1", 5, "maybe"))]


def log_record(rng: Random):
    """Observations and labels of few ids and times, control records, and what is no record."""
    kind = rng.randrange(12)
    name = f"id{rng.randrange(30)}"
    at = rng.randrange(60_000)
    if kind < 5:
        x = {"a": round(rng.uniform(-100, 100), 2), "b": rng.choice([0.0, 1.0, 1e15, -1e15])}
        return builders.observation(name, x, entity=f"e{rng.randrange(5)}", at=at)
    if kind < 10:
        return builders.label(name, rng.random() < 0.5, entity=f"e{rng.randrange(5)}", at=at)
    return rng.choice(CONTROLS) if kind == 10 else rng.choice(GARBAGE)


def hostile_log_record(i: int):
    """New ids, entities and decisions all the time; every other observation is labelled, many labels come first."""
    at = i * 100
    turn = i % 10
    if turn in (0, 2, 4, 6, 8):
        return builders.observation(f"id{i}", {"a": float(i % 7), "b": 1.0}, entity=f"e{i}", at=at)
    if turn in (1, 3, 5):
        return builders.label(f"id{i - 1}", i % 4 == 1, entity=f"e{i - 1}", at=at)
    if turn == 7:
        return builders.label(f"early{i}", entity=f"e{i}", at=at)
    return b"garbage %d" % i if i % 40 == 9 else builders.frozen("logistic", False, id=f"c{i}")


def hostile_head():
    limits = Limits(pending=20, remembered=60, early_labels=10)
    spec = LabelSpec(wait_seconds=3600, second="correct")
    return [
        builders.adopted(builders.contract(limits=limits, label=spec)),
        builders.deployed("logistic", LOGISTIC),
    ]


def come_and_go_head():
    limits = Limits(pending=50, remembered=50, early_labels=1)
    return [builders.adopted(builders.contract(limits=limits, label=LabelSpec(wait_seconds=10**6)))]


def come_and_go(i: int):
    """Models come, are asked once, and leave; observations keep waiting."""
    turn, model = i % 3, f"m{i // 3}"
    if turn == 0:
        return builders.deployed(model, PRIOR, role="champion", id=f"d{i}")
    if turn == 1:
        return builders.observation(f"id{i}", at=i)
    return builders.retired(model, id=f"r{i}")


def many_classes_head():
    limits = Limits(pending=5, remembered=5, early_labels=5)
    spec = LabelSpec(type="string", wait_seconds=3600)
    declared = builders.contract(task="multiclass", limits=limits, label=spec)
    return [builders.adopted(declared), builders.deployed("prior", PRIOR)]


def many_classes(i: int):
    """Every label is a class of its own."""
    if i % 2 == 0:
        return builders.observation(f"id{i}", at=i)
    return builders.label(f"id{i - 1}", f"class {i}", at=i)


# -- features, metrics, a slot ---------------------------------------------------------------------------------


def example(rng: Random):
    """[entity, at, x, y]; x may make a linear model raise."""
    x = {"a": round(rng.uniform(-5, 5), 2), "k": rng.choice("ab")}
    if rng.random() < 0.2:
        del x["a"]
    return encode([f"e{rng.randrange(4)}", rng.randrange(90_000), x, rng.random() < 0.5])


def values(rng: Random):
    """Two numbers, now and then far out, missing, or none at all."""
    a = rng.gauss(0, 1) * rng.choice([1, 1, 1, 30, 1e300])
    x = {"a": rng.choice(["text", True]) if rng.random() < 0.1 else a, "n": rng.randrange(-3, 9)}
    return encode({name: x[name] for name in x if rng.random() < 0.9})


def numeric_example(rng: Random):
    x = {"a": round(rng.uniform(-5, 5), 2), "b": "text" if rng.random() < 0.1 else 1.0}
    return encode(["e", 0, x, rng.random() < 0.5])


def steady_example(i: int):
    """One that a linear model learns, so that a journal fills and empties."""
    return encode(["e", i, {"a": float(i % 9), "b": 1.0}, i % 2 == 0])


def hostile_example(i: int):
    return encode([f"e{i}", i * 100, {"a": float(i % 9), "k": f"k{i}"}, i % 2 == 0])


def answer(rng: Random, task: str):
    """[y, answer, score, probabilities, corrected y]"""
    revised = None
    if task == "binary":
        y, score = rng.random() < 0.4, rng.choice([None, 0.0, 1.0, rng.random()])
        said = [y, None if rng.random() < 0.1 else (score or 0) > 0.5, score, None]
        revised = not y
    elif task == "multiclass":
        y, p = rng.choice("abc"), rng.random()
        said = [y, rng.choice("abc"), None, {"a": p, "b": 1 - p} if rng.random() < 0.8 else None]
        revised = "b"
    else:
        y = rng.uniform(-1e6, 1e6)
        said = [y, y + rng.gauss(0, 1), None, None]
        revised = y + 1
    return encode([*said, revised if rng.random() < 0.1 else None])


# -- the monitor -----------------------------------------------------------------------------------------------

HOUR = 3_600_000


def _spoken(rng: Random):
    """A score, or none: floats with all their digits, so that sums depend on their order."""
    return None if rng.random() < 0.1 else rng.random()


def monitored(rng: Random, kind: str):
    """A record of one kind of topic, of any time within half a day; some are nonsense."""
    at = rng.randrange(12 * HOUR)
    if rng.random() < 0.05:
        return rng.choice([b"{", b"null", None])
    if kind == "log":
        return log_record(rng) if rng.random() < 0.1 else _observed(rng, at)
    model = rng.choice(["m", "n"])
    others = [Answer("tree", rng.randrange(3), True, _spoken(rng))]
    if kind == "predictions":
        said = builders.prediction("i", _spoken(rng), model=model, at=at, challengers=others)
        said.outliers, said.anomalous = rng.choice([None, None, ["a"], ["a", "b"]]), rng.random() < 0.1
        return said
    if kind == "rejected":
        return Rejected(at, rng.choice(["json", "range"]), "why", b"x", rng.choice("abc"))
    status = rng.choice(["labelled", "labelled", "labelled", "expired", "corrected", "unmatched"])
    y = None if status in ("expired", "unmatched") else rng.choice([True, False, rng.uniform(-9, 9), "text"])
    previous = rng.choice([True, False, 0.1]) if status == "corrected" else None
    said = builders.outcome(
        "i", y, _spoken(rng), status=status, model=model, at=at, observed_at=at - 5, previous_y=previous
    )
    said.challengers = others
    if rng.random() < 0.7:
        said.groups = {name: rng.choice("MFX") for name in ("sex", "wing") if rng.random() < 0.8}
    return said


MIXED = [
    Field("a", "number"), Field("b", "integer"), Field("when", "time", feature=False, segment=True, edges=[5e6]),
    Field("sex", "string", feature=False, sensitive=True), Field("member", "boolean"), Field("code", "string"),
]  # fmt: skip


def _observed(rng: Random, at: int):
    """An observation of `MIXED`, or the contract itself; some values are missing, or of another type."""
    if rng.random() < 0.1:
        version = rng.randrange(1, 4)
        return builders.adopted(builders.contract(fields=MIXED[: 3 + version], version=version), at=at)
    x = {
        "a": rng.gauss(0, 3),
        "b": rng.randrange(9),
        "member": rng.random() < 0.3,
        "code": f"c{rng.randrange(80)}",
    }
    said = builders.observation("i", {name: x[name] for name in x if rng.random() < 0.8}, at=at)
    said.aside = {"when": rng.randrange(10**7), "sex": rng.choice("MF")} if rng.random() < 0.8 else None
    if rng.random() < 0.1:
        said.x["a"] = rng.choice(["text", True])
    return said


def hostile_monitored(i: int, kind: str):
    """Each record in a window of its own, with names of its own."""
    at = i * HOUR
    if kind == "log":
        if i % 100 == 0:
            fields = [Field(f"f{n}_{i}", "number") for n in range(30)]
            return builders.adopted(builders.contract(fields=fields, version=1 + i // 100), id=f"c{i}", at=at)
        return builders.observation(f"id{i}", {f"f{i % 30}_{i - i % 100}": float(i)}, at=at)
    if kind == "predictions":
        said = builders.prediction(f"id{i}", model=f"m{i}", at=at)
        said.outliers = [f"field{i}"]
        return said
    if kind == "rejected":
        return Rejected(at, "unknown_field", "why", b"x", f"field{i}")
    said = builders.outcome(f"id{i}", model=f"m{i}", at=at, observed_at=at - i)
    said.score = float(i)  # no score: the topic may be written by others
    said.status = "labelled" if i % 2 else f"status{i}"
    said.groups = {f"field{i}": f"group{i}"}
    return said


# -- ingest ----------------------------------------------------------------------------------------------------

RAW = [
    b'{"a": 1, "b": 2}',
    b'{"id": "x", "a": 1.5}',
    b'{"id": "x", "label": true}',
    b'{"id": "y", "label": 0}',
    b'{"id": "x", "a": 1e999}',
    b'{"id": "x", "unknown": 1}',
    b"not json",
    b"",
    None,
    b'{"specversion":"1.0","id":"c","source":"s","type":"x.observation","data":{"a":1}}',
]


def raw(rng: Random):
    """What a producer may send."""
    if rng.random() < 0.5:
        return rng.choice(RAW)
    return json.dumps({"id": f"i{rng.randrange(9)}", "a": rng.uniform(-9, 9)}).encode()


def hostile_raw(i: int):
    return json.dumps({"id": f"i{i}", "a": i, f"field{i}": i} if i % 3 else {"a": i}).encode()


def request(rng: Random):
    """[key, body, now]: requests with an Idempotency-Key, time rising by up to a second."""
    return encode([f"k{rng.randrange(6)}", rng.randrange(3), rng.randrange(1000)])


# -- statistics ------------------------------------------------------------------------------------------------


def made_up_kinds():
    """A stream of two partitions whose models guess in some hours."""
    return made_up.made_up("s", 2, 400, spoilt=(0,))
