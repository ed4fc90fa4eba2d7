"""An alarm explained: planted causes are named, what did not move carries nothing, advice follows its rules."""

import random
from pathlib import Path

import msgspec
import pytest

from services.monitor.domain.why.advice import RULES, SOON
from services.monitor.domain.why.explanation import Explanation
from tests.unit.monitor.stretches import World


class Segment(World):
    """Carrier B is answered worse since."""

    def error(self, row, x, model):
        return 0.5 if self.moved(row) and x["carrier"] == "B" else 0.1


class Everywhere(World):
    def error(self, row, x, model):
        return 0.4 if self.moved(row) else 0.1


class Mixed(World):
    """Carrier C was always hard, and there is more of it since."""

    def mix(self, row):
        return (2, 2, 6) if self.moved(row) else (5, 3, 2)

    def error(self, row, x, model):
        return 0.45 if x["carrier"] == "C" else 0.1


class Missing(World):
    """The source loses a field, and the model is worse for it."""

    def spoil(self, row, x):
        if self.moved(row) and self.chance.random() < 0.3:
            del x["distance"]
        return x

    def error(self, row, x, model):
        return 0.1 if "distance" in x else 0.45


def told(found):
    return [(part.field, part.cell, part.how) for part in found.loss.parts]


def test_a_segment_where_the_model_became_worse_carries_the_change():
    found = Segment().why()
    [part] = found.loss.parts
    assert (part.field, part.cell, part.how) == ("carrier", "B", "worse")
    assert part.carried == pytest.approx(0.3 * 0.4, abs=0.04)
    assert part.loss_before == pytest.approx(0.1, abs=0.03)
    assert part.loss_after == pytest.approx(0.5, abs=0.06)
    assert part.carried / found.loss.change.change == pytest.approx(1.0, abs=0.25)
    assert (found.advice.action, found.advice.rule) == ("retrain", "worse")
    assert "worse at carrier B" in found.advice.reason


def test_a_group_that_no_model_sees_is_a_segment_too():
    class Unfair(World):
        def error(self, row, x, model):
            return 0.4 if self.moved(row) and x["sex"] == "f" else 0.1

    assert told(Unfair().why()) == [("sex", "f", "worse")]


def test_a_model_that_is_worse_everywhere_is_not_said_to_be_worse_somewhere():
    found = Everywhere().why()
    assert found.loss.parts == []
    assert found.loss.everywhere
    assert found.loss.change.sure
    assert "about alike everywhere" in found.advice.reason


def test_more_records_of_a_hard_sort_are_told_as_that():
    found = Mixed().why("data", "carrier", method="likelihood-ratio category=C")
    parts = told(found)
    assert parts[0] == ("carrier", "C", "more records")
    assert {(field, how) for field, _, how in parts} <= {
        ("carrier", "more records"),
        ("carrier", "fewer records"),
    }
    split = next(one for one in found.loss.splits if one.field == "carrier")
    assert split.shifted == pytest.approx(0.4 * 0.35 * 1.386, abs=0.05)  # share, error, log 0.8 - log 0.2
    assert split.shifted + split.worse == pytest.approx(found.loss.change.change)
    assert (found.before.mean, found.after.mean) == (
        pytest.approx(0.2, abs=0.03),
        pytest.approx(0.6, abs=0.04),
    )
    assert found.advice.action == "retrain"


@pytest.mark.parametrize("kind", ["concept", "data"])
def test_a_field_that_breaks_at_the_source_is_to_be_mended_there(kind):
    subject = "error" if kind == "concept" else "distance"
    found = Missing().why(kind, subject, method="likelihood-ratio missing")
    broken = {one.name: one.broken for one in found.columns if one.broken}
    assert broken == {"distance": "missing"}
    assert (found.advice.action, found.advice.rule) == ("mend the source", "broken-source")
    assert "distance is missing in" in found.advice.reason
    assert ("distance", "(missing)", "more records") in told(found)
    if kind == "data":
        assert (found.before.mean, found.after.mean) == (0.0, pytest.approx(0.3, abs=0.04))


@pytest.mark.parametrize(
    ("spoil", "field", "how"),
    [
        (lambda x: x | {"distance": 1000 * x["distance"]}, "distance", "outside"),
        (lambda x: x | {"carrier": "B6"}, "carrier", "unseen"),
        (lambda x: x | {"hour": 12}, "hour", "stuck"),
    ],
)
def test_values_that_never_were_and_fields_that_stand_still_are_broken(spoil, field, how):
    class Broken(World):
        def spoil(self, row, x):
            return spoil(x) if self.moved(row) else x

    found = Broken().why("data", field)
    assert {one.name: one.broken for one in found.columns if one.broken} == {field: how}
    assert found.advice.rule == "broken-source"
    assert found.columns[0].name == field
    assert found.columns[0].sure
    assert sum(one.after for one in found.columns[0].histogram) == World.after


