"""Tumbling windows: a time goes to its window, a closed window stays closed, bounds hold; against a dumb model."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.operators.tumbling import TumblingWindows


def windows(length=10, lateness=5, limit=4):
    return TumblingWindows(length, lateness, limit, lambda start: [])


def feed(made, times):
    late = []
    for time in times:
        window = made.at(time)
        if window is None:
            late.append(time)
        else:
            window.append(time)
    return late


def test_a_time_goes_to_the_window_it_falls_into_also_before_1970():
    made = windows(lateness=100)
    feed(made, [-1, 0, 9])
    assert made.open == {-10: [-1], 0: [0, 9]}


def test_a_window_closes_when_the_watermark_passes_its_end_by_the_lateness():
    made = windows()
    feed(made, [3, 14])
    assert made.take_changed() == ([], [(0, [3]), (10, [14])])
    feed(made, [15])
    assert made.take_changed() == ([(0, [3])], [(10, [14, 15])])
    assert feed(made, [9]) == [9]


def test_a_window_nobody_opened_is_closed_too_once_its_time_has_passed():
    made = windows()
    assert feed(made, [100, 80, 95]) == [80]


def test_at_the_bound_the_oldest_window_closes_early_and_stays_closed():
    made = windows(lateness=1000, limit=2)
    assert feed(made, [5, 15, 25, 6, 16]) == [6]
    assert sorted(made.open) == [10, 20]
    assert feed(made, [5]) == [5]


def test_what_cannot_be_is_refused():
    for wrong in ((0, 0, 1), (1, -1, 1), (1, 0, 0)):
        with pytest.raises(ValueError, match="window"):
            TumblingWindows(*wrong, lambda start: [])


times = st.lists(st.integers(-50, 300), max_size=80)


@given(times, st.integers(0, 40), st.integers(1, 6), st.lists(st.integers(0, 80), max_size=10))
def test_every_time_is_in_its_window_or_late_and_batches_do_not_matter(given_times, lateness, limit, cuts):
    whole, parts = windows(10, lateness, limit), windows(10, lateness, limit)
    late = feed(whole, given_times)
    closed, _ = whole.take_changed()
    gathered = dict(closed) | whole.open
    assert sorted([time for window in gathered.values() for time in window] + late) == sorted(given_times)
    assert all(start <= time < start + 10 for start, window in gathered.items() for time in window)
    assert len(whole.open) <= limit
    assert len(closed) == len(dict(closed)), "a window closed twice"
    assert all(start < whole.final_before for start, _ in closed)
    assert all(start >= whole.final_before for start in whole.open)
    late_parts, closed_parts = [], []
    borders = sorted({0, *[cut for cut in cuts if cut < len(given_times)], len(given_times)})
    for begin, end in itertools.pairwise(borders):
        late_parts += feed(parts, given_times[begin:end])
        closed_parts += parts.take_changed()[0]
        resumed = windows(10, lateness, limit)
        resumed.resume(parts.open, parts.watermark, parts.final_before)
        parts = resumed
    assert (late_parts, closed_parts, parts.open) == (late, closed, whole.open)
