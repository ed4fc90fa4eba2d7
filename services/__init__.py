"""The four services of Headrace: ingest, scoring, monitor, registry. They meet on Kafka topics, never by import."""
