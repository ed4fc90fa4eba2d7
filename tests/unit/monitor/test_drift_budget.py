"""The budget: what it gives to watches adds up to no more than itself, and nobody watches for free."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import Unusable
from services.monitor.domain.drift import positions
from services.monitor.domain.drift.budget import Budget
from services.monitor.domain.drift.positions import KEPT, STRIDES, Positions
from services.monitor.domain.drift.selfcheck import measure

weights = st.floats(0.01, 100)
kinds = st.sampled_from(["concept", "data", "bias", "prediction", "volume", "delay"])


@settings(max_examples=30)
@given(
    st.floats(1, 1e9),
    st.dictionaries(kinds, st.dictionaries(st.text(max_size=3), weights, max_size=5), min_size=1),
)
def test_the_rates_of_all_watches_add_up_to_the_budget(records, watches):
    spread = Budget(records).spread(watches)
    rates = [1 / each for named in spread.values() for each in named.values()]
    assert not rates or sum(rates) == pytest.approx(1 / records)


def test_a_heavier_watch_gets_more_and_a_kind_without_watches_leaves_its_share():
    spread = Budget(1_000, {"concept": 3.0, "data": 1.0, "bias": 9.0}).spread(
        {"concept": {"error": 2.0, "loss": 1.0}, "data": {"x": 1.0}, "bias": {}}
    )
    assert spread["concept"]["error"] == pytest.approx(1_000 * 4 / 3 * 3 / 2)
    assert spread["concept"]["loss"] == pytest.approx(2 * spread["concept"]["error"])
    assert spread["data"] == {"x": pytest.approx(4_000)}


@pytest.mark.parametrize(
    ("budget", "watches"),
    [
        (Budget(0.5), {"data": {"x": 1.0}}),
        (Budget(100), {"data": {"x": 0.0}}),
        (Budget(100), {"quality": {"x": 1.0}}),
        (Budget(float("nan")), {"data": {"x": 1.0}}),
    ],
)
def test_what_has_no_share_is_refused(budget, watches):
    with pytest.raises(Unusable):
        budget.spread(watches)


@given(st.lists(st.integers(0, 3_000), max_size=40), st.integers(0, 60_000))
def test_positions_are_bounded_and_the_same_in_one_piece_or_many(lengths, asked):
    whole, pieces = Positions(), Positions()
    everything = [3 * place for place in range(sum(lengths))]
    whole.extend(everything)
    start = 0
    for length in lengths:
        pieces.extend(everything[start : start + length])
        start += length
    assert whole == pieces
    assert whole.count == len(everything)
    assert [len(places) for places in whole.levels] <= list(KEPT)
    for count in (asked, len(everything) - 1 - asked % 5_000):
        if 0 <= count < len(everything):
            ago = len(everything) - count
            stride = next(one for one, kept in zip(STRIDES, KEPT, strict=True) if ago <= one * (kept - 1))
            assert count - stride < whole.of(count) // 3 <= count


def test_what_is_too_long_ago_is_the_first_place_that_is_known(monkeypatch):
    assert Positions().of(0) == -1
    monkeypatch.setattr(positions, "KEPT", (2, 2, 2, 2, 2))
    held = Positions()
    held.extend(list(range(3 * STRIDES[-1])))
    assert held.of(0) == STRIDES[-1]
    assert held.of(held.count + 5) == held.count - STRIDES[0]


def test_a_rate_is_followed_from_thresholds_that_alarm_to_one_that_does_not():
    played = measure(lambda threshold: round(1e6 / threshold), 1_000_000, 1e7)
    assert played.measured == pytest.approx(1e7, rel=0.02)
    assert played.exponent == pytest.approx(1.0, abs=0.01)
    assert played.extrapolated
    flat = measure(lambda _: 100, 1_000_000, 1e7)
    assert flat.measured == pytest.approx(1e4)
    assert measure(lambda _: 0, 1_000, 1e7).measured == float("inf")
