"""What is to be measured, and what was, as plain structs: they are stored, answered over HTTP, shown as they are.

Shares are of 1, times milliseconds. Everything is bounded: fields, categories, the length of their texts, and the whole
(`MEASUREMENT_BYTES`), for which the rarest categories give way.
"""

import msgspec

import headrace
from headrace.contracts.events import ContractAdopted
from headrace.contracts.left_out import Below
from headrace.datasets.digest import PartitionDigest

MEASUREMENT_BYTES = 1024 * 1024
"""Most bytes of a stored measurement, as JSON."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Stretch(msgspec.Struct, frozen=True):
    """Offsets start <= offset < end of a partition. contract: in force before them. left_out: what does not belong."""

    partition: int
    start: int
    end: int
    contract: ContractAdopted | None = None
    left_out: tuple[Below, ...] = ()


class Numbers(msgspec.Struct, frozen=True):
    """Of some numbers; std is that of the population. quantiles: approximate, by q as text."""

    min: float
    max: float
    mean: float | None
    std: float | None
    quantiles: dict[str, float]


class Category(msgspec.Struct, frozen=True):
    """A value, cut at `columns.TEXT_LENGTH` characters, and how often it came."""

    value: str
    count: int


class FieldProfile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One feature over the observations. count: that have it; missing: that could have it and have not.

    unfit: values of another type than the contract's, left out of the rest. distinct (texts, booleans): an estimate.
    top: most frequent first; top_error: by how much a count may be too high at most, 0: the counts are exact. Of a
    personal field there are no values here.
    """

    name: str
    type: str
    count: int = 0
    missing: int = 0
    unfit: int = 0
    numbers: Numbers | None = None
    distinct: int | None = None
    top: list[Category] = []
    top_error: int = 0


class LabelProfile(msgspec.Struct, frozen=True, omit_defaults=True):
    """First labels that met their observation in the range. balance: by class; numbers: of a regression.

    delay_ms: event time from observation to label; below 0, the label is older.
    """

    count: int = 0
    balance: list[Category] = []
    numbers: Numbers | None = None
    delay_ms: Numbers | None = None


class Profile(msgspec.Struct, frozen=True):
    """What is in a dataset. unprofiled: features beyond the bound. entities: of observations, an estimate.

    sources: observations and labels by where they came from, "" if they do not say. first_at, last_at: event time.
    """

    fields: list[FieldProfile]
    unprofiled: int
    label: LabelProfile
    entities: int
    sources: list[Category]
    first_at: int | None
    last_at: int | None


class Rejections(msgspec.Struct, frozen=True):
    """What ingest refused while the range was written. records None: that cannot be told, and `untold` says why.

    share: of what was sent (observations, duplicates, labels, and these).
    """

    records: int | None = None
    share: float | None = None
    by_rule: dict[str, int] = {}
    untold: str = ""


class Quality(msgspec.Struct, frozen=True):
    """How good the records are, each range looked at alone, with the contract's own bounds and label policy.

    records: that belong; left_out: that do not, by `without`. refused: log records that no fold can use. labels:
    matched with an observation of the range; unmatched, as there is none; ignored, as there was one already or it came
    too late; corrected. expired: observations without a label in time; waiting: that may yet get one. late:
    observations and labels whose event time is before that of a record above them, latest_ms: by how much at most.
    """

    records: int
    left_out: int
    controls: int
    refused: int
    observations: int
    duplicates: int
    labels: int
    matched: int
    unmatched: int
    ignored: int
    corrected: int
    expired: int
    waiting: int
    late: int
    latest_ms: int
    rejected: Rejections = Rejections()

    @property
    def sent(self) -> int:
        """Observations and labels, repeated ones too."""
        return self.observations + self.duplicates + self.labels

    @property
    def late_share(self) -> float | None:
        """Of the observations and labels."""
        return self.late / self.sent if self.sent else None


class Archived(msgspec.Struct, frozen=True):
    """The part of a partition's range that the archive held: its entries, and the sha256 of the last one.

    An entry names the sha256 of its segment and of the entry before, so the last one stands for all.
    """

    partition: int
    start: int
    end: int
    entries: int
    entry: str


class Measurement(msgspec.Struct, frozen=True):
    """All that was measured. digest: of all records that belong (`digest.whole`). code: what measured it."""

    digest: str
    partitions: list[PartitionDigest]
    quality: Quality
    profile: Profile
    archived: list[Archived] = []
    code: str = f"headrace {headrace.__version__}"


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Measurement).decode


def bounded(measurement: Measurement, most_bytes: int = MEASUREMENT_BYTES) -> Measurement:
    """The measurement, with so few categories that it fits."""
    most = max((len(field.top) for field in measurement.profile.fields), default=0)
    while len(encode(measurement)) > most_bytes and most:
        most //= 2
        fields = [
            msgspec.structs.replace(field, top=field.top[:most]) for field in measurement.profile.fields
        ]
        profile = msgspec.structs.replace(measurement.profile, fields=fields)
        measurement = msgspec.structs.replace(measurement, profile=profile)
    return measurement
