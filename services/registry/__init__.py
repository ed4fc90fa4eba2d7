"""Registry: which streams, contracts, models and deployments there are, and who may change them.

Consumes HTTP, `S.outcomes` of streams on which a rollout is under way, and of `S.log` what a dataset refers to. Emits
control records (contract, deploy, promote, share, freeze, retire, rebuild) into every partition of `S.log`, and
announces streams and deployments on `headrace.registry` (compacted). Keeps its database: SQLite by default,
PostgreSQL by URL. Guarantees: versions have no gaps; a stream has at most one champion; a change is decided in one
database transaction (compare-and-set), written as pending, and answered only once its control records are
acknowledged in every partition; an outcome counts once in a rollout's evidence; after a crash anywhere between, what
was decided is finished at the next start. A control record may then be written twice; it has the same id, and the
fold applies an id once. Every change leaves one record in the audit trail, in its own transaction; the trail's end is
announced on `headrace.audit`.
"""

from headrace import late

late.install(late.SCIPY)
