"""Confidence by hand, temperatures that are known, and errors that are zero where they should be."""

from __future__ import annotations

import numpy as np
import pytest

from korbert.study.calibration import calibration_error, confidence, confidences, fit_temperature


def test_confidence_by_hand() -> None:
    assert confidence([2.0, 1.0, 0.0]) == pytest.approx(np.exp(2) / (np.exp(2) + np.exp(1) + 1))
    assert confidence([1.0, 2.0]) == pytest.approx(1 / (1 + np.exp(-1)))  # the best one's, wherever it stands
    assert confidence([4.0, 0.0], temperature=2.0) == confidence([2.0, 0.0])
    assert confidence([]) == 0.0
    assert confidence([1e5, 0.0]) == 1.0
    several: list[list[float]] = [[], [2.0, 1.0, 0.0], [], [1e5, 0.0], [3.0], []]
    assert confidences(several, 3.0).tolist() == pytest.approx([confidence(scores, 3.0) for scores in several])
    assert confidences([]).tolist() == []


@pytest.mark.parametrize("truth", [0.5, 1.0, 4.0])
def test_the_true_temperature_is_found(truth: float) -> None:
    """Answers drawn from the softmax at a temperature: that one is fitted, and leaves nearly no error."""
    rng = np.random.default_rng(1)
    scores = np.sort(rng.normal(0, 4, size=(4000, 3)))[:, ::-1]
    sure = np.array([confidence(row, truth) for row in scores])
    right = rng.random(4000) < sure
    fitted = fit_temperature(scores.tolist(), right.tolist())
    assert fitted == pytest.approx(truth, rel=0.15)
    before = calibration_error([confidence(row) for row in scores], right.tolist())
    after = calibration_error([confidence(row, fitted) for row in scores], right.tolist())
    assert after < 0.03
    assert after <= before + 0.005


def test_calibration_error_by_hand() -> None:
    assert calibration_error([0.95, 0.95, 0.15, 0.15], [True, False, False, False]) == pytest.approx(
        (abs(1.9 - 1) + abs(0.3 - 0)) / 4
    )
    assert calibration_error([1.0, 0.0], [True, False]) == 0.0
    assert calibration_error([], []) == 0.0
    with pytest.raises(ValueError, match="no question to calibrate on"):
        fit_temperature([], [])
