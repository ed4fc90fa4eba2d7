"""The archive: closed ranges of a log as Parquet in an object store, so that replay outlives Kafka's retention.

A partition's archive is a chain. Each link is a *segment* (Parquet, named by its digest) and an *entry* that says which
offsets the segment holds and what the link before it was. An entry's name is the offset at which its range starts, and
it is created, never replaced: whoever creates it first has extended the chain, everybody else finds it there. So the
chain's end is the archiver's position, in the same place and the same instant as the data, and exactly-once needs
neither a lock nor a transaction of Kafka's. Layout and rules: docs/archive.md.

`chain` is pure; `segment` knows Parquet; `store` alone knows object stores (optional: `pip install headrace[archive]`).
"""
