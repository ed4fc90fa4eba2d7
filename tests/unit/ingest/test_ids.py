"""Ids: sorted by time, unique, and the same again where they must be."""

import random
import uuid

from services.ingest.domain.ids import fresh_ids, keyed_ids, placed_id


def test_fresh_ids_are_rising_version_7_uuids_even_when_the_clock_stands_or_goes_back() -> None:
    times = [1_700_000_000_000] * 500 + [1_700_000_000_001] * 300 + [1_699_999_999_999] * 200
    ticks = iter(times)
    make = fresh_ids(lambda: next(ticks), random.Random(7).getrandbits)
    ids = [make() for _ in times]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    parsed = uuid.UUID(ids[0])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_700_000_000_000


def test_fresh_ids_go_on_when_the_counter_is_full() -> None:
    values = iter([2**41 - 1, 0] + [0] * 10)
    make = fresh_ids(lambda: 5, lambda bits: next(values, 2**bits - 1))
    assert make() < make() < make()


def test_keyed_ids_depend_on_who_key_body_and_line_only() -> None:
    make = keyed_ids("ada", "key", b"print")
    assert make(3) == keyed_ids("ada", "key", b"print")(3)
    others = {
        make(4),
        keyed_ids("bob", "key", b"print")(3),
        keyed_ids("ada", "k2", b"print")(3),
        keyed_ids("ada", "key", b"x")(3),
    }
    assert len(others) == 4
    assert make(3) not in others


def test_placed_ids_name_the_place() -> None:
    assert placed_id("flights.inbox", 0, 123) == "flights-inbox-0-123"
