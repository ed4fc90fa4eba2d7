"""What is in records of a log, for people: quality, fields, labels, sources; of a dataset or of what a model learnt."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headrace.cli.common import bootstrap_of
from headrace.cli.home import Home
from headrace.cli.output import Output, count, duration
from headrace.cli.progress import Bar
from headrace.cli.streams import every
from headrace.client import Client, calls
from headrace.contracts.times import to_text

SHOWN = 5
"""Categories in a line."""


def measured_life(
    home: Home, output: Output, client: Client, life: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Measure what a version has learnt on a stream, as a dataset would be; None: nothing yet.

    life: as the registry's lineage has it. Reads the log.
    """
    from headrace.contracts.left_out import Below, LeftOut
    from headrace.contracts.topics import LOG, topic
    from headrace.datasets.adoptions import Adoption, before
    from headrace.datasets.measure import measure
    from headrace.datasets.measurement import Stretch
    from headrace.datasets.source import Source

    stream = life["stream"]
    versions = every(client, "registry", calls.stream_path(stream, "versions"), "versions")
    adopted = [Adoption(one["version"], one["offsets"], one["contract"]) for one in versions]
    source, stretches = Source.of(bootstrap_of(home), home.archive), []
    for part, span in life["learnt"].items():
        end = span["before"]
        if end is None:
            end = source.history.bounds(topic(LOG, stream), int(part)).end
        left_out = []
        for one in life["without"]:
            what = {name: value for name, value in one.items() if name != "below"}
            left_out.append(Below(msgspec.convert(what, LeftOut), (one["below"] or {}).get(part)))
        if span["from"] < end:
            contract = before(adopted, int(part), span["from"])
            stretches.append(Stretch(int(part), span["from"], end, contract, tuple(left_out)))
    if not stretches:
        return None
    with Bar(
        output, f"reading what was learnt from {stream}", sum(one.end - one.start for one in stretches)
    ) as bar:
        found: dict[str, Any] = msgspec.to_builtins(
            measure(source, stream, stretches, time.time_ns() // 1_000_000, bar.update)
        )
    return found


def show_quality(output: Output, measurement: Mapping[str, Any]) -> None:
    """The records in a few lines: what they are, how good, and where they came from."""
    quality, profile = measurement["quality"], measurement["profile"]
    sent = quality["observations"] + quality["duplicates"] + quality["labels"]
    output.say(
        f"{count(quality['records'])} records of about {count(profile['entities'])} entities"
        + (f", {count(quality['left_out'])} more left out" if quality["left_out"] else "")
    )
    if profile["first_at"] is not None:
        output.say(f"event time {_moment(profile['first_at'])} to {_moment(profile['last_at'])}")
    output.say(
        f"{count(quality['observations'])} observations, {count(quality['duplicates'])} sent twice, "
        f"{count(quality['expired'])} without a label in time, {count(quality['waiting'])} still waited for"
    )
    output.say(
        f"{count(quality['labels'])} labels: {count(quality['matched'])} matched, "
        f"{count(quality['unmatched'])} without their observation, {count(quality['ignored'])} ignored, "
        f"{count(quality['corrected'])} corrections"
    )
    output.say(
        f"late: {_percent(quality['late'], sent)}"
        + (f", by at most {duration(quality['latest_ms'] / 1000)}" if quality["late"] else "")
        + f"; refused in the log: {count(quality['refused'])}"
    )
    rejected = quality["rejected"]
    if rejected["records"] is None:
        output.say(f"rejected: cannot be told ({rejected['untold']})")
    else:
        rules = ", ".join(f"{rule} {count(number)}" for rule, number in rejected["by_rule"].items())
        output.say(
            f"rejected: {_percent(rejected['records'], sent + rejected['records'])}"
            + (f" ({rules})" if rules else "")
        )
    sources = [(one["value"] or "(not named)", one["count"]) for one in profile["sources"]]
    output.say(f"sources: {_counts(sources) or 'none'}")


def show_measurement(output: Output, measurement: Mapping[str, Any]) -> None:
    """All of a measurement, fields as tables."""
    show_quality(output, measurement)
    profile = measurement["profile"]
    label = profile["label"]
    if label.get("balance"):
        output.say(f"label: {_counts((one['value'], one['count']) for one in label['balance'])}")
    if label.get("numbers"):
        output.say(f"label: mean {label['numbers']['mean']:g}, {_range(label['numbers'])}")
    if label.get("delay_ms"):
        delays = label["delay_ms"]["quantiles"]
        output.say(
            "label delay: "
            + ", ".join(
                f"{name} {duration(delays[q] / 1000)}" for name, q in (("median", "0.5"), ("95 %", "0.95"))
            )
        )
    numeric = [field for field in profile["fields"] if field.get("numbers")]
    others = [field for field in profile["fields"] if not field.get("numbers")]
    if numeric:
        output.say()
        quantiles = ("0.05", "0.5", "0.95")
        output.table(
            ("field", "type", "count", "missing", "min", "mean", "max", "std", *(f"q{q}" for q in quantiles)),
            [
                (
                    *(field.get(name, 0) for name in ("name", "type", "count", "missing")),
                    *(_figure(field["numbers"][name]) for name in ("min", "mean", "max", "std")),
                    *(_figure(field["numbers"]["quantiles"][q]) for q in quantiles),
                )
                for field in numeric
            ],
        )
    if others:
        output.say()
        output.table(
            ("field", "type", "count", "missing", "distinct", "most frequent"),
            [
                (
                    *(field.get(name, 0) for name in ("name", "type", "count", "missing", "distinct")),
                    _counts((one["value"], one["count"]) for one in field.get("top", ())),
                )
                for field in others
            ],
        )
    if profile["unprofiled"]:
        output.say(f"{count(profile['unprofiled'])} more fields were not profiled")


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def _range(numbers: Mapping[str, Any]) -> str:
    return f"{numbers['min']:g} to {numbers['max']:g}"


def _counts(pairs: Iterable[tuple[str, int]]) -> str:
    listed = list(pairs)
    shown = ", ".join(f"{value} {count(number)}" for value, number in listed[:SHOWN])
    return shown + (", ..." if len(listed) > SHOWN else "")


def _percent(part: int, whole: int) -> str:
    return f"{count(part)} of {count(whole)}" + (f" ({part / whole:.2%})" if whole else "")


def _moment(ms: int) -> str:
    try:
        return to_text(ms)
    except OverflowError:
        return str(ms)
