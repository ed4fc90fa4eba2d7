"""Monitor: windowed statistics of every stream, alerts when a figure crosses a bound or something has moved.

Data plane: consumes `S.log`, `S.predictions`, `S.outcomes`, `S.rejected` of every stream and emits window summaries to
`headrace.statistics`, and what has moved to `headrace.drift` and `headrace.retrains`, exactly once (the transactional
host). Control plane: a Faust app consumes `headrace.statistics` and `headrace.drift`, keeps windowed tables, holds both
against rules, emits `headrace.alerts` and `headrace.mutes`; what models use is followed on `headrace.usage`. Delivery:
threads carry `headrace.alerts` to channels (webhooks, email, Slack). On demand a process of its own reads stretches of
`S.log`, `S.predictions` and `S.outcomes` again, to say why something moved. Keeps snapshots of the data plane, the
rules and what was delivered under its home folder; the tables are rebuilt from the compacted topics. Guarantees: the
tables equal what counting the records one by one would give, whatever crashed; drift is told once; a step of an alert
is told, on the topic and to each channel, at least once under one id.
"""
