"""A shard over the log's bytes: decode a run of records, fold it, say which could not be used.

Every host of the fold goes through here: live scoring, recovery, rebuild, time travel, what-if. They differ in where
the records come from, in what becomes of the results, and in an `Edit` (what a replay leaves out or puts in), never in
how a record is read.
"""

from collections.abc import Sequence

import msgspec

from headrace.contracts.codec import decode_log_record
from headrace.contracts.events import LogRecord
from headrace.fold.edits import Edit
from headrace.fold.parts import Folded, Refused
from headrace.fold.shard import Shard

_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, TypeError)


class LogFold:
    """Folds one partition of a stream's log. edit: what a replay changes; None folds the log as it is.

    Not thread-safe, as the shard. Bounds: the shard's.
    """

    def __init__(self, shard: Shard | None = None, edit: Edit | None = None) -> None:
        self.shard = shard or Shard()
        self._edit = edit

    def fold(self, offsets: Sequence[int], values: Sequence[bytes | None]) -> Folded:
        """Fold records (oldest first, with their log offsets); `refused` also names those that do not decode."""
        records, decoded, undecodable = decode(offsets, values)
        if self._edit is not None:
            records, decoded = self._edit(records, decoded)
        folded = self.shard.fold(records, decoded)
        if undecodable:
            self.shard.counters.refused += len(undecodable)
            folded.refused = sorted(undecodable + folded.refused)
        return folded


def decode(
    offsets: Sequence[int], values: Sequence[bytes | None]
) -> tuple[Sequence[LogRecord], Sequence[int], list[Refused]]:
    """Records with their offsets, and the refusals of those that are none. The log is clean but for accidents."""
    try:
        return list(map(decode_log_record, values)), offsets, []  # type: ignore[arg-type]  # None raises
    except _UNDECODABLE:
        pass
    records: list[LogRecord] = []
    decoded: list[int] = []
    undecodable: list[Refused] = []
    for offset, value in zip(offsets, values, strict=True):
        try:
            records.append(decode_log_record(value))  # type: ignore[arg-type]  # None raises TypeError
            decoded.append(offset)
        except _UNDECODABLE as error:
            undecodable.append(Refused(offset, "log_record", str(error)))
    return records, decoded, undecodable
