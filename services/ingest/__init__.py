"""The ingest service: the one door through which events enter a stream's log.

Consumes: HTTP bodies (`POST /v1/streams/{stream}/observations`, `/labels` and, mixed, `/events`: JSON,
NDJSON, CloudEvents, gzip) and the topic S.inbox of every stream (plain JSON or CloudEvents, for producers
that speak Kafka). Follows `headrace.registry` to know the streams and their contracts.

Emits: S.log (observations and labels that keep the contract, keyed by entity) and S.rejected (the exact
bytes of what did not, with the broken rule, the reason and where it came from).

Keeps: nothing that matters. In memory and bounded: answers by Idempotency-Key, requests in flight, and the
ids whose predictions somebody waits for. All of it may be lost with the process.

Guarantees: a 202 is sent only after the broker acknowledged every accepted line (all in-sync replicas). The
inbox is copied transactionally: each record ends exactly once in S.log or in S.rejected. Nothing bad is
dropped silently: every refused line is named in the answer and kept in S.rejected; a body refused as a
whole (413, 415, 429) is refused before any of its lines is taken. What ingest does not judge: a repeated
id, a label for nothing and a second label are answered by the fold, which alone knows the whole log.
"""
