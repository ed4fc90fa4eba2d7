"""The Python SDK: publish events, work with the registry, read live metrics; sync and async, on httpx2.

`Client` and `AsyncClient` have the same methods; both are thin sends around the pure calls in `calls.py`, so they
cannot drift apart in what they ask for. Publishing carries an Idempotency-Key and waits out `429` and `503`, because a
producer that gives up there loses events and one that resends without a key doubles them; so does every change of the
registry, as its answer may be lost.

>>> from headrace.client import Client
>>> with Client(key="hr_...") as client:  # doctest: +SKIP
...     client.observe("flights", {"flight": "UA1-EWR", "carrier": "UA"})
...     client.metrics("flights")["total"]
"""

from headrace.client.asynchronous import AsyncClient
from headrace.client.calls import Addresses, Call, Receipt, Refusal
from headrace.client.problems import Busy, ServiceProblem, Unreachable
from headrace.client.synchronous import Client

__all__ = [
    "Addresses",
    "AsyncClient",
    "Busy",
    "Call",
    "Client",
    "Receipt",
    "Refusal",
    "ServiceProblem",
    "Unreachable",
]
