"""Watching a topic: predictions, outcomes, alerts or rejects, as lines for people or NDJSON for programs.

Reads Kafka directly, without a consumer group, so watching never disturbs who works there.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from headrace.cli.output import Output, write_line
from headrace.contracts import topics
from headrace.errors import Transient, Unusable
from headrace.kafka.tail import Tail

What = Literal["predictions", "outcomes", "alerts", "rejected"]

KINDS: dict[str, topics.TopicKind] = {
    "predictions": topics.PREDICTIONS,
    "outcomes": topics.OUTCOMES,
    "rejected": topics.REJECTED,
}
BATCH = 500
POLL_SECONDS = 0.5
SHOWN_ORIGINAL = 200


def follow(
    output: Output,
    bootstrap: str,
    what: What,
    stream: str,
    *,
    from_start: bool,
    limit: int | None,
    wait: bool,
) -> int:
    """Show records until `limit`, or (wait=False) until the end, or Ctrl-C. Returns how many were shown."""
    name = topics.ALERTS.name if what == "alerts" else topics.topic(KINDS[what], stream)
    try:
        tail = Tail(bootstrap, name, start="earliest" if from_start or not wait else "latest")
    except Transient as error:
        raise Unusable(
            f"{name} cannot be read: {error}; is there such a stream? See: headrace stream list"
        ) from None
    shown = 0
    try:
        while limit is None or shown < limit:
            records = tail.read(BATCH if limit is None else min(BATCH, limit - shown), POLL_SECONDS)
            for record in records:
                if record.value is None:
                    continue
                document = msgspec.json.decode(record.value)
                if what == "alerts" and stream and document.get("stream") != stream:
                    continue
                if what == "rejected":
                    document["original"] = _original(document.get("original", ""))
                shown += 1
                show(output, what, document)
            if not records and not wait and tail.caught_up():
                break
    finally:
        tail.close()
    return shown


def show(output: Output, what: What, document: dict[str, Any]) -> None:
    """One record: as it is for programs, in a line for people."""
    if output.as_json:
        write_line(document)
    else:
        output.say(line_of(what, document))


def line_of(what: What, document: dict[str, Any]) -> str:
    """A record in a line."""
    at = _moment(document.get("at"))
    if what == "alerts":
        model = f" {document['model']}" if document.get("model") else ""
        by = f", by {document['by']}" if document.get("by") else ""
        return (
            f"{at}  {document.get('state')}  {document.get('severity')}  {document.get('stream')}{model}: "
            f"{document.get('rule')} {document.get('metric')} = {document.get('value')} "
            f"(bound {document.get('bound')}){by}"
        )
    if what == "rejected":
        where = f" {document['field']}" if document.get("field") else ""
        original = document.get("original", "")[:SHOWN_ORIGINAL]
        return f"{at}  {document.get('rule')}{where}: {document.get('reason')}  <- {original}"
    parts = [at, str(document.get("id"))]
    if what == "outcomes":
        parts.append(str(document.get("status", "")))
        if "y" in document:
            parts.append(f"truth {_short(document['y'])}")
    said = _said(document)
    parts.append(f"{document.get('model') or 'no model'}: {said}")
    parts.extend(f"{other.get('model')}: {_said(other)}" for other in document.get("challengers") or ())
    parts.extend(unusual(document))
    return "  ".join(parts)


def unusual(prediction: dict[str, Any]) -> list[str]:
    """What was flagged beside a prediction, in words."""
    told = [f"outlier: {', '.join(prediction['outliers'])}"] if prediction.get("outliers") else []
    return [*told, f"anomalous ({prediction['anomaly']:.3f})"] if prediction.get("anomalous") else told


def _said(answer: dict[str, Any]) -> str:
    if answer.get("answer") is None:
        return "no answer"
    text = _short(answer["answer"])
    return f"{text} ({answer['score']:.3f})" if isinstance(answer.get("score"), int | float) else text


def _short(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _moment(at: Any) -> str:
    if not isinstance(at, int):
        return "-"
    moment = datetime.fromtimestamp(at / 1000, tz=UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _original(text: str) -> str:
    """The refused bytes as text; kept as base64 in the topic so that they survive whatever they are."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "backslashreplace")
    except (binascii.Error, ValueError):
        return text
