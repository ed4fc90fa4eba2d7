"""What the SDK asks for, as plain data: one function per endpoint, no I/O.

A `Call` is everything a sender needs; `answer_of` turns a response into a value or an error. Both clients share them.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

from headrace.client.problems import Busy, ServiceProblem
from headrace.contracts.events import Scalar

ServiceName = Literal["ingest", "scoring", "monitor", "registry"]
Kind = Literal["observations", "labels", "events"]
"""Where lines go. `events` takes both kinds mixed, in the order in which they became known."""

GZIP_LEVEL = 1  # on one machine the CPU is dearer than the wire
MAX_RETRY_AFTER_SECONDS = 30.0


class Addresses(NamedTuple):
    """Base URLs of the four services, without a slash at the end."""

    ingest: str = "http://127.0.0.1:8101"
    scoring: str = "http://127.0.0.1:8102"
    monitor: str = "http://127.0.0.1:8103"
    registry: str = "http://127.0.0.1:8104"


class Call(NamedTuple):
    """One HTTP request: to which service, and what. Sending it twice does no more than sending it once."""

    service: ServiceName
    method: str
    path: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(NamedTuple):
    """A line that was refused. `line` counts from 1 in the body that was sent."""

    line: int
    rule: str
    field: str
    reason: str


class Receipt(NamedTuple):
    """What became of published lines: how many are safe in the log, which were refused, the ids of the accepted."""

    accepted: int
    rejected: list[Refusal]
    ids: list[str]


def publish(stream: str, lines: Sequence[bytes], kind: Kind, *, key: str, compress: bool = False) -> Call:
    """Send JSON lines in order. `key` (Idempotency-Key) makes a repeat after a lost answer harmless."""
    body = b"\n".join(lines)
    headers = [("content-type", "application/x-ndjson"), ("idempotency-key", key)]
    if compress:
        body = gzip.compress(body, compresslevel=GZIP_LEVEL)
        headers.append(("content-encoding", "gzip"))
    return Call("ingest", "POST", _stream(stream, kind), body, tuple(headers))


def predict(stream: str, observation: dict[str, Any], *, timeout_ms: int, key: str) -> Call:
    """Send one observation and wait for its prediction."""
    path = f"{_stream(stream, 'observations')}?wait=prediction&timeout_ms={timeout_ms}"
    return _post("ingest", path, observation, (("idempotency-key", key),))


def json_line(observation: dict[str, Any]) -> bytes:
    """An observation as a JSON line."""
    return json.dumps(observation, ensure_ascii=False).encode()


def label_line(id: str, value: Scalar, at: int | str | None, entity: str) -> bytes:
    """A label as a JSON line."""
    line: dict[str, Any] = {"id": id, "label": value}
    if at is not None:
        line["at"] = at
    if entity:
        line["entity"] = entity
    return json.dumps(line).encode()


def create_stream(contract: str | dict[str, Any]) -> Call:
    """Create a stream, or give it a new contract version. `contract`: an ODCS document, or the plain form as a dict."""
    if isinstance(contract, dict):
        return _post("registry", "/v1/streams", {"contract": contract})
    return Call("registry", "POST", "/v1/streams", contract.encode(), (("content-type", "application/yaml"),))


def create_model(name: str, specification: dict[str, Any], description: str = "") -> Call:
    """Register a specification as a version of model `name`; an identical one is not registered twice."""
    document = {"name": name, "specification": specification, "description": description}
    return _post("registry", "/v1/models", document)


def deploy(
    stream: str,
    model: str,
    version: int | None,
    role: str,
    *,
    learnt: bool = False,
    payoff: Mapping[str, float] | None = None,
) -> Call:
    """Put a model version (None: the latest) on a stream, as `champion` or `challenger`.

    learnt: it begins with what the log would have taught it. payoff: what its answers are worth (docs/value.md).
    """
    document = _chosen(model, version, learnt, payoff) | {"role": role}
    return _post("registry", _stream(stream, "deployments"), document)


def change_deployment(stream: str, model: str, change: str) -> Call:
    """`promote`, `retire`, `freeze` or `unfreeze` a deployed model."""
    path = f"{_stream(stream, 'deployments')}/{quote(model, safe='')}/{change}"
    return Call("registry", "POST", path, b"{}", (("content-type", "application/json"),))


def rebuild_deployment(stream: str, model: str, without: Sequence[str]) -> Call:
    """Let a deployed model go on as if some records had never been learnt (`entity:ID`, `source:NAME`, ...)."""
    path = f"{_stream(stream, 'deployments')}/{quote(model, safe='')}/rebuild"
    return _post("registry", path, {"without": list(without)})


def begin_rollout(
    stream: str,
    model: str,
    version: int | None,
    plan: dict[str, Any],
    *,
    learnt: bool = False,
    payoff: Mapping[str, float] | None = None,
) -> Call:
    """Begin to roll a model version (None: the latest) out; plan and learnt: see docs/rollouts.md, payoff: `deploy`."""
    document = _chosen(model, version, learnt, payoff) | {"plan": plan}
    return _post("registry", _stream(stream, "rollouts"), document)


def turn_rollout(stream: str, number: int, action: str) -> Call:
    """`promote`, `roll-back`, `abort`, `approve`, `hold` or `resume` a rollout."""
    path = _stream(stream, f"rollouts/{number}/{action}")
    return Call("registry", "POST", path, b"{}", (("content-type", "application/json"),))


def set_payoff(stream: str, payoff: Mapping[str, float] | None, model: str = "") -> Call:
    """Say what the answers of a model are worth, or of all on the stream (None: nobody says it); docs/value.md."""
    path = _stream(stream, f"deployments/{quote(model, safe='')}/payoff" if model else "payoff")
    if payoff is None:
        return Call("registry", "DELETE", path)
    return _post("registry", path, dict(payoff))._replace(method="PUT")


def begin_retraining(stream: str, document: dict[str, Any]) -> Call:
    """Let specifications race over a stream's log for the champion's place (docs/retraining.md)."""
    return _post("registry", _stream(stream, "retrainings"), document)


def cancel_retraining(stream: str, number: int) -> Call:
    """Give a retraining up."""
    return _post("registry", _stream(stream, f"retrainings/{number}/cancel"), {})


def set_retraining_policy(stream: str, document: dict[str, Any]) -> Call:
    """Say when a stream is retrained by itself, and how (docs/retraining.md)."""
    return _post("registry", _stream(stream, "retraining-policy"), document)._replace(method="PUT")


def remove_retraining_policy(stream: str) -> Call:
    """Let a stream no longer be retrained by itself."""
    return Call("registry", "DELETE", _stream(stream, "retraining-policy"))


def turn_proposal(stream: str, number: int, action: Literal["approve", "dismiss"]) -> Call:
    """`approve` or `dismiss` a proposal to retrain (docs/retraining.md)."""
    return _post("registry", _stream(stream, f"proposals/{number}/{action}"), {})


def create_dataset(
    name: str,
    stream: str,
    ranges: Mapping[str, Mapping[str, int]] | None = None,
    without: Sequence[str] = (),
    description: str = "",
) -> Call:
    """Name records of a stream's log as a version of a dataset; ranges: by partition, None: all there are now."""
    document = {"name": name, "stream": stream, "without": list(without), "description": description}
    more = {} if ranges is None else {"ranges": {part: dict(span) for part, span in ranges.items()}}
    return _post("registry", "/v1/datasets", {**document, **more})


