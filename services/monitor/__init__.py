"""Monitor: windowed statistics of every stream, and alerts when quality falls.

Data plane: consumes `S.log`, `S.predictions`, `S.outcomes`, `S.rejected` of every stream and emits window summaries to
`headrace.statistics`, exactly once (the transactional host). Control plane: a Faust app consumes `headrace.statistics`,
keeps windowed tables, holds them against rules, emits `headrace.alerts`; what models use is followed on
`headrace.usage`. Keeps snapshots of the data plane and the rules file under its home folder; the tables are rebuilt
from the compacted topics. Guarantees: the tables equal what counting the records one by one would give, whatever
crashed; an alert is told at least once under one id.
"""
