"""Pace and volume: the same however records are batched; days and nights are no drift, less of everything is."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.domain.drift.pace import DAY_MS, LEAST, WEEK_MS, Pace
from services.monitor.domain.drift.volume import APART, COMPARED, HOUR_MS, REFERENCE, WEEK, VolumeWatch
from tests.unit.monitor.drifting import restored, spans

MONDAY = 1_767_571_200_000
WARM = APART + REFERENCE


def arrivals(hours, hourly, seed=1, begin=MONDAY):
    """Event times of a Poisson process whose mean is `hourly(hour)`, sorted."""
    chance = np.random.default_rng(seed)
    counts = chance.poisson([hourly(hour) for hour in range(hours)])
    times = [begin + hour * HOUR_MS + chance.integers(0, HOUR_MS, count) for hour, count in enumerate(counts)]
    return np.sort(np.concatenate(times)).astype(np.int64)


def by_day_and_night(hour):
    """Twelve hours of thirty, twelve of three; on weekends a third."""
    return (30 if hour % 24 in range(7, 19) else 3) / (3 if hour // 24 % 7 >= 5 else 1)


def alarms_of(times, lengths=(), watch=None):
    """Alarms, and the state at the end; between two batches the watch is another one, made from the state before."""
    watch, found = watch or VolumeWatch(1e6), []
    for start, end in spans(len(times), lengths):
        found += watch.update(times[start:end])
        state, watch = restored(watch.state()), VolumeWatch(1e6)
        watch.resume(state)
        assert msgspec.json.encode(watch.state()) == msgspec.json.encode(state)
    return found, watch.state()


def test_days_nights_and_weekends_are_no_drift_and_half_of_everything_is():
    times = arrivals(WARM + 40 * 24, by_day_and_night)
    assert alarms_of(times)[0] == []
    moved = WARM + 10 * 24
    fewer = arrivals(WARM + 40 * 24, lambda hour: by_day_and_night(hour) * (0.5 if hour >= moved else 1.0))
    alarm = alarms_of(fewer)[0][0]
    assert (alarm.kind, alarm.subject, alarm.method) == ("volume", "volume", "likelihood-ratio location")
    decided, since = ((int(fewer[at]) - MONDAY) / HOUR_MS for at in (alarm.index, alarm.since))
    assert moved < decided <= moved + 4 * 24 + 1
    assert abs(since - moved) <= 24
    assert alarm.before == pytest.approx(1.0, abs=0.1)
    assert alarm.after == pytest.approx(0.5, abs=0.15)
    assert alarm.evidence >= alarm.threshold == 1e6


def test_a_change_is_dated_to_the_first_record_of_a_day():
    every_ten_minutes = MONDAY + np.arange(0, (WARM + 240) * HOUR_MS, HOUR_MS // 6)
    twice = every_ten_minutes[-1] + np.arange(HOUR_MS // 6, 3 * DAY_MS, HOUR_MS // 12)
    [alarm, *_] = alarms_of(np.concatenate([every_ten_minutes, twice]))[0]
    assert alarm.since == len(every_ten_minutes)
    assert alarm.index == len(every_ten_minutes) + 24 * 12  # with the first record of the next day


def test_a_silence_is_known_with_the_first_record_after_it():
    times = arrivals(WARM + 20 * 24, lambda _: 20)
    begin = MONDAY + (WARM + 10 * 24) * HOUR_MS
    silent = times[(times < begin) | (times >= begin + 3 * DAY_MS)]
    [alarm, *_] = alarms_of(silent)[0]
    assert int(silent[alarm.index]) >= begin + 3 * DAY_MS
    assert int(silent[alarm.index - 1]) < begin


def test_a_stream_that_stood_still_for_weeks_begins_anew():
    times = arrivals(WARM + 48, lambda _: 5)
    watch = VolumeWatch(1e6)
    watch.update(times)
    assert watch.ready
    assert watch.update(times[-1:] + (APART + 1) * HOUR_MS) == []
    assert not watch.ready
    assert watch.state().counts == []


def test_what_is_late_counts_in_the_hour_in_which_it_comes():
    times = arrivals(3 * COMPARED * WEEK, lambda _: 4)
    late = times.copy()
    late[1::7] -= 5 * HOUR_MS
    hours = np.flatnonzero(np.diff(times // HOUR_MS))
    late[hours + 1] = times[hours + 1]  # who begins an hour is in time
    assert alarms_of(late) == alarms_of(times)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=8))
def test_batches_and_restarts_change_nothing(lengths):
    times = arrivals(WARM + 240, lambda hour: 2 if hour < WARM + 24 else 20)
    found, state = alarms_of(times)
    assert found
    again = alarms_of(times, [len(times) - 3_000, *lengths])
    assert msgspec.json.encode(again) == msgspec.json.encode((found, state))


def paces(times, lengths=()):
    """The pace in force for each record, and the state at the end."""
    pace, found = Pace(), []
    for start, end in spans(len(times), lengths):
        for span, per_day in pace.advance(times[start:end]):
            found += [per_day] * (span.stop - span.start)
        pace = restored(pace)
    return found, pace


def one_by_one(times):
    """As the module says it, record by record."""
    found, per_day, whole, due = [], None, False, LEAST
    begun = now = int(times[0])
    count = 0
    for at in times.tolist():
        found.append(per_day)
        count, now = count + 1, max(now, at)
        passed = max(now - begun, 1)
        if count >= LEAST and passed >= WEEK_MS:
            per_day, whole, begun, count = count * DAY_MS / passed, True, now, 0
        elif not whole and count == due:
            per_day, due = count * DAY_MS / passed, 2 * due
    return found


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([1, 9, 60, 2_000]), st.integers(0, 9), st.lists(st.integers(0, 900), max_size=8))
def test_the_pace_is_that_of_the_last_week_whatever_the_batches(hourly, seed, lengths):
    chance = np.random.default_rng(seed)
    times = MONDAY + np.cumsum(chance.exponential(HOUR_MS / hourly, 6_000)).astype(np.int64)
    times -= chance.integers(0, 3 * HOUR_MS, len(times))
    found, state = paces(times, lengths)
    assert (
        (found, state) == paces(times) == paces(times, [LEAST])
    )  # as it is measured with the last of a batch
    assert found == one_by_one(times)
    assert not state.whole or found[-1] == pytest.approx(24 * hourly, rel=0.2)


def test_a_stream_that_becomes_ten_times_as_fast_has_another_pace_a_week_or_two_later():
    times = arrivals(42 * 24, lambda hour: 10 if hour < 21 * 24 else 100)
    found, _ = paces(times)
    days = (times - MONDAY) / DAY_MS
    at = {day: found[int(np.searchsorted(days, day))] for day in (20, 36)}
    assert at[20] == pytest.approx(240, rel=0.1)
    assert at[36] == pytest.approx(2_400, rel=0.1)
