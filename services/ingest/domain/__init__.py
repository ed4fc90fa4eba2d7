"""Pure parts of ingest: bodies to lines, lines to log messages, ids, idempotency. No web, no Kafka, no clock."""
