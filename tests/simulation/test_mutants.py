"""The checks can fail: each fault that is put into the product on purpose is found within a few seeds."""

import pytest

from tests.simulation.__main__ import history, run_seed, simulate
from tests.simulation.checker import Violation
from tests.simulation.mutants import MUTANTS, Mutant, applied

SEEDS = 5
"""Most seeds that a mutant may survive, less one."""


def caught(mutant: Mutant) -> Violation | None:
    """The first promise that is seen broken."""
    with applied(mutant):
        for seed in range(SEEDS):
            try:
                simulate(history(seed))
            except Violation as violation:
                return violation
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    violation = caught(mutant)
    assert violation is not None, f"{mutant.name!r} survived {SEEDS} seeds"
    assert violation.invariant in mutant.breaks.split(), violation


def test_without_a_mutant_the_same_seeds_pass() -> None:
    for seed in range(SEEDS):
        simulate(history(seed))


def test_a_mutant_whose_text_is_gone_is_no_mutant() -> None:
    gone = MUTANTS[0]._replace(old="if identity in self._never_was:")
    with pytest.raises(AssertionError, match="0 times"), applied(gone):
        pass


def test_a_failing_seed_names_the_command_that_plays_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    with applied(MUTANTS[0]):
        assert run_seed(3, verbose=False) is None
    said = capsys.readouterr().out
    assert "play it again: make sim SEED=3" in said
    assert "I1 is broken" in said
