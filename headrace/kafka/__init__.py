"""The only package that speaks to Kafka: edges that turn its clients' ways into ours.

Everything above sees batches, messages, futures and the three errors of `headrace.errors`; nothing above imports a
Kafka client. Settings that every client shares live in `headrace.kafka.admin.client_settings`.
"""
