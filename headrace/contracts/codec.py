"""Bytes to events and back: one decoder and one encoder a kind, built once.

Decoding validates types; it is the fast half of what the contract checks (the slow half, ranges and sets, is ingest's
and happens once, before a record enters the log).
"""

import msgspec

from headrace.contracts.events import (
    Alert,
    AlertsMuted,
    Announcement,
    AuditHead,
    DriftDetected,
    LogRecord,
    Rejected,
    RetrainProposed,
    RowsWritten,
)

encoder = msgspec.json.Encoder()
encode = encoder.encode

decode_log_record = msgspec.json.Decoder(LogRecord).decode
decode_rejected = msgspec.json.Decoder(Rejected).decode
decode_audit_head = msgspec.json.Decoder(AuditHead).decode
decode_rows_written = msgspec.json.Decoder(RowsWritten).decode
decode_drift = msgspec.json.Decoder(DriftDetected).decode
decode_alert = msgspec.json.Decoder(Alert).decode
decode_mute = msgspec.json.Decoder(AlertsMuted).decode
decode_retrain = msgspec.json.Decoder(RetrainProposed).decode
decode_announcement = msgspec.json.Decoder(Announcement).decode
