"""Every operator and processor keeps every law it promises, and none was forgotten.

What is put to work how stands in `subjects`; the laws are those of `headrace.testing.laws`.
"""

import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import headrace
import services
from headrace.testing import laws
from tests.laws.subjects import (
    BATCHES,
    DUPLICATES,
    HASH_SEEDS,
    LAWS,
    MEMORY,
    RESTORING,
    SUBJECTS,
    Flood,
    Subject,
)

some = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining traces every line
)
randoms = st.randoms(use_true_random=False)


def promising(law: str) -> list:
    return [pytest.param(one, id=one.name) for one in SUBJECTS if law not in one.not_promised]


@pytest.mark.parametrize("subject", promising(BATCHES))
@some
@given(randoms, st.integers(1, 80))
def test_batches_change_nothing(subject: Subject, rng: Random, records: int) -> None:
    history = subject.batch(subject.draw(rng, records))
    laws.batches_change_nothing(subject.make, history, view=subject.view, state=subject.state)


@pytest.mark.parametrize("subject", promising(RESTORING))
@some
@given(randoms, st.integers(1, 60))
def test_restoring_changes_nothing(subject: Subject, rng: Random, records: int) -> None:
    history = subject.batch(subject.draw(rng, records))
    laws.restoring_changes_nothing(subject.make, history, view=subject.view, state=subject.state)


@pytest.mark.parametrize("subject", promising(RESTORING))
def test_batches_and_restoring_in_a_long_history(subject: Subject) -> None:
    """Long enough to fill blocks and journals, and to close windows."""
    history = subject.random_batch(3, subject.long)
    laws.batches_change_nothing(subject.make, history, view=subject.view, state=subject.state)
    n = len(history.offsets)
    cuts = [n // 3, n - 7]
    laws.restoring_changes_nothing(subject.make, history, cuts=cuts, view=subject.view, state=subject.state)
    laws.damage_is_refused(subject.make, history)


@pytest.mark.parametrize("subject", promising(DUPLICATES))
@some
@given(randoms, st.integers(1, 60), st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=40))
def test_duplicates_change_nothing(
    subject: Subject, rng: Random, records: int, pairs: list[tuple[int, int]]
) -> None:
    head = subject.head if subject.roomy_head is None else subject.roomy_head
    history = subject.batch(subject.draw(rng, records), head)
    last = len(history.offsets) - 1
    repeats = [(min(*pair, last), min(max(pair), last)) for pair in pairs]
    laws.duplicates_change_nothing(
        subject.make, history, repeats=repeats, view=subject.once_view, state=subject.once_state
    )


FLOODS = [
    pytest.param(one, flood, id=f"{one.name}: {name}")
    for one in SUBJECTS if MEMORY not in one.not_promised
    for name, flood in one.floods.items()
]  # fmt: skip


@pytest.mark.parametrize(("subject", "flood"), FLOODS)
def test_memory_is_bounded(subject: Subject, flood: Flood) -> None:
    history = subject.batch([flood.record(i) for i in range(flood.records)], flood.head)
    laws.memory_is_bounded(
        flood.make or subject.make, history, full_after=flood.full_after, slack=flood.slack
    )


@pytest.mark.slow
def test_hash_seeds_change_nothing() -> None:
    answers = laws.hash_seeds_change_nothing("tests.laws.subjects:digests")
    assert set(answers) == {one.name for one in SUBJECTS if HASH_SEEDS not in one.not_promised}


# -- none is forgotten -----------------------------------------------------------------------------------------

