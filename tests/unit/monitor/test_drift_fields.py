"""Fields and pairs of fields: the same alarms however records are cut, silence without drift, sight of what changes."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.monitor.domain.drift import effects
from services.monitor.domain.drift.cells import of_numbers, sort_numbers
from services.monitor.domain.drift.data import DataWatch, prediction_watch
from services.monitor.domain.drift.distribution import DistributionWatch
from services.monitor.domain.drift.selfcheck import of_fields
from tests.unit.monitor.drifting import cuts, normal, piece, restored, spans

COUNT = 2_600
CHANGES = 1_900


def mixed(seed=3, count=COUNT, begins=CHANGES):
    """Three numbers and a category; everything about them changes at `begins`."""
    rng = np.random.default_rng(seed)
    columns = normal(3, count, seed)
    columns["f0"][begins:] += 2
    columns["f2"][begins:] = columns["f1"][begins:]
    columns["f1"][::17] = np.nan
    kinds = np.array(["red", "green", "blue", None], object)[rng.integers(0, 4, count)]
    kinds[begins:][::2] = "violet"
    return columns | {"kind": list(kinds)}


def watch():
    return DataWatch(["f0", "f1", "f2"], ["kind"], 1e4, reference=1_600)


@settings(max_examples=10, deadline=None)
@given(cuts)
def test_alarms_and_state_do_not_depend_on_how_records_are_cut(lengths):
    columns = mixed()
    whole, pieces = watch(), watch()
    expected = whole.update(columns, COUNT)
    found = []
    for start, end in spans(COUNT, lengths):
        found += pieces.update(piece(columns, start, end), end - start)
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    assert pieces.state() == whole.state()


@settings(max_examples=10, deadline=None)
@example(1_600)  # the reference has just become whole
@given(st.integers(0, COUNT))
def test_a_restored_watch_goes_on_as_the_one_that_was_saved(cut):
    columns = mixed()
    first, second = watch(), watch()
    first.update(piece(columns, 0, cut), cut)
    second.resume(restored(first.state()))
    rest = piece(columns, cut, COUNT)
    assert second.update(rest, COUNT - cut) == first.update(rest, COUNT - cut)
    assert second.state() == first.state()


def test_what_changed_is_named_and_dated():
    alarms = watch().update(mixed(), COUNT)
    named = {alarm.subject: alarm for alarm in alarms}
    assert set(named) == {"f0", "kind", "f1 x f2"}
    assert named["f0"].method.endswith(("location", "outside"))
    assert named["kind"].method.endswith("unseen")
    assert named["kind"].before == pytest.approx(0.0, abs=0.01)
    assert 0.1 < named["kind"].after < 0.6
    for alarm in named.values():
        assert CHANGES <= alarm.index < COUNT
        assert abs(alarm.since - CHANGES) < 200
        assert alarm.evidence >= alarm.threshold > 1e4


@pytest.mark.parametrize(
    ("change", "method"),
    [
        (lambda column: column + 0.5, "location"),
        (lambda column: column * 1.6, "scale"),
        (lambda column: np.where(np.arange(len(column)) % 12 == 0, np.nan, column), "missing"),
        (lambda column: np.where(np.arange(len(column)) % 12 == 0, 50.0, column), "outside"),
    ],
)
def test_each_way_in_which_a_field_may_change_is_seen(change, method):
    columns = normal(10, 5_000, 6)
    columns["f3"][3_000:] = change(columns["f3"][3_000:])
    thresholds = dict.fromkeys(columns, 1e6)
    alarms = DistributionWatch("data", list(columns), [], thresholds).update(columns, 5_000)
    assert alarms[0].subject == "f3"
    assert 3_000 <= alarms[0].index < 4_200
    assert {alarm.subject for alarm in alarms} == {"f3"}
    assert method in {alarm.method.split()[-1] for alarm in alarms} or method == "scale"


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_fields_that_do_not_change_alarm_no_oftener_than_the_budget_allows(phi):
    alarms = 0
    for seed in range(2):
        columns = normal(20, 30_000, seed, phi)
        alarms += len(DataWatch(list(columns), [], 2_000).update(columns, 30_000))
    assert alarms <= 2 * 30_000 / 2_000


def test_a_field_that_is_constant_or_always_missing_is_silent_until_that_ends():
    count = 30_000
    columns = {"constant": np.full(count, 7.0), "missing": np.full(count, np.nan)}
    made = DataWatch(list(columns), [], 1e4)
    assert made.update(columns, count) == []
    alarms = made.update({"constant": np.full(512, 8.0), "missing": np.full(512, 1.0)}, 512)
    assert {alarm.subject for alarm in alarms} == {"constant", "missing"}


def test_after_its_alarm_a_field_learns_anew_and_the_others_go_on():
    columns = normal(2, 12_000, 9)
    columns["f0"][4_000:] += 3
    columns["f1"][9_000:] += 3
    alarms = DistributionWatch("data", ["f0", "f1"], [], dict.fromkeys(columns, 1e6)).update(columns, 12_000)
    assert [alarm.subject for alarm in alarms] == ["f0", "f1"]
    assert 4_000 <= alarms[0].index < 4_200
    assert 9_000 <= alarms[1].index < 9_200


def test_after_a_restart_what_comes_is_the_new_reference():
    columns = normal(3, 6_000, 4)
    columns["f1"][3_000:] += 3
    made = DataWatch(list(columns), [], 1e5)
    assert made.update(piece(columns, 0, 3_000), 3_000) == []
    made.restart()
    assert made.update(piece(columns, 3_000, 6_000), 3_000) == []


def test_a_models_scores_and_answers_are_watched_by_task():
    rng = np.random.default_rng(1)
    scores = np.concatenate([rng.beta(2, 5, 4_000), rng.beta(3, 3, 2_000)])
    answers = [str(score > 0.5).lower() for score in scores]
    alarms = prediction_watch("binary", 1e5, model="m").update({"score": scores, "answer": answers}, 6_000)
    assert {alarm.subject for alarm in alarms} == {"score", "answer"}
    assert {(alarm.kind, alarm.model) for alarm in alarms} == {("prediction", "m")}
    assert prediction_watch("regression", 1e5).fields == ("answer",)
    assert prediction_watch("multiclass", 1e5).fields == ("answer",)


def test_the_rate_measured_on_a_reference_of_fields_is_near_or_below_the_budget():
    columns = normal(5, 4_096, 12)
    assert of_fields(columns, list(columns), [], 1e5, records=20_000).measured > 3e4


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=60), st.floats())
def test_every_value_has_one_cell_and_those_of_the_reference_are_inside(values, other):
    layout = of_numbers(np.array(values))
    edges = np.full((1, 11), np.inf)
    edges[0, : len(layout.edges)] = layout.edges
    last = np.array([len(layout.edges)], np.uint8)
    cells = sort_numbers(edges, last, np.array([[*values, other]]))[0]
    assert cells.max() <= 12
    for value, cell in zip(values, cells, strict=False):
        assert (cell == 12) == (not np.isfinite(value))
        assert cell == 12 or 1 <= cell <= 10


def test_distances_of_histograms_are_the_textbooks():
    before, after = [10, 20, 30, 40], [40, 30, 20, 10]
    assert effects.kolmogorov_smirnov(before, after).size == pytest.approx(0.4)
    assert effects.wasserstein(before, after, [0, 1, 2, 3]).size == pytest.approx(0.3 + 0.4 + 0.3)
    assert effects.chi_square(before, after).size == pytest.approx(2 * (15**2 / 25 + 5**2 / 25) * 2)
    expected = 0.3 * np.log(4) + 0.1 * np.log(1.5) + 0.1 * np.log(1.5) + 0.3 * np.log(4)
    found = effects.population_stability_index(before, after)
    assert found.size == pytest.approx(expected)
    assert (found.before, found.after) == (100, 100)
    assert np.isfinite(effects.population_stability_index([5, 0], [0, 5]).size)
    with pytest.raises(ValueError, match="record"):
        effects.chi_square([0, 0], [1, 2])


def test_distances_without_a_difference_are_as_large_as_their_noise():
    rng = np.random.default_rng(4)
    sizes = {name: [] for name in ("kolmogorov_smirnov", "population_stability_index", "chi_square")}
    for _ in range(300):
        both = [rng.multinomial(500, [0.02] * 50) for _ in range(2)]
        for name, ratios in sizes.items():
            found = getattr(effects, name)(*both)
            ratios.append(found.size / found.noise)
    assert all(0.8 < np.mean(found) < 1.2 for found in sizes.values())
