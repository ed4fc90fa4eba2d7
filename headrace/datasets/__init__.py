"""Datasets: ranges of a stream's log under a name, with a digest of their records and a profile of what is in them.

Data by reference: the log and its archive hold the bytes, a dataset says which. `digest`, `columns` and `profiler` are
pure; `measure` runs them over a `headrace.history.History`, `verify` reads the records again. What would break: a
figure that depended on how the records were batched, or on which keeper they came from.
"""
