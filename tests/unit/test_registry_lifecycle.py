"""The line-up's rules: at most one champion, a repeat does nothing, and the fold does what the registry decides."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.contracts.codec import decode_log_record
from headrace.contracts.left_out import LeftOut
from headrace.errors import Unusable
from headrace.fold.log import LogFold
from headrace.fold.rebuilding import edit_of
from headrace.fold.shard import Shard
from services.registry.domain import controls, lifecycle
from services.registry.domain.lifecycle import Conflict, Deployed

SPECIFICATION = {"model": "dummy.NoChangeClassifier", "seed": 1}
CONTRACT: dict[str, Any] = {"name": "s", "task": "binary", "fields": [{"name": "a", "type": "number"}]}

models = st.sampled_from(["a", "b", "c"])
commands = st.one_of(
    st.tuples(st.just("deploy"), models, st.integers(1, 2), st.sampled_from(["champion", "challenger"])),
    st.tuples(st.sampled_from(["promote", "retire", "freeze", "unfreeze"]), models),
    st.tuples(st.just("rebuild"), models, st.integers(3, 9)),
    st.tuples(st.just("share"), models, st.sampled_from([0.0, 0.25, 0.5])),
)


def decide(line_up, command):
    """The next line-up (None: nothing to do), or `Conflict`."""
    match command:
        case ("deploy", model, version, role):
            return lifecycle.deploy(line_up, model, version, f"digest-{model}-{version}", role)
        case ("promote", model):
            return lifecycle.promote(line_up, model)
        case ("share", model, part):
            return lifecycle.share(line_up, model, part)
        case ("retire", model):
            return lifecycle.retire(line_up, model)
        case ("rebuild", model, version):
            return lifecycle.rebuild(line_up, model, version, f"digest-{model}-{version}")
        case (verb, model):
            return lifecycle.freeze(line_up, model, verb == "freeze")


def record(sequence, command):
    """The control record of a decision."""
    if command[0] == "deploy":
        _, model, version, role = command
        return controls.deployed("s", sequence, model, version, SPECIFICATION, role)
    if command[0] == "rebuild":
        return controls.rebuilt("s", sequence, command[1], command[2], LeftOut(["nobody"]))
    if command[0] == "share":
        return controls.shared("s", sequence, command[1], command[2])
    return controls.changed("s", sequence, command[1], command[0])


def rebuilding(log, rebuild):
    """What a host does for a `ModelRebuilt`: fold the log so far again."""
    edit = edit_of(rebuild, 0)
    fold = LogFold(edit=edit)
    fold.fold(range(len(log)), log)
    return fold.shard, edit


@settings(max_examples=200, deadline=None)
@given(st.lists(commands, max_size=20))
def test_the_fold_does_what_the_registry_decides(asked):
    shard = Shard()
    log = [controls.adopted("s", 1, CONTRACT)[1]]
    shard.rebuilder = partial(rebuilding, log)
    identities = [controls.adopted("s", 1, CONTRACT)[0]]
    shard.fold([decode_log_record(controls.adopted("s", 1, CONTRACT)[1])], [0])
    line_up: dict[str, Deployed] = {}
    for command in asked:
        try:
            after = decide(line_up, command)
        except Conflict:
            continue
        if after is None:
            continue
        assert after != line_up or command[0] in ("deploy", "rebuild")
        line_up = dict(after)
        identity, written = record(len(identities) + 1, command)
        identities.append(identity)
        folded = shard.fold([decode_log_record(written)], [len(identities) - 1])
        log.append(written)
        assert folded.refused == []
        assert command[0] == "rebuild" or decide(line_up, command) is None  # asking again does nothing

        active = {model: placed for model, placed in line_up.items() if placed.role != "retired"}
        assert [placed.role for placed in active.values()].count("champion") <= 1
        assert {slot.model: (slot.version, slot.role, slot.frozen) for slot in shard.slots.values()} == {
            model: (placed.version, placed.role, placed.frozen) for model, placed in active.items()
        }
        champion = lifecycle.champion(line_up)
        assert (shard.champion.model if shard.champion else None) == (champion.model if champion else None)
        canaries = [model for model, placed in active.items() if placed.share > 0]
        assert ([shard.canary.model] if shard.canary else []) == canaries
    assert len(set(identities)) == len(identities)
    assert shard.watermark == 0  # decisions do not move the stream's time


def line(**roles):
    return {model: Deployed(model, 1, "d", role) for model, role in roles.items()}


def test_a_new_champion_makes_the_old_one_a_challenger():
    after = lifecycle.deploy(line(a="champion"), "b", 1, "d", "champion")
    assert after == line(a="challenger", b="champion")
    assert lifecycle.promote(after, "a") == line(a="champion", b="challenger")


@pytest.mark.parametrize(
    ("decision", "advice"),
    [
        (lambda: lifecycle.retire(line(a="champion", b="challenger"), "a"), "promote another"),
        (lambda: lifecycle.deploy(line(a="champion"), "a", 2, "d", "challenger"), "promote another"),
        (lambda: lifecycle.deploy(line(a="champion"), "a", 1, "d", "challenger"), "promote another"),
        (lambda: lifecycle.deploy(line(a="challenger"), "a", 1, "d", "champion"), "promote it"),
        (lambda: lifecycle.promote(line(a="retired"), "a"), "deploy it again"),
        (lambda: lifecycle.freeze(line(a="retired"), "a", True), "deploy it again"),
        (lambda: lifecycle.promote(line(a="champion"), "b"), "deploy it first"),
        (lambda: lifecycle.retire(line(a="champion"), "b"), "deploy it first"),
    ],
)
def test_what_is_refused_says_what_to_do_instead(decision, advice):
    with pytest.raises(Conflict, match=advice):
        decision()


def test_a_new_version_of_the_champion_takes_its_place_and_a_retired_model_may_return():
    after = lifecycle.deploy(line(a="champion", b="challenger"), "a", 2, "d2", "champion")
    assert after is not None
    assert (after["a"].version, after["a"].role, after["b"].role) == (2, "champion", "challenger")
    assert lifecycle.retire(line(a="champion"), "a") == line(a="retired")
    assert lifecycle.deploy(line(a="retired"), "a", 1, "d", "challenger") == line(a="challenger")


def test_the_number_of_models_on_a_stream_is_bounded():
    full = line(**{f"m{number}": "challenger" for number in range(lifecycle.MOST_MODELS)})
    with pytest.raises(Conflict, match="at most 32"):
        lifecycle.deploy(full, "one-more", 1, "d", "challenger")
    assert lifecycle.deploy(full, "m0", 2, "d", "challenger") is not None
    assert lifecycle.deploy({**full, **line(m0="retired")}, "one-more", 1, "d", "challenger") is not None


@pytest.mark.parametrize("name", ["", "A", "a.b", "a/b", "1a", "a b", "x" * 64, "é"])
def test_model_names_that_are_none(name):
    with pytest.raises(Unusable, match="model name"):
        lifecycle.check_model_name(name)