def test_where_nothing_moved_nothing_carries_and_nothing_is_broken():
    """Looking at every cell of every field: at most one stretch in twenty may show anything, by chance."""
    shown, moved, sure = 0, 0, 0
    for seed in range(40):
        world = World(seed=seed, before=1_500, after=700)
        found = world.why("data", "distance")
        shown += bool(found.loss.parts)
        moved += any(one.sure for one in found.columns)
        sure += found.loss.change.sure
        assert not any(one.broken for one in found.columns)
        assert found.advice.action == "ignore" or found.loss.change.sure
    assert shown <= 5
    assert moved <= 5
    assert sure <= 6


def test_losses_that_come_in_bursts_do_not_carry_anything_by_chance():
    class Bursts(World):
        """Errors stay for a hundred records, whatever comes."""

        def error(self, row, x, model):
            return 0.02 if random.Random(row // 100 * 1_000 + self.seed).random() < 0.8 else 0.6

    shown = sure = 0
    for seed in range(20):
        found = Bursts(seed=seed, before=3_000, after=3_000).why()
        shown += bool(found.loss.parts)
        sure += found.loss.change.sure
    assert shown <= 3
    assert sure <= 5  # independent records would have it 10 and more


def test_a_drift_of_data_that_costs_nothing_is_to_be_ignored():
    class Longer(World):
        def spoil(self, row, x):
            return x | {"distance": x["distance"] + (1.0 if self.moved(row) else 0.0)}

    found = Longer().why("data", "distance")
    assert (found.advice.action, found.advice.rule) == ("ignore", "harmless")
    [first, *others] = found.columns
    assert (first.name, first.sure, first.broken) == ("distance", True, "")
    assert not any(one.sure for one in others)
    sizes = {one.name: one.size for one in first.effects}
    assert sizes["kolmogorov_smirnov"] == pytest.approx(0.38, abs=0.05)  # of two normals one apart
    assert sizes["wasserstein"] == pytest.approx(1.0, abs=0.25)


def test_labels_that_are_not_there_yet_are_said_to_be_unknown():
    class Waiting(Everywhere):
        def known(self, row):
            return not self.moved(row)

    found = Waiting().why("data", "distance")
    assert found.loss is None
    assert found.read.waiting == World.after
    assert (found.advice.action, found.advice.rule) == ("look closer", "unknown")
    assert "1500 observations since wait for their label" in found.advice.reason


class Succeeded(World):
    """`lr` succeeds `old`, and is worse from a while later on; how long and whether `old` is too, says the test."""

    models = ("lr", "old")
    answers_from = World.before - 200
    old_error = 0.1

    def top(self, row):
        return "lr" if row >= self.answers_from else "old"

    def error(self, row, x, model):
        return (0.4 if model == "lr" else self.old_error) if self.moved(row) else 0.1


def test_what_began_with_another_version_is_to_be_rolled_back():
    found = Succeeded().why()
    assert (found.advice.action, found.advice.rule) == ("roll back", "new-version")
    assert "200 labels after lr@1 had begun to answer instead of old@1" in found.advice.reason
    [rival] = found.rivals
    assert (rival.model, rival.better) == ("old@1", True)
    assert rival.apart == pytest.approx(-0.3, abs=0.06)


def test_a_version_before_that_is_no_better_is_not_gone_back_to():
    found = Succeeded(old_error=0.6).why()
    assert found.advice.rule == "worse"


def test_a_version_that_answered_for_long_is_not_to_blame_for_being_new():
    found = Succeeded(answers_from=World.before - SOON - 100).why()
    assert (found.advice.action, found.advice.rule) == ("look closer", "better-rival")
    assert "old@1" in found.advice.reason


def test_a_loss_that_came_back_is_to_be_ignored():
    class Learns(World):
        def error(self, row, x, model):
            return 0.5 if 0 <= row - self.before < 500 else 0.1

    found = Learns().why()
    assert (found.advice.action, found.advice.rule) == ("ignore", "recovered")


def test_bias_and_late_labels_have_their_own_advice():
    class Unfair(World):
        def error(self, row, x, model):
            return 0.5 if self.moved(row) and x["sex"] == "f" else 0.1

    found = Unfair().why("bias", "error", group="sex=f")
    assert (found.advice.action, found.advice.rule) == ("look closer", "bias")
    assert "sex=f" in found.advice.reason
    assert found.after.mean == pytest.approx(0.5, abs=0.06)
    found = World().why("delay", "label_delay")
    assert found.advice.action == "mend the source"
    assert found.before.mean == 0.5


def test_the_course_is_bounded_and_cut_at_the_change():
    found = Everywhere(before=9_000, after=3_000).why()
    assert 30 <= len(found.course) <= 60
    first = next(block for block in found.course if block.after)
    assert first.offset == 1 + 2 * 9_000
    before = [block.value for block in found.course if not block.after]
    after = [block.value for block in found.course if block.after]
    assert max(before) < min(after)
    assert found.loss.course is None  # it is the subject


def test_an_explanation_is_plain_json_and_comes_back():
    found = Missing().why()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found


def test_every_rule_of_advice_stands_in_the_docs():
    page = (Path(__file__).parents[3] / "docs" / "why-drift.md").read_text("utf-8")
    for rule in RULES:
        assert f"| `{rule.name}` | {rule.when} | {rule.action} |" in page, rule.name


@pytest.mark.parametrize(("jump", "broken"), [(0.0, {}), (100.0, {"distance": "outside"})])
def test_a_field_that_always_moves_on_is_broken_only_by_a_jump(jump, broken):
    class Dated(World):
        def spoil(self, row, x):
            return x | {"distance": row / 1000 + (jump if self.moved(row) else 0.0)}

    found = Dated(after=3_000).why()
    assert {one.name: one.broken for one in found.columns if one.broken} == broken


def test_a_burst_of_one_sort_does_not_speak_for_its_loss():
    class Burst(World):
        """Carrier Z came for thirty records, all answered wrong; since, half of the records are of it, and as good."""

        def spoil(self, row, x):
            late = self.moved(row) and self.chance.random() < 0.5
            return x | {"carrier": "Z"} if late or 3_900 <= row < 3_930 else x

        def error(self, row, x, model):
            return 1.0 if 3_900 <= row < 3_930 else 0.1

    assert told(Burst().why("data", "carrier", method="likelihood-ratio category=Z")) == []


def test_a_larger_loss_within_chance_is_neither_harmless_nor_certain():
    class Worse(World):
        def error(self, row, x, model):
            return 0.15 if self.moved(row) else 0.1

    found = Worse(after=60).why("data", "distance")
    assert not found.loss.change.sure
    assert (found.advice.action, found.advice.rule) == ("look closer", "unsure")


def test_sorts_that_came_only_before_leave_plain_figures():
    class Scattered(World):
        """Ten records before are of carriers of their own, too few for a cell."""

        def spoil(self, row, x):
            return x | {"carrier": f"c{row}"} if row < 10 else x

    found = Scattered(before=1_500).why()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
    split = next(one for one in found.loss.splits if one.field == "carrier")
    assert split.shifted + split.worse == pytest.approx(found.loss.change.change)


def test_numbers_that_make_groups_are_cut_as_the_contract_declares():
    class Daytime(World):
        def error(self, row, x, model):
            return 0.4 if self.moved(row) and 6 <= x["hour"] < 18 else 0.1

    assert told(Daytime().why()) == [("hour", "[6, 18)", "worse")]


def test_labels_that_came_to_be_others_are_a_column_that_moved():
    class More(World):
        def positive(self, row):
            return 0.6 if self.moved(row) else 0.2

    [label] = [one for one in More().why().columns if one.name == "label"]
    assert label.sure
    positive = next(one for one in label.histogram if one.name == "true")
    assert positive.before / World.before == pytest.approx(0.2, abs=0.03)
    assert positive.after / World.after == pytest.approx(0.6, abs=0.05)


def test_numbers_that_lie_close_together_have_cells_of_their_own():
    class Pressure(World):
        def spoil(self, row, x):
            return x | {"distance": 101_300.0 + round(x["distance"], 1)}

        def error(self, row, x, model):
            return 0.4 if self.moved(row) and x["distance"] > 101_300.5 else 0.1

    found = Pressure().why()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
    split = next(one for one in found.loss.splits if one.field == "distance")
    assert split.shifted + split.worse == pytest.approx(found.loss.change.change)
    cells = [part.cell for part in found.loss.parts if part.field == "distance"]
    assert cells
    assert len(set(cells)) == len(cells)
    assert all(cell.startswith("[10130") and cell > "[101300.5" for cell in cells)


@pytest.mark.parametrize("level", [1.0, 2.0])
def test_a_slow_field_is_not_broken_for_being_elsewhere_than_in_a_short_past(level):
    class Weather(World):
        """It stays about where it is for the whole time before."""

        def spoil(self, row, x):
            slow = sum(self.chance.random() for _ in range(4)) / 40 + row // 40 % 7 / 10
            return x | {"distance": slow + (level if self.moved(row) else 0.0)}

    found = Weather(before=900, after=700).why()
    assert [one.broken for one in found.columns if one.name == "distance"] == [""]
    assert [one.broken for one in Weather(before=900, after=700, spoil=broken).why().columns if one.broken]


def broken(row, x):
    """A number that goes nowhere near where it was."""
    return x | {"distance": row // 40 % 7 / 10 + (100.0 if row >= 900 else 0.0)}
