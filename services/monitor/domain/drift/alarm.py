"""What a watch says when something has moved: the content of a `DriftDetected`, without the addresses.

A watch counts the records it is given from 0 and speaks of them by that index; whoever feeds it knows which offsets
they had (see positions.py). Evidence and threshold are both in records: a threshold of 400,000 means that this watch
would be wrong once in 400,000 records, if nothing ever moved.
"""

import msgspec

from headrace.contracts.events import DriftKind


class Alarm(msgspec.Struct, frozen=True):
    """Something has moved.

    index: of the record that decided it; since: of the first record after the most likely change. before, after: the
    subject's mean (share, rate) on both sides of the change. group: `field=value`, with bias only.
    """

    kind: DriftKind
    subject: str
    method: str
    index: int
    since: int
    before: float | None = None
    after: float | None = None
    evidence: float = 0.0
    threshold: float = 0.0
    model: str = ""
    group: str = ""