ELSEWHERE = {
    "headrace.contracts.careful.Careful": "the cleanser's second look",
    "headrace.fold.metrics.BinaryTally": "Prequential's blocks",
    "headrace.fold.metrics.MulticlassTally": "Prequential's blocks",
    "headrace.fold.metrics.RegressionTally": "Prequential's blocks",
    "headrace.fold.log.LogFold": "decodes for the shard, which is tested through it",
    "headrace.fold.replacements.Converted": "River's, mended: tests/laws/test_every_river_class.py",
    "headrace.fold.replacements.InOrder": "River's, mended: tests/laws/test_every_river_class.py",
    "headrace.fold.replacements.Numbered": "River's, mended: tests/laws/test_every_river_class.py",
    "headrace.fold.replacements.Select": "River's, mended: tests/laws/test_every_river_class.py",
    "headrace.fold.deadlines.Deadlines": "a part of the shard, whose laws are its",
    "headrace.fold.parts.Folded": "what a shard returns, made anew for each batch",
    "headrace.testing.adapter.AsProcessor": "the adapter through which most of the others are tested",
    "services.ingest.agents.CountedInbox": "the inbox processor; what it adds are metrics",
    "services.ingest.domain.bodies.BodyBuffer": "lives for one request, bounded: tests/unit/ingest/test_bodies.py",
    "services.registry.domain.audit.Seal": "holds keys, no state: tests/unit/test_registry_audit.py",
    "headrace.contracts.groups.Groups": "compiled from a contract, unchanging: tests/unit/contracts/test_groups.py",
    "services.monitor.domain.allowance.Allowance": "the detectors': tests/unit/monitor/test_detecting_tolerance.py",
    "services.monitor.domain.columns.Columns": "a batch, made anew for each",
    "services.monitor.domain.columns.LogColumns": "a batch, made anew for each",
    "services.monitor.domain.columns.OutcomeColumns": "a batch, made anew for each",
    "services.monitor.domain.columns.PredictionColumns": "a batch, made anew for each",
    "services.monitor.domain.columns.RejectedColumns": "a batch, made anew for each",
    "services.monitor.domain.estimating.Estimator": "the tables', worked out of them: tests/laws/test_monitor_laws.py",
    "services.monitor.domain.detecting.Answers": "the summariser's, and resumed by it",
    "services.monitor.domain.detecting.LogDetector": "the summariser's, and resumed by it",
    "services.monitor.domain.detecting.PredictionDetector": "the summariser's, and resumed by it",
    "services.monitor.domain.drift.bernoulli.BernoulliWatch": "tests/unit/monitor/test_drift_concept.py",
    "services.monitor.domain.drift.bias.BiasWatch": "tests/unit/monitor/test_drift_bias.py",
    "services.monitor.domain.drift.bias.Past": "BiasWatch's",
    "services.monitor.domain.drift.calibration.CalibrationWatch": "tests/unit/monitor/test_drift_concept.py",
    "services.monitor.domain.drift.concept.ConceptWatch": "tests/unit/monitor/test_drift_concept.py",
    "services.monitor.domain.drift.data.DataWatch": "tests/unit/monitor/test_drift_fields.py",
    "services.monitor.domain.drift.dispersion.Dispersion": "a part of the watches",
    "services.monitor.domain.drift.distribution.DistributionWatch": "tests/unit/monitor/test_drift_fields.py",
    "services.monitor.domain.drift.pairs.PairWatch": "tests/unit/monitor/test_drift_fields.py",
    "services.monitor.domain.drift.river_signals.RiverWatch": "tests/unit/monitor/test_drift_concept.py",
    "services.monitor.domain.drift.volume.VolumeWatch": "tests/unit/monitor/test_drift_volume.py",
    "services.monitor.domain.drifts.DriftWatch": "the control plane's: tests/unit/monitor/test_drift_rules.py",
    "services.monitor.domain.finding.Roster": "the detectors': tests/unit/monitor/test_detecting.py",
    "services.monitor.domain.ledger.Ledger": "the summariser's, and resumed by it",
    "services.monitor.domain.life.Lives": "the control plane's: tests/unit/monitor/test_alert_lives.py",
    "services.monitor.domain.life.Mutes": "the control plane's: tests/unit/monitor/test_alert_lives.py",
    "services.monitor.domain.outcomes.OutcomeDetector": "the summariser's, and resumed by it",
    "services.monitor.domain.outcomes.Outcomes": "the summariser's, and resumed by it",
    "services.monitor.domain.reading.LogReader": "the summariser's, and resumed by it",
    "services.monitor.domain.signals.Signals": "the detectors': tests/unit/monitor/test_detecting_tolerance.py",
    "services.monitor.domain.tables.StreamTable": "Tables' streams",
    "services.monitor.domain.tolerance.Tolerances": "what was read of a file: it does not change",
    "services.monitor.domain.usage.StreamUsage": "UsageTable's streams",
    "services.monitor.domain.usage.UsageTable": "read again from its topic: tests/unit/monitor/test_value.py",
    "services.monitor.domain.value.Ledger": "one look at usage and windows, made anew for each",
    "services.registry.domain.changes.Changes": "one look at a topic: tests/unit/test_registry_changes.py",
}
"""Stateful classes that have no laws of their own, and why."""

STATEFUL = ("headrace.contracts.", "headrace.fold.", "headrace.operators.")


def found() -> set[str]:
    """Processors, wherever they are, and public classes with state in the core and in the services' domains."""
    names = set()
    for root in (headrace, services):
        for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if info.name.endswith("__main__") or ".migrations." in info.name:  # Alembic runs those
                continue
            module = importlib.import_module(info.name)
            core = info.name.startswith(STATEFUL) or ".domain." in info.name
            for name, cls in vars(module).items():
                own = inspect.isclass(cls) and cls.__module__ == info.name and not name.startswith("_")
                if own and (is_processor(cls) or (core and has_state(cls))):
                    names.add(f"{info.name}.{name}")
    return names


def is_processor(cls: type) -> bool:
    return not getattr(cls, "_is_protocol", False) and all(
        callable(getattr(cls, method, None)) for method in ("process", "snapshot", "restore")
    )


def has_state(cls: type) -> bool:
    """Whether it makes itself up in `__init__`; structs, tuples, dataclasses and errors are values."""
    values = issubclass(cls, BaseException) or is_dataclass(cls) or getattr(cls, "_is_protocol", False)
    return not values and "__init__" in vars(cls)


def test_every_processor_and_operator_has_laws() -> None:
    subjects = {f"{one.cls.__module__}.{one.cls.__qualname__}" for one in SUBJECTS}
    assert sorted(found() - subjects - ELSEWHERE.keys()) == [], "add a Subject to tests/laws/subjects.py"
    assert sorted(subjects & ELSEWHERE.keys()) == []
    assert sorted((subjects | ELSEWHERE.keys()) - found()) == [], "gone, or renamed"


def test_a_class_without_laws_is_found() -> None:
    """So that the test above can fail."""

    class Forgotten:
        def __init__(self) -> None: ...
        def process(self, batch): ...
        def snapshot(self): ...
        def restore(self, state): ...

    assert is_processor(Forgotten)
    assert has_state(Forgotten)
    assert {"services.scoring.processor.ScoringProcessor", "headrace.fold.shard.Shard"} <= found()


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda one: one.name)
def test_a_subject_promises_a_law_or_says_why_not(subject: Subject) -> None:
    assert subject.not_promised.keys() <= set(LAWS)
    assert all(subject.not_promised.values())
    assert subject.floods or MEMORY in subject.not_promised, "give it a Flood"
