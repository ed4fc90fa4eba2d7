"""Request bodies to raw lines: content types, bounded gunzip, and where one event ends.

A line stays raw bytes here; only the contract's cleanser looks inside, so that whatever is wrong with one line is that
line's problem and never its neighbours'. The bounds are enforced while the bytes arrive: a small gzip body that
unfolds into gigabytes is refused after `limit_bytes` of output, not after memory is gone.
"""

import zlib
from typing import Literal

import msgspec

from headrace.errors import Unusable

Form = Literal["json", "ndjson", "cloudevent", "cloudevents"]
"""How a body holds its events: one JSON value (object or array), one a line, one CloudEvent, a CloudEvents batch."""

FORMS: dict[str, Form] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/cloudevents+json": "cloudevent",
    "application/cloudevents-batch+json": "cloudevents",
}

GZIP_MEMBERS = 1_000
_GZIP_WINDOW = 31  # zlib's way to say: a gzip header, the largest window


class TooLarge(Unusable):
    """The body (or what it unfolds to, or its number of lines) is over the limit. Duty: send smaller bodies."""


class UnsupportedBody(Unusable):
    """Content type, charset or encoding is none that ingest reads. Duty: send one of those the text names."""


class MalformedBody(Unusable):
    """The body as a whole cannot be taken apart into events, or holds none. Duty: mend it and send it again."""

    def __init__(self, reason: str, *, rule: str) -> None:
        super().__init__(reason)
        self.rule = rule


def form_of(content_type: str | None) -> Form:
    """The form a Content-Type header announces. Raises `UnsupportedBody` naming the allowed ones."""
    media_type, *parameters = (content_type or "").split(";")
    form = FORMS.get(media_type.strip().lower())
    if form is None:
        raise UnsupportedBody(
            f"content type {media_type.strip()[:80]!r} is not read here; send one of {', '.join(FORMS)}"
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
            raise UnsupportedBody(f"charset {charset[:40]!r} is not read here; send UTF-8")
    return form


class BodyBuffer:
    """Collects a body chunk by chunk, unfolding gzip on the way, and never holds more than `limit_bytes`."""

    def __init__(self, content_encoding: str | None, limit_bytes: int) -> None:
        encoding = (content_encoding or "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise UnsupportedBody(
                f"content encoding {encoding[:40]!r} is not read here; send gzip or identity"
            )
        self._limit = limit_bytes
        self._chunks: list[bytes] = []
        self._held = 0
        self._received = 0
        self._members = 0
        self._gzip = None if encoding == "identity" else zlib.decompressobj(_GZIP_WINDOW)

    def feed(self, chunk: bytes) -> int:
        """Take the next bytes off the wire; returns by how much the buffer grew.

        Raises `TooLarge` over the limit (of sent or of unfolded bytes), `MalformedBody` if the gzip is damaged.
        """
        self._received += len(chunk)
        if self._received > self._limit:
            raise TooLarge(f"the body is larger than {self._limit} bytes; send it in parts")
        if self._gzip is None:
            return self._hold(chunk)
        grown = 0
        try:
            while chunk:
                if self._gzip.eof:
                    self._members += 1
                    if self._members >= GZIP_MEMBERS:
                        raise TooLarge(f"the gzip body has more than {GZIP_MEMBERS} members; send one")
                    self._gzip = zlib.decompressobj(_GZIP_WINDOW)
                grown += self._hold(self._gzip.decompress(chunk, self._limit - self._held + 1))
                chunk = self._gzip.unused_data
        except zlib.error as error:
            raise MalformedBody(f"the gzip is damaged: {error}", rule="gzip") from None
        return grown

    def finish(self) -> bytes:
        """The whole body, unfolded. Raises `MalformedBody` if the gzip ends early."""
        if self._gzip is not None and self._received and not self._gzip.eof:
            raise MalformedBody("the gzip ends before its last block", rule="gzip")
        return b"".join(self._chunks)

    def _hold(self, chunk: bytes) -> int:
        self._held += len(chunk)
        if self._held > self._limit:
            raise TooLarge(f"the body unfolds to more than {self._limit} bytes; send it in parts")
        if chunk:
            self._chunks.append(chunk)
        return len(chunk)


def lines_of(form: Form, body: bytes, limit_lines: int) -> list[bytes]:
    """Take a body apart into raw events, in order; blank NDJSON lines stay, so that line numbers are the sender's.

    Raises `MalformedBody` (rule `json` or `empty`) and `TooLarge` (more than `limit_lines` lines).
    """
    if form == "ndjson":
        if body.count(b"\n") >= limit_lines and body.rstrip().count(b"\n") >= limit_lines:
            raise TooLarge(f"the body has more than {limit_lines} lines; send it in parts")
        lines = body.split(b"\n")
    elif form == "cloudevents" or (form == "json" and body.lstrip()[:1] == b"["):
        lines = _elements(body)
        if len(lines) > limit_lines:
            raise TooLarge(f"the body has more than {limit_lines} events; send it in parts")
    else:
        lines = [body]
    if not any(line and not line.isspace() for line in lines):
        raise MalformedBody("the body holds no event", rule="empty")
    return lines


def _elements(body: bytes) -> list[bytes]:
    try:
        return [bytes(element) for element in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except RecursionError:
        raise MalformedBody("the body is nested too deeply", rule="json") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not a JSON array of events: {error}", rule="json") from None
