"""What a shard has counted since its log began."""

import msgspec


class Counters(msgspec.Struct):
    """Totals of one shard. observations = pending + labelled + expired, always (a law, and tested as one).

    observations: new ids seen, one prediction each. duplicates: observations dropped as their id was known. labels:
    label records, of which labelled joined first, second_labels came again under `ignore`, corrected replaced one.
    expired: without a label in time, pushed_out of them early as `limits.pending` was full. unmatched: labels whose
    observation never came. refused: records the fold could not use.
    """

    observations: int = 0
    duplicates: int = 0
    labels: int = 0
    labelled: int = 0
    expired: int = 0
    pushed_out: int = 0
    unmatched: int = 0
    second_labels: int = 0
    corrected: int = 0
    refused: int = 0
