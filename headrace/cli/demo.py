"""`headrace demo`: a year of real flights through the whole system, from nothing.

Each step looks first at what is there: the system is started if it does not run, the stream and its models are made if
they do not exist, and the flights go on where the log ends. The log itself is the bookmark (its last record tells which
event came last), so an interrupted demo, even a killed one, goes on without a gap and without a duplicate, and a
finished one only reports. Events go through ingest over HTTP, one body after the other, because their order in the log
is what the models see; the next body is put together while one is on its way.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from headrace.cli import flights, system
from headrace.cli.flights.source import Event, read_events
from headrace.cli.following import Follower, Live, behind, wait_until_folded
from headrace.cli.home import Home, read_json, write_json
from headrace.cli.output import Output, count, duration
from headrace.cli.progress import Bar
from headrace.cli.publish import Pace, Sent, bodies, send
from headrace.cli.reports import show_key
from headrace.client import Client
from headrace.contracts.codec import decode_log_record
from headrace.contracts.events import Label, Observation
from headrace.contracts.topics import LOG, topic
from headrace.errors import Unusable

STREAM = flights.STREAM
ALL_FLIGHTS = 336_776
ALL_EVENTS = 664_122
MODELS = (
    ("flights-logistic", "champion.yaml", "champion"),
    ("flights-lateness", "challenger.yaml", "challenger"),
)

TAIL_RECORDS = 200


@dataclass(slots=True)
class Progress:
    """How far the demo is, in `demo.json`. flights: how many were asked for, None = all. seconds: spent streaming."""

    flights: int | None = None
    events: int = 0
    rejected: int = 0
    seconds: float = 0.0
    seconds_to_first_prediction: float | None = None
    finished: bool = False
    rules: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, home: Home) -> "Progress | None":
        """As it was left; None if the demo never ran."""
        document = read_json(home.demo_file)
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        return cls(**known) if known else None

    def save(self, home: Home) -> None:
        """Write it down."""
        write_json(home.demo_file, {name: getattr(self, name) for name in self.__dataclass_fields__})


class Demo:
    """One run of the demo. limit: flights, None = all, or as many as last time. speed: times real time."""

    def __init__(self, home: Home, output: Output, limit: int | None, speed: float | None) -> None:
        self._home = home
        self._output = output
        self._speed = speed
        self._began = time.monotonic()
        known = Progress.load(home)
        if known is not None and limit is not None and limit != known.flights:
            had = "all" if known.flights is None else f"the first {count(known.flights)}"
            raise Unusable(
                f"this system already holds {had} flights; to start anew with {count(limit)}: "
                f"headrace demo --fresh --flights {limit}"
            )
        self._progress = known or Progress(flights=limit)

    def run(self) -> dict[str, Any]:
        """Everything; returns the summary."""
        with self._output.waiting("starting") as say:
            started = system.up(self._home, say, partial(show_key, self._output))
        bootstrap = started.run.bootstrap
        addresses, key = self._home.addresses(), self._home.key()
        impatient = Client(addresses, key=key, timeout_seconds=10.0, patience_seconds=1.0)
        with Client(addresses, key=key) as client, impatient:
            follower = Follower(impatient, STREAM)
            try:
                set_up(client, self._output)
                if self._is_complete(bootstrap, follower):
                    self._output.say("the flights were streamed before; this is what came of them")
                else:
                    self._progress.save(self._home)
                    self._stream(client, bootstrap, follower)
            finally:
                follower.stop()
            follower.refresh()
            return self._summary(follower.live, bootstrap)

    def _is_complete(self, bootstrap: str, follower: Follower) -> bool:
        """Whether an earlier run went to the end (then `follower` holds its numbers)."""
        if not self._progress.finished:
            follower.start()
            return False
        wait_until_folded(follower, bootstrap, STREAM, lambda _: None, timeout_seconds=60)
        follower.start()
        return True

    def _stream(self, client: Client, bootstrap: str, follower: Follower) -> None:
        progress = self._progress
        events = read_events(progress.flights)
        skipped = skip_known(events, last_event(bootstrap))
        total = ALL_EVENTS if progress.flights is None else round(progress.flights * ALL_EVENTS / ALL_FLIGHTS)
        if skipped:
            self._output.say(f"{count(skipped)} events are in the log already; going on behind them")
        sent = Sent()
        began, spent = time.monotonic(), progress.seconds
        with Bar(self._output, "flights", total) as bar:
            bar.start_at(follower.live.folded)

            def told(done: int, at_end: bool = False) -> None:
                live = follower.live
                folded = min(live.folded, skipped + done)
                bar.total = skipped + done if at_end else max(total, skipped + done)
                bar.update(folded, self._note(live, skipped + done))

            try:
                done = send(client, STREAM, bodies(events, Pace(self._speed)), told=told, sent=sent)
                wait_until_folded(follower, bootstrap, STREAM, lambda _: told(done, True))
                progress.finished = True
            finally:
                progress.events = skipped + sent.accepted + sent.rejected
                progress.rejected += sent.rejected
                progress.rules = {**progress.rules, **sent.rules}
                progress.seconds = spent + time.monotonic() - began
                first = follower.live.first_prediction_at
                if first and progress.seconds_to_first_prediction is None:
                    progress.seconds_to_first_prediction = first - self._began
                progress.save(self._home)

    def _note(self, live: Live, sent: int) -> str:
        parts = [f"lag {count(max(0, sent - live.folded))}"]
        auc = live.metric("roc_auc")
        if auc is not None:
            parts.append(f"ROC AUC {auc:.3f}")
        return " · ".join(parts)

    def _summary(self, live: Live, bootstrap: str) -> dict[str, Any]:
        progress = self._progress
        models = []
        for model in live.total.get("models") or []:
            overall = model.get("metrics", {}).get("overall", {})
            models.append(
                {
                    "model": model.get("model"),
                    "version": model.get("version"),
                    "role": model.get("role"),
                    **{name: overall.get(name) for name in ("roc_auc", "log_loss", "accuracy", "f1")},
                }
            )
        first = progress.seconds_to_first_prediction
        return {
            "observations": live.count("observations"),
            "predictions": live.count("predictions"),
            "labels": live.count("labels"),
            "outcomes": live.count("outcomes"),
            "expired": live.count("expired"),
            "pending": live.count("pending"),
            "duplicates": live.count("duplicates"),
            "rejected": progress.rejected + live.count("refused"),
            "roc_auc": live.metric("roc_auc"),
            "log_loss": live.metric("log_loss"),
            "events": progress.events,
            "events_per_second": round(progress.events / progress.seconds, 1) if progress.seconds else None,
            "seconds": round(progress.seconds, 2),
            "seconds_to_first_prediction": None if first is None else round(first, 2),
            "seconds_in_all": round(time.monotonic() - self._began, 2),
            "lag": behind(bootstrap, STREAM, live) or 0,
            "flights": progress.flights,
            "models": models,
            "home": str(self._home.path),
            "addresses": self._home.addresses()._asdict(),
        }


def set_up(client: Client, output: Output) -> None:
    """Make the stream, register its models and deploy them, as far as that was not done before."""
    client.create_stream(flights.document("contract.yaml"))
    deployed = {entry.get("model") for entry in client.stream(STREAM).get("deployments") or []}
    for name, file, role in MODELS:
        if name in deployed:
            continue
        specification = yaml.safe_load(flights.document(file))
        answer = client.create_model(name, specification, str(specification.get("description", "")))
        client.deploy(STREAM, name, version=answer.get("version"), role=role)
        output.say(f"{name} is deployed as {role}")


def last_event(bootstrap: str) -> tuple[str, bool] | None:
    """(flight id, is it a label) of the last event in the demo's log; None if it holds none yet."""
    from headrace.kafka.admin import end_offsets
    from headrace.kafka.tail import Tail

    name = topic(LOG, STREAM)
    end = end_offsets(bootstrap, name).get(0, 0)
    if end == 0:
        return None
    tail = Tail(bootstrap, name, start={0: max(0, end - TAIL_RECORDS)})
    last: tuple[str, bool] | None = None
    try:
        while True:
            for read in tail.read(TAIL_RECORDS, 1.0):
                record = decode_log_record(read.value) if read.value else None
                if isinstance(record, Observation | Label):
                    last = (record.id, isinstance(record, Label))
            if tail.caught_up():
                return last
    finally:
        tail.close()


