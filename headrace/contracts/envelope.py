"""CloudEvents 1.0 in the JSON format: the envelope around an observation or a label.

Only what Headrace uses is read; extension attributes are left alone, as the specification asks. The envelope's `id`
becomes the observation's if the data has none, its `time` the event time of a stream without one, its `source` is kept.
Note that CloudEvents are unique by source *and* id: two sources that number alike must put an id into the data.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from headrace.contracts import careful
from headrace.contracts.times import parse_ms, to_ms
from headrace.errors import Poison

MARK = b'"specversion"'
"""Bytes that every CloudEvent has and (almost) no plain record."""

ATTRIBUTE_LENGTH = 1024
"""Longest `source`, `type` or `id` of an envelope, in characters."""

_REQUIRED = ("specversion", "id", "source", "type")


class Envelope(msgspec.Struct, gc=False):
    """The attributes that are read, as the fast decoder sees them; unknown ones are skipped."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    time: datetime | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str | None = None


class Opened(NamedTuple):
    """An envelope's content. at: ms or None. data: the bytes, or the object if it was parsed on the way."""

    kind: Literal["observation", "label"]
    id: str
    source: str
    at: int | None
    data: bytes | dict[str, Any]


_decode = msgspec.json.Decoder(Envelope).decode


def open_envelope(raw: bytes) -> Opened | None:
    """Open a CloudEvent. None if the record is a JSON object without `specversion`. Raises `Poison`."""
    try:
        envelope = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        document = careful.parse(raw)
        return _open_document(document) if "specversion" in document else None
    data: bytes = bytes(envelope.data)
    if envelope.data_base64 is not None:
        data = _decode_base64(envelope.data_base64, bool(data))
    elif not data:
        raise Poison("the CloudEvent has no data", rule="envelope", field="data")
    at = None if envelope.time is None else to_ms(envelope.time)
    return _opened(envelope.id, envelope.source, envelope.type, at, envelope.datacontenttype, data)


def _open_document(document: Mapping[str, Any]) -> Opened:
    """The same, from a parsed envelope that the fast decoder refused: says what is wrong, or accepts it after all."""
    for name in _REQUIRED:
        value = document.get(name)
        if not isinstance(value, str):
            reason = "is missing" if value is None else "must be a string"
            raise Poison(f"a CloudEvent's `{name}` {reason}", rule="envelope", field=name)
    if document["specversion"] != "1.0":
        raise Poison("only CloudEvents 1.0 are read", rule="envelope", field="specversion")
    for name in ("time", "datacontenttype", "data_base64"):
        if not isinstance(document.get(name), str | None):
            raise Poison(f"a CloudEvent's `{name}` must be a string", rule="envelope", field=name)
    at = None
    if document.get("time") is not None:
        try:
            at = parse_ms(document["time"])
        except ValueError:
            raise Poison("a CloudEvent's `time` is an RFC 3339 time", rule="envelope", field="time") from None
    data: Any = document.get("data")
    if document.get("data_base64") is not None:
        data = _decode_base64(document["data_base64"], data is not None)
    elif data is None:
        raise Poison("the CloudEvent has no data", rule="envelope", field="data")
    elif not isinstance(data, dict):
        raise Poison("the data of the CloudEvent must be one JSON object", rule="not_object")
    else:
        careful.check_text(data)
    kind, source = document["type"], document["source"]
    return _opened(document["id"], source, kind, at, document.get("datacontenttype"), data)


def _opened(
    id: str, source: str, type: str, at: int | None, content_type: str | None, data: bytes | dict[str, Any]
) -> Opened:
    for name, value in (("id", id), ("source", source), ("type", type)):
        if not 1 <= len(value) <= ATTRIBUTE_LENGTH:
            raise Poison(
                f"a CloudEvent's `{name}` has 1 to {ATTRIBUTE_LENGTH} characters", rule="envelope", field=name
            )
    if content_type is not None and not content_type.partition(";")[0].strip().lower().endswith(
        ("/json", "+json")
    ):
        raise Poison("the data must be JSON", rule="envelope", field="datacontenttype")
    if type.endswith("observation"):
        return Opened("observation", id, source, at, data)
    if type.endswith("label"):
        return Opened("label", id, source, at, data)
    raise Poison(
        "the type of a CloudEvent ends with `observation` or `label` here", rule="kind", field="type"
    )


def _decode_base64(text: str, has_data: bool) -> bytes:
    if has_data:
        raise Poison(
            "a CloudEvent has `data` or `data_base64`, not both", rule="envelope", field="data_base64"
        )
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Poison("is no base64", rule="envelope", field="data_base64") from None
