"""True advantages of steps, found by sampling: against those that are known exactly."""

import pytest

from stepcredit.harness.fidelity.truth import Precision


def test_how_many_continuations_a_state_needs() -> None:
    """p (1 - p) / n = stderr^2 / 2, with p from one more success and one more failure than were seen."""
    precision = Precision(stderr=0.1, first=16, most=60)
    assert precision.needed([1.0] * 8 + [0.0] * 8) == 50
    assert precision.needed([1.0] * 16) == 16
    assert precision.needed([1.0] * 12 + [0.0] * 4) == 41
    assert Precision(stderr=0.01, first=16, most=60).needed([1.0, 0.0] * 8) == 60
    assert Precision(stderr=0.5).needed([0.0] * 16) == pytest.approx(16)
