"""The made-up stream of the simulation: contracts, models, and every kind of input that is no good."""

from typing import Any

from headrace.contracts.careful import RECORD_BYTES
from headrace.contracts.outliers import OutlierSpec
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract, check

STREAM = "s"
PARTITIONS = 3
ENTITIES = 8
SECOND = 1000
START_MS = 1_700_000_000_000

WINDOWED: dict[str, Any] = {
    "model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"],
    "inputs": ["a", "b"],
    "features": [
        {"name": "late", "kind": "rate", "of": "label", "by": ["entity"], "window_seconds": 60},
        {"name": "seen", "kind": "count", "by": ["entity"], "window_seconds": 24},
    ],
}
BRITTLE: dict[str, Any] = {"model": ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]}
"""Fails, asked or taught, on observations that have the text `c`."""
TREE: dict[str, Any] = {
    "model": [{"class": "tree.HoeffdingTreeClassifier", "parameters": {"grace_period": 5, "delta": 0.1}}]
}
BAYES: dict[str, Any] = {"model": "naive_bayes.GaussianNB", "inputs": ["b", "a"]}
FOREST: dict[str, Any] = {
    "model": {
        "class": "forest.ARFClassifier",
        "parameters": {"n_models": 2, "seed": 11, "grace_period": 5},
    },
    "inputs": ["a", "b"],
}
MODELS = {"windowed": WINDOWED, "brittle": BRITTLE, "tree": TREE, "bayes": BAYES, "forest": FOREST}
UNBUILDABLE: dict[str, Any] = {"model": "linear_model.NoSuchModel"}

NOBODY = OutlierSpec()
BOUNDS = OutlierSpec(["bounds"], fence=1.1, window=20)
BOTH = OutlierSpec(["bounds", "trees"], fence=1.1, share=0.1, window=20)
"""Flags come soon, and often."""

POLICIES = (
    (LabelSpec(wait_seconds=20), Limits(pending=8, remembered=400, early_labels=3), BOTH),
    (LabelSpec(wait_seconds=20, second="correct"), Limits(pending=6, remembered=400, early_labels=4), BOTH),
    (LabelSpec(wait_seconds=9, expiry="negative", second="correct"), Limits(12, 400, 4), BOTH),
    (LabelSpec(wait_seconds=15, expiry="negative"), Limits(pending=3, remembered=6, early_labels=1), BOUNDS),
    (LabelSpec(wait_seconds=60, second="correct"), Limits(pending=5, remembered=9, early_labels=2), NOBODY),
)


def contract(version: int, policy: int) -> StreamContract:
    """The stream's contract; only the policy ever changes."""
    label, limits, outliers = POLICIES[policy % len(POLICIES)]
    fields = [
        Field("a", "number"),
        Field("b", "number", minimum=-1000.0, maximum=1000.0),
        Field("c", "string", categories=["x", "y"]),
        Field("who", "string", feature=False),
    ]
    return check(
        StreamContract(
            STREAM,
            "binary",
            fields,
            version,
            label,
            limits,
            entity="who",
            partitions=PARTITIONS,
            outliers=outliers,
        )
    )


POISON: tuple[tuple[bytes | None, str], ...] = (
    (None, "tombstone"),
    (b"", "empty"),
    (b"   ", "empty"),
    (b"{", "json"),
    (b"[1, 2]", "not_object"),
    (b'{"who": "e0", "a": "\xff"}', "encoding"),
    (b'{"who": "e0", "a": NaN}', "not_finite"),
    (b'{"who": "e0", "a": Infinity}', "not_finite"),
    (b'{"who": "e0", "a": 1e999}', "not_finite"),
    (b'{"who": "e0", "a": 1e308}', "magnitude"),
    (b'{"who": "e0", "b": 1001}', "range"),
    (b'{"who": "e0", "a": "1"}', "type"),
    (b'{"who": "e0", "a": true}', "type"),
    (b'{"who": "e0", "c": "z"}', "category"),
    (b'{"a": 1.0}', "missing"),
    (b'{"who": "e0", "at": -1}', "past"),
    (b'{"who": "e0", "at": 99999999999999}', "future"),
    (b'{"who": "e0", "at": "yesterday"}', "time"),
    (b'{"who": "e0", "z": 1}', "unknown_field"),
    (b'{"who": "e0", "id": ""}', "id"),
    (b'{"who": "e0", "id": "n0", "label": "yes"}', "type"),
    (b'{"id": "n0", "entity": "e0", "label": "yes"}', "type"),
    (b'{"id": "n0", "label": true}', "missing"),
    (b'{"type": "nonsense", "who": "e0"}', "kind"),
    (b'{"who": "e0", "a":' + b"[" * 100 + b"]" * 100 + b"}", "depth"),
    (b'{"who": "e0", "c": "' + b"x" * RECORD_BYTES + b'"}', "too_large"),
)
"""(what a producer wrote into the inbox, the rule it breaks)."""

ROGUE: tuple[bytes | None, ...] = (
    None,
    b"",
    b"{",
    b"\xff\xfe",
    b'{"type":"nonsense","id":"n0","at":1}',
    b'{"type":"observation","id":"n0"}',
    b'{"type":"observation","id":"n0","entity":"e0","at":"now","x":{}}',
    b'{"type":"label","id":"n0","entity":"e0","at":5,"y":null}',
)
"""What must never be in a log and is no event there: somebody wrote past ingest."""
