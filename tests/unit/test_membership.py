"""A consumer that its group has forgotten is given up, but never while nobody can tell."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.kafka import membership as module
from headrace.kafka.membership import SUBSCRIBE_SECONDS, Membership
from headrace.kafka.silence import LOOK_SECONDS


class Admin:
    """Stands in for the broker: who is in the group, or that nobody answers."""

    def __init__(self):
        self.members, self.away, self.asked = ["me", "other"], False, 0

    def list_groups(self, group, timeout):
        assert group == "g"
        assert 0 < timeout < 5
        self.asked += 1
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [SimpleNamespace(members=[SimpleNamespace(client_id=one) for one in self.members])]


@pytest.fixture
def clock(monkeypatch):
    clock = [1_000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def admin(monkeypatch):
    made = Admin()
    monkeypatch.setattr(module, "AdminClient", lambda _: made)
    return made


def test_a_subscription_changes_when_the_one_before_it_has_settled_or_long_enough_has_passed(clock):
    membership = Membership("b", "g", "me")
    assert membership.is_settled
    membership.subscribed()
    assert not membership.is_settled
    membership.assigned()
    assert membership.is_settled
    membership.subscribed()
    clock[0] += SUBSCRIBE_SECONDS
    assert membership.is_settled
    membership.lost()
    clock[0] += 1_000
    assert not membership.is_settled  # changing it now would end the process


def test_who_is_missed_twice_in_a_row_is_gone_and_who_hears_something_is_not_looked_for(clock, admin):
    membership = Membership("b", "g", "me")

    def look():
        clock[0] += LOOK_SECONDS
        return membership.is_gone()

    assert not membership.is_gone()
    assert admin.asked == 0
    assert not look()
    admin.members = ["other"]
    assert not look()
    admin.members = ["me"]
    assert not look()  # it was joining
    admin.members = []
    assert not look()
    admin.away = True
    assert not look()  # nobody can tell, and it begins again
    admin.away = False
    assert not look()
    membership.heard()
    assert not look()
    assert look()

    clock[0] += LOOK_SECONDS - 0.1
    membership.heard()
    asked = admin.asked
    clock[0] += LOOK_SECONDS - 0.1
    assert not membership.is_gone()
    assert admin.asked == asked
