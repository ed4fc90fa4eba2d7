"""The short run of `make chaos`: a fixed seed, one fault of each family, every check."""

from pathlib import Path

import pytest

from tests.chaos import faults
from tests.chaos.run import run, shown

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.mark.timeout(420)
def test_nothing_is_lost_doubled_or_wrong_under_faults(tmp_path: Path) -> None:
    report = run(7, 0, tmp_path / "home", faults.SHORT, rate=80.0)
    print(shown(report))
    assert report.findings == []
    assert report.not_reached == []
    assert (report.lost, report.doubled, report.wrong) == (0, 0, 0)
    assert report.accepted["observations"] > 1000
    assert report.states_compared > 0
