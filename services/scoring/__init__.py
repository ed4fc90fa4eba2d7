"""Scoring: River models answer every observation and learn from every label.

Consumes `S.log` of every stream. Emits `S.predictions` (one per observation), `S.outcomes` (predictions joined with
labels, or expired, corrected, unmatched), `S.rejected` (log records the fold refused) and `S.checkpoints`; beside that,
at least once, what its models use (`headrace.usage`). Keeps one shard a partition (`headrace.fold`), snapshots under
its home folder. Guarantees: outputs and input offsets commit together, so each observation has exactly one prediction
whatever crashes; the same log gives the same bits.
"""

from headrace import late

late.install(late.OF_RIVER)