def skip_known(events: Iterator[Event], last: tuple[str, bool] | None) -> int:
    """Pass over the events up to and with `last`; returns how many. Raises `Unusable` if there is no such event."""
    if last is None:
        return 0
    for number, event in enumerate(events, 1):
        if (event.id, event.is_label) == last:
            return number
    raise Unusable(
        f"the log of {STREAM} ends with {last[0]}, which is no event of this demo; start anew: headrace demo --fresh"
    )


def show(output: Output, summary: dict[str, Any]) -> None:
    """The summary for people."""
    output.say()
    output.say(
        f"{count(summary['observations'])} flights observed, {count(summary['predictions'])} predictions; "
        f"{count(summary['labels'])} landed and were learnt from, {count(summary['expired'])} never arrived and expired"
        + (f", {count(summary['pending'])} are still waited for" if summary["pending"] else "")
        + (f"; {count(summary['rejected'])} rejected" if summary["rejected"] else "")
    )
    if summary["seconds"]:
        output.say(
            f"{count(summary['events'])} events in {duration(summary['seconds'])}: "
            f"{count(summary['events_per_second'])}/s, exactly once"
        )
    output.say()
    rows = [
        (
            model["model"],
            model["version"],
            model["role"],
            model["roc_auc"],
            model["log_loss"],
            model["accuracy"],
        )
        for model in summary["models"]
    ]
    output.table(("model", "version", "role", "ROC AUC", "log loss", "accuracy"), rows)
    output.say(
        "Each answer was given before its label was known: labels arrived when the flights had landed."
    )
    addresses = summary["addresses"]
    output.next(
        f"The system runs on. API: {addresses['ingest']}/docs  {addresses['scoring']}/docs",
        "  headrace status                              what runs, and how well",
        "  headrace tail outcomes flights --from-start  predictions beside what really happened",
        "  headrace model list                          the models",
        "  headrace down                                stop (data stays); headrace demo --fresh starts anew",
    )
