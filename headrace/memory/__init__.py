"""Kafka's rules in one process: hosts processors without a broker, for tests, examples and the simulation.

`MemoryBroker` keeps topics, transactions, committed offsets and who may commit them; `MemoryHost` runs the same
processors as the Kafka host and keeps the same promises. Nothing here reads a clock, draws a random number or starts a
thread, so whatever goes wrong can be made to go wrong again. What would break it: a rule that is kinder than Kafka's,
as then a test passes that must not.

>>> from headrace.memory import MemoryBroker, MemoryHost
>>> from services.scoring.processor import ScoringProcessor
>>> broker = MemoryBroker()
>>> for kind in ("log", "predictions", "outcomes", "rejected", "checkpoints"):
...     broker.create(f"s.{kind}")
>>> host = MemoryHost(broker, ScoringProcessor, ["s.log"])
>>> broker.produce("s.log", [{"key": b"k", "value": b"no event"}])
>>> host.run_until_idle()
1
>>> len(broker.values("s.rejected"))
1
"""

from headrace.memory.broker import Fenced, MemoryBroker, Record, Transaction
from headrace.memory.history import MemoryHistory
from headrace.memory.host import POINTS, Crash, MemoryHost, MemorySnapshots

__all__ = [
    "POINTS",
    "Crash",
    "Fenced",
    "MemoryBroker",
    "MemoryHistory",
    "MemoryHost",
    "MemorySnapshots",
    "Record",
    "Transaction",
]
