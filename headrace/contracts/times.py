"""Times as texts and as integer milliseconds since 1970 UTC, the one form a log knows.

One parser for the wire, for documents and for CSV files, so that a time means the same wherever it enters. A time
without an offset is UTC: guessing a zone from the machine would make the same bytes mean two moments on two machines.
"""

import re
from datetime import UTC, date, datetime, timedelta

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # what times without an offset are measured from
_MILLISECOND = timedelta(milliseconds=1)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MINUTE = re.compile(r"(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2})(Z|[+-]\d{2}:?\d{2})?", re.ASCII | re.IGNORECASE)


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970 UTC; what is finer is cut off (downwards). Without a zone: UTC."""
    return (moment - (_NAIVE_EPOCH if moment.tzinfo is None else _EPOCH)) // _MILLISECOND


def parse_ms(text: str) -> int:
    """Read an RFC 3339 time, also without seconds, without offset (UTC), or a date alone (midnight UTC).

    Raises `ValueError` for anything else, leap seconds included.
    """
    try:
        return to_ms(msgspec.convert(text, datetime))
    except msgspec.ValidationError:
        pass
    if _DATE.fullmatch(text):
        return to_ms(datetime.combine(date.fromisoformat(text), datetime.min.time(), tzinfo=UTC))
    minute = _MINUTE.fullmatch(text)
    if minute is None:
        raise ValueError(f"{text[:40]!r} is no RFC 3339 time")
    try:
        return to_ms(msgspec.convert(f"{minute[1]}:00{minute[2] or ''}", datetime))
    except msgspec.ValidationError as error:
        raise ValueError(f"{text[:40]!r} is no time") from error


def to_text(ms: int) -> str:
    """The RFC 3339 form in UTC, milliseconds only if there are any. Raises `OverflowError` outside years 1-9999."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds").replace("+00:00", "Z")
