"""Registry: which streams, contracts, models and deployments there are, and who may change them.

Consumes HTTP only. Emits control records (contract, deploy, promote, freeze, retire) into every partition of `S.log`,
and announces streams and deployments on `headrace.registry` (compacted). Keeps its database: SQLite by default,
PostgreSQL by URL. Guarantees: versions have no gaps; a stream has at most one champion; a change is decided in one
database transaction (compare-and-set), written as pending, and answered only once its control records are
acknowledged in every partition; after a crash anywhere between, what was decided is finished at the next start. A
control record may then be written twice; it has the same id, and the fold applies an id once.
"""

from headrace import late

late.install(late.SCIPY)
