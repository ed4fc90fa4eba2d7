"""Ids for observations that came without one.

Three makers, by where the observation came from. Fresh: UUID version 7, so ids sort by time. Keyed: derived from the
Idempotency-Key and the body, so that a request repeated after a lost answer gets the same ids, even from another
process, and the fold drops the second copy. Placed: from an inbox record's topic, partition and offset, so a batch
that is delivered again writes the same ids. Callers pass the clock and the random source; nothing here has either.
"""

import hashlib
from collections.abc import Callable

import msgspec

_COUNTER_BITS = 42
_TAIL_BITS = 32


def fresh_ids(clock_ms: Callable[[], int], random_bits: Callable[[int], int]) -> Callable[[], str]:
    """A maker of UUIDv7 texts (RFC 9562, method 2: a counter in the random part), strictly rising in one process."""
    last_ms = -1
    counter = 0

    def make() -> str:
        nonlocal last_ms, counter
        now_ms = clock_ms()
        if now_ms > last_ms:
            last_ms, counter = now_ms, random_bits(_COUNTER_BITS - 1)
        else:
            counter += 1
            if counter >> _COUNTER_BITS:
                last_ms, counter = last_ms + 1, random_bits(_COUNTER_BITS - 1)
        high, low = divmod(counter, 1 << 30)
        value = (last_ms << 80) | (7 << 76) | (high << 64) | (2 << 62) | (low << 32) | random_bits(_TAIL_BITS)
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return make


def keyed_ids(scope: str, idempotency_key: str, fingerprint: bytes) -> Callable[[int], str]:
    """A maker of ids by line number, the same for the same scope (who, which stream), key and body fingerprint."""
    seed = hashlib.sha256(f"{scope}\x00{idempotency_key}\x00".encode() + fingerprint).hexdigest()[:32]

    def make(line: int) -> str:
        return f"{seed}-{line}"

    return make


def placed_id(topic: str, partition: int, offset: int) -> str:
    """The id of an inbox record that brought none, e.g. `flights-inbox-0-123` (stream names hold no dot)."""
    return f"{topic.replace('.', '-')}-{partition}-{offset}"


class _Data(msgspec.Struct):
    id: str = ""


class _Record(msgspec.Struct):
    id: str = ""
    specversion: str = ""
    data: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Record).decode
_decode_data = msgspec.json.Decoder(_Data).decode


def id_given(topic: str, partition: int, offset: int, value: bytes) -> str:
    """The id under which an inbox record goes into the log, as far as a look at its bytes can tell; else empty."""
    try:
        record = _decode(value)
        inner = _decode_data(record.data).id if record.specversion else ""
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return inner or record.id or placed_id(topic, partition, offset)