def acknowledge_alert(id: str, why: str = "") -> Call:
    """Say that somebody has seen an alert (the id of the step that fired it)."""
    return _post("monitor", f"/v1/alerts/{quote(id, safe='')}/acknowledge", {"why": why})


def mute_alerts(about: Mapping[str, str], seconds: int, why: str, *, id: str) -> Call:
    """Do not tell people of alerts that fit `about` (rule, stream, model, kind). id: 32 hex digits, of this mute."""
    return _post("monitor", "/v1/mutes", {**about, "seconds": seconds, "why": why, "id": id})


def unmute_alerts(id: str) -> Call:
    """End a mute before its time."""
    return Call("monitor", "DELETE", f"/v1/mutes/{quote(id, safe='')}")


def try_rule(rule: Mapping[str, Any], start: str = "", end: str = "") -> Call:
    """Ask how often an alert rule would have fired, between two times (RFC 3339; "": as far as there is anything)."""
    document = {"rule": dict(rule), "from": start or None, "to": end or None}
    return _post("monitor", "/v1/rules/try", document)


def test_channel(name: str) -> Call:
    """Tell a channel of an alert that is none."""
    return _post("monitor", f"/v1/channels/{quote(name, safe='')}/test", {})


def change(call: Call, reason: str, *, key: str) -> Call:
    """A call that changes something in the registry, with the reason that its audit trail is to keep.

    `key` (Idempotency-Key) makes a repeat after a lost answer harmless.
    """
    path = f"{call.path}?{urlencode({'reason': reason})}" if reason else call.path
    return call._replace(path=path, headers=(*call.headers, ("idempotency-key", key)))


