"""Strategies: any coherent contract, as `check` gives it."""

from typing import Any

from hypothesis import strategies as st

from headrace.contracts.outliers import OutlierSpec
from headrace.contracts.stream import Field, LabelSpec, Limits, StreamContract, check

words = st.text("abcdefgxyz-_ .é名", min_size=1, max_size=8).map(str.strip).filter(bool)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
bounds = st.floats(-1e12, 1e12) | st.integers(-1000, 1000).map(float)
whole_ms = st.integers(-62_135_596_800_000, 253_402_300_799_999).map(float)
values: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "integer": st.integers(-99, 99),
    "number": st.floats(-99, 99),
    "boolean": st.booleans(),
}


@st.composite
def ranges(draw: st.DrawFn, kind: str) -> dict[str, float]:
    if kind not in ("integer", "number", "time"):
        return {}
    some = whole_ms if kind == "time" else bounds
    low, high = sorted((draw(some), draw(some)))
    given = {"minimum": low, "maximum": high}
    return {name: bound for name, bound in given.items() if draw(st.booleans())}


@st.composite
def fields(draw: st.DrawFn, name: str, kind: str | None = None, **more: Any) -> Field:
    kind = kind or draw(st.sampled_from(["string", "integer", "number", "boolean", "time"]))
    if kind == "string":
        more["max_length"] = draw(st.integers(12, 300))
        more["categories"] = draw(st.none() | st.lists(texts, min_size=1, max_size=4, unique=True))
    personal = draw(st.booleans())
    if kind in ("integer", "number", "time"):
        edges = st.lists(whole_ms if kind == "time" else bounds, min_size=1, max_size=4, unique=True).map(
            sorted
        )
        more["edges"] = draw(edges if kind != "integer" else st.none() | edges)
    return Field(
        name=name,
        type=kind,
        required=draw(st.booleans()),
        feature=more.pop("feature", None)
        if "feature" in more
        else draw(st.sampled_from([None, True, False])),
        unit=draw(st.sampled_from(["", "miles", "°C"])),
        sensitive=draw(st.booleans()),
        segment=not personal and draw(st.booleans()),
        personal=personal,
        description=draw(texts),
        **draw(ranges(kind)),
        **more,
    )


@st.composite
def labels(draw: st.DrawFn, task: str) -> LabelSpec:
    kinds = {
        "binary": ["string", "integer", "number", "boolean"],
        "multiclass": ["string", "integer", "number"],
    }
    kind = draw(st.sampled_from(kinds.get(task, ["integer", "number"])))
    classes = positive = None
    if task != "regression":
        classes = draw(
            st.lists(values[kind], min_size=2, max_size=2 if kind == "boolean" else 4, unique=True)
        )
        positive = classes[0] if task == "binary" else None
        classes = classes if draw(st.booleans()) else None
    return LabelSpec(
        name=draw(st.sampled_from(["label", "outcome", "class"])),
        type=kind,
        positive=positive,
        classes=classes,
        wait_seconds=draw(st.integers(0, 10**6)),
        expiry=draw(st.sampled_from(["drop", "negative"])) if task == "binary" else "drop",
        second=draw(st.sampled_from(["ignore", "correct"])),
        **(draw(ranges(kind)) if task == "regression" else {}),
    )


@st.composite
def contracts(draw: st.DrawFn) -> StreamContract:
    reserved = {"id", "at", "label", "outcome", "class", "type", "key", "when", "who", "specversion"}
    names = draw(
        st.lists(words.filter(lambda word: word not in reserved), min_size=1, max_size=5, unique=True)
    )
    members = [draw(fields(name)) for name in names]
    roles = {}
    for role, name, kinds in (
        ("id", "key", ["string", "integer"]),
        ("event_time", "when", ["time"]),
        ("entity", "who", ["string", "integer", "boolean"]),
    ):
        if draw(st.booleans()):
            roles[role] = name
            more = {"feature": False} if role == "event_time" else {}
            members.append(draw(fields(name, draw(st.sampled_from(kinds)), **more)))
    task = draw(st.sampled_from(["binary", "multiclass", "regression"]))
    pending = draw(st.integers(1, 1000))
    watch = OutlierSpec()
    if any(one.type in ("number", "integer") and one.feature for one in members):
        watch = draw(
            st.sampled_from([watch, OutlierSpec(["bounds"]), OutlierSpec(["trees", "bounds"], fence=3.5)])
        )
    return check(
        StreamContract(
            name=draw(
                st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True).filter(
                    lambda name: name != "headrace"
                )
            ),
            task=task,
            fields=draw(st.permutations(members)),
            version=draw(st.integers(1, 99)),
            label=draw(labels(task)),
            limits=draw(st.just(Limits()) | st.just(Limits(pending, pending + 1, 0, 7))),
            partitions=draw(st.sampled_from([1, 2, 64])),
            description=draw(texts),
            outliers=watch,
            **roles,
        )
    )
