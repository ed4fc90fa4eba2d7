"""How the registry's tables became what `tables.py` says: one file a change in `versions/`, each after the one before.

Numbers count from 0001 without gaps or branches. The first four are the schemas that were counted in `registry_schema`
before there was Alembic, so that a database of any of them is taken over where it stands. To add or change a table,
change `tables.py` and run `tests/integration/test_registry_migrations.py`: it says what is missing, as the file that is
to be written. A file that was released is never changed, and names nothing of `tables.py`, which goes on without it.
"""