def get(service: ServiceName, path: str) -> Call:
    """Read `path` of a service."""
    return Call(service, "GET", path)


def stream_path(stream: str, rest: str = "") -> str:
    """`/v1/streams/S` or `/v1/streams/S/rest`, quoted."""
    return _stream(stream, rest)


def model_path(model: str) -> str:
    """`/v1/models/M`, quoted."""
    return f"/v1/models/{quote(model, safe='')}"


def dataset_path(name: str, version: int | None = None) -> str:
    """`/v1/datasets/D` or `/v1/datasets/D/versions/N`, quoted."""
    path = f"/v1/datasets/{quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def answer_of(status: int, headers: dict[str, str], body: bytes) -> Any:
    """The JSON (or text) of a good answer. Raises `Busy` if it is worth another try, else `ServiceProblem`.

    Worth it are 429, 503, and the 409 of a request whose first sending is still under way: it says when to come again.
    """
    content_type = headers.get("content-type", "")
    if status < 400:
        return json.loads(body) if body and "json" in content_type else body.decode("utf-8", "replace")
    problem: dict[str, Any] = {}
    if "json" in content_type:
        try:
            parsed = json.loads(body)
            problem = parsed if isinstance(parsed, dict) else {"detail": str(parsed)}
        except ValueError:
            problem = {}
    if status in (429, 503) or (status == 409 and "retry-after" in headers):
        raise Busy(status, problem, _retry_after(headers.get("retry-after", "")))
    raise ServiceProblem(status, problem)


def receipt_of(answer: dict[str, Any]) -> Receipt:
    """Read the answer to a publish."""
    return Receipt(int(answer.get("accepted", 0)), refusals_of(answer), list(answer.get("ids", ())))


def refusals_of(document: dict[str, Any]) -> list[Refusal]:
    """The refused lines named in an answer or in a problem."""
    return [
        Refusal(
            int(line.get("line", 0)),
            str(line.get("rule", "")),
            str(line.get("field", "")),
            str(line.get("reason", "")),
        )
        for line in document.get("rejected") or ()
    ]


def refused_receipt(problem: ServiceProblem) -> Receipt | None:
    """A 422 in which every line was refused is an answer about the lines, not a failed call; None if it is not that."""
    refused = refusals_of(problem.problem)
    return Receipt(0, refused, []) if problem.status == 422 and refused else None


def _retry_after(text: str) -> float:
    try:
        return min(max(float(text), 0.05), MAX_RETRY_AFTER_SECONDS)
    except ValueError:
        return 1.0


def _chosen(
    model: str, version: int | None, learnt: bool, payoff: Mapping[str, float] | None
) -> dict[str, Any]:
    """Which model is meant; what is left out is the registry's to choose."""
    chosen: dict[str, Any] = {"model": model}
    if version is not None:
        chosen["version"] = version
    if learnt:
        chosen["learnt"] = True
    if payoff is not None:
        chosen["payoff"] = dict(payoff)
    return chosen


def _stream(stream: str, rest: str) -> str:
    path = f"/v1/streams/{quote(stream, safe='')}"
    return f"{path}/{rest}" if rest else path


def _post(
    service: ServiceName, path: str, document: dict[str, Any], more: tuple[tuple[str, str], ...] = ()
) -> Call:
    headers = (("content-type", "application/json"), *more)
    return Call(service, "POST", path, json.dumps(document).encode(), headers)
