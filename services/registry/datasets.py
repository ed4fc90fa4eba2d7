"""The registry's memory of datasets: versions without gaps, never changed; what was measured is added once."""

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from headrace.contracts.left_out import LeftOut, describe
from headrace.datasets.measurement import Measurement, decode, encode
from services.registry.database import Database, compare_and_set
from services.registry.decisions import Absent, stream_row
from services.registry.domain import audit
from services.registry.domain.audit import By, Change
from services.registry.domain.datasets import Reference
from services.registry.domain.lifecycle import Conflict
from services.registry.request import Version, expect
from services.registry.tables import DatasetRow, MeasurementRow
from services.registry.trail import Trail

MEASURER = By("the registry", "measured")
LONGEST_FAILURE = 1000


class DatasetStore:
    """Datasets. Safe to use from several threads. Raises `Transient` as the database does."""

    def __init__(self, database: Database, now_ms: Callable[[], int], trail: Trail) -> None:
        self._read = database.read
        self._write = database.write
        self._decide = database.decide
        self._now_ms = now_ms
        self._record = trail.append

    def create(
        self, name: str, reference: Reference, contracts: list[int], description: str, by: By
    ) -> tuple[int, bool]:
        """Make a reference the dataset's next version, or find the version that it is: (version, whether new).

        One that could not be measured is to be measured again. Raises `Conflict` if the dataset is of another stream.
        """

        def work(session: Session) -> tuple[int, bool]:
            stream_row(session, reference.stream)
            latest = session.scalar(
                select(DatasetRow).where(DatasetRow.name == name).order_by(DatasetRow.version.desc()).limit(1)
            )
            expect(*([] if latest is None else [dataset_version(latest)]))
            if latest is not None and latest.stream != reference.stream:
                raise Conflict(f"dataset {name} is of stream {latest.stream}: take another name")
            digest = reference.digest
            present = session.scalar(
                select(DatasetRow).where(DatasetRow.name == name, DatasetRow.reference == digest)
            )
            if present is not None:
                if present.state == "failed":
                    present.state, present.failure = "measuring", ""
                return present.version, False
            version, now = 1 if latest is None else latest.version + 1, self._now_ms()
            session.add(
                DatasetRow(
                    name=name,
                    version=version,
                    reference=digest,
                    stream=reference.stream,
                    ranges={part: list(span) for part, span in reference.ranges.items()},
                    contracts=contracts,
                    without=msgspec.to_builtins(reference.without),
                    description=description,
                    created_ms=now,
                    created_by=by.name,
                    reason=by.reason,
                    state="measuring",
                    failure="",
                )
            )
            before = {} if latest is None else {"dataset": f"{name}@{latest.version}"}
            after = {
                "dataset": f"{name}@{version}",
                "ranges": reference.ranges,
                "without": audit.sealed(describe(reference.without)),
            }
            self._record(session, now, by, Change("dataset", before, after, reference.stream))
            return version, True

        return self._decide(work)

    def latest(self, limit: int, after: str = "", stream: str = "") -> list[DatasetRow]:
        """The latest version of every dataset, by name, those after `after`; only of one stream, if one is named."""
        newest = (
            select(DatasetRow.name, func.max(DatasetRow.version).label("version"))
            .where(DatasetRow.name > after, *([DatasetRow.stream == stream] if stream else []))
            .group_by(DatasetRow.name)
            .order_by(DatasetRow.name)
            .limit(limit)
            .subquery()
        )
        query = (
            select(DatasetRow)
            .join(newest, (DatasetRow.name == newest.c.name) & (DatasetRow.version == newest.c.version))
            .order_by(DatasetRow.name)
        )
        return self._read(lambda session: list(session.scalars(query)))

    def versions(self, name: str, limit: int, below: int | None = None) -> list[DatasetRow]:
        """Versions of a dataset below a number, newest first, or `Absent`."""

        def work(session: Session) -> list[DatasetRow]:
            query = select(DatasetRow).where(DatasetRow.name == name).order_by(DatasetRow.version.desc())
            if session.scalar(query.limit(1)) is None:
                raise Absent(f"there is no dataset {name}")
            if below is not None:
                query = query.where(DatasetRow.version < below)
            return list(session.scalars(query.limit(limit)))

        return self._read(work)

    def get(self, name: str, version: int) -> DatasetRow:
        """A version of a dataset, or `Absent`."""

        def work(session: Session) -> DatasetRow:
            row = session.get(DatasetRow, (name, version))
            if row is None:
                raise Absent(f"there is no version {version} of dataset {name}")
            return row

        return self._read(work)

    def of_stream(self, stream: str, limit: int) -> list[DatasetRow]:
        """Versions of all datasets of a stream, newest first."""
        query = (
            select(DatasetRow)
            .where(DatasetRow.stream == stream)
            .order_by(DatasetRow.created_ms.desc(), DatasetRow.name, DatasetRow.version.desc())
            .limit(limit)
        )
        return self._read(lambda session: list(session.scalars(query)))

    def measurement(self, name: str, version: int) -> Measurement | None:
        """What was measured of a version; None: nothing yet."""
        row = self._read(lambda session: session.get(MeasurementRow, (name, version)))
        return None if row is None else decode(row.measurement)

    # -- measuring ----------------------------------------------------------------------------------------------------

    def to_measure(self, limit: int) -> list[DatasetRow]:
        """Versions that have no measurement yet, the oldest first."""
        query = (
            select(DatasetRow)
            .where(DatasetRow.state == "measuring")
            .order_by(DatasetRow.created_ms, DatasetRow.name, DatasetRow.version)
            .limit(limit)
        )
        return self._read(lambda session: list(session.scalars(query)))

    def measured(self, row: DatasetRow, measurement: Measurement) -> bool:
        """Write down what was measured of a version; False if another process did so before."""

        def work(session: Session) -> bool:
            now = self._now_ms()
            records = measurement.quality.records
            if not self._ends(
                session, row, state="measured", measured_ms=now, digest=measurement.digest, records=records
            ):
                return False
            text = encode(measurement).decode()
            session.add(MeasurementRow(name=row.name, version=row.version, measurement=text))
            after = {"dataset": f"{row.name}@{row.version}", "digest": measurement.digest, "records": records}
            self._record(session, now, MEASURER, Change("dataset-measure", {}, after, row.stream))
            return True

        return self._write(work)

    def failed(self, row: DatasetRow, reason: str) -> None:
        """It cannot be measured; to ask for it again tries again."""
        self._write(
            lambda session: self._ends(session, row, state="failed", failure=reason[:LONGEST_FAILURE])
        )

    @staticmethod
    def _ends(session: Session, row: DatasetRow, **values: Any) -> bool:
        held = session.get_one(DatasetRow, (row.name, row.version))
        if held.state != "measuring":
            return False
        compare_and_set(
            session,
            held,
            update(DatasetRow)
            .where(
                DatasetRow.name == row.name,
                DatasetRow.version == row.version,
                DatasetRow.state == "measuring",
            )
            .values(**values),
        )
        return True


def dataset_version(row: DatasetRow) -> Version:
    """A dataset, by its latest version."""
    return Version("dataset", row.name, row.version)


def reference_of(row: DatasetRow) -> Reference:
    """What a row refers to."""
    ranges = {
        part: (span[0], span[1]) for part, span in sorted(row.ranges.items(), key=lambda one: int(one[0]))
    }
    return Reference(row.stream, ranges, msgspec.convert(row.without, LeftOut))
