"""What scoring tells of the resources that models take: one report a partition, event-time window and life of a shard.

A report holds *all* that was used in its window by that life, not a change to it, and is told under one key again and
again while it grows. So merging is idempotent: of two reports with one key the later one wins, and reports with
different keys add up. All amounts are integers, so sums are exact and do not depend on an order. Not a function of the
log, unlike everything else: what was measured here can be measured only once.
"""

import msgspec


class Used(msgspec.Struct, omit_defaults=True):
    """What one model version used. cpu_ns: processor time. state_bytes: of its state when it was last measured.

    byte_seconds: state held, over real time. snapshot_bytes: its part of the snapshots that were stored.
    """

    cpu_ns: int = 0
    byte_seconds: int = 0
    state_bytes: int = 0
    snapshot_bytes: int = 0

    def add(self, other: "Used", sign: int = 1) -> None:
        """Add another report's amounts, or (sign -1) take them back. `state_bytes` is a state, which has no sum."""
        self.cpu_ns += sign * other.cpu_ns
        self.byte_seconds += sign * other.byte_seconds
        self.snapshot_bytes += sign * other.snapshot_bytes


class UsageReport(msgspec.Struct, omit_defaults=True):
    """What the models of one shard used while its event time was in one window.

    start: first millisecond of the window, `length_seconds` long. life: when this shard was begun in its process, ms
    since 1970. number: counts the reports of the life, rising. records: log records folded, those relived after a start
    too. models: by `model@version`. shared: what no model was charged with: decoding, joining, writing.
    """

    stream: str
    partition: int
    length_seconds: int
    start: int
    life: int
    number: int
    records: int = 0
    models: dict[str, Used] = {}
    shared: Used = msgspec.field(default_factory=Used)

    def key(self) -> bytes:
        """The record's key: of reports with one key the one with the highest number is the present."""
        return f"{self.stream}/{self.partition}/{self.length_seconds}/{self.start}/{self.life}".encode()


encode_usage = msgspec.json.Encoder().encode
decode_usage = msgspec.json.Decoder(UsageReport).decode
