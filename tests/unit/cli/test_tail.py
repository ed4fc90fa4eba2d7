"""`headrace tail`: a record in a line."""

import msgspec

from headrace.cli.tail import line_of
from headrace.testing import builders


def test_a_line_says_what_was_flagged_and_nothing_of_what_was_not():
    said = builders.prediction("o1", 0.25, at=1_000)
    usual = line_of("predictions", msgspec.to_builtins(said))
    said.outliers, said.anomaly, said.anomalous = ["heat", "speed"], 0.98765, True
    assert usual.endswith("m: false (0.250)")
    assert line_of("predictions", msgspec.to_builtins(said)) == (
        f"{usual}  outlier: heat, speed  anomalous (0.988)"
    )
    said.outliers, said.anomalous = None, False
    assert line_of("predictions", msgspec.to_builtins(said)) == usual
