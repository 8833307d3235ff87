from __future__ import annotations

import pytest

from cloud_service.dashboard.risk_choices import alphas_of, figures_at, sliders_of, strictest
from shared.gate import Risk
from tests.support.watched_gates import certified_gate

GATE = certified_gate()


def test_a_slider_offers_what_is_certified_and_says_what_is_not() -> None:
    for slider in sliders_of(GATE, GATE.in_force, {}, 0.05):
        assert slider.alpha == GATE.in_force[slider.risk]
        assert slider.today == slider.chosen
        assert [choice.step.alpha for choice in slider.choices] == sorted(c.step.alpha for c in slider.choices)
        assert 0 < len(slider.certified) < len(slider.choices)


def test_the_strictest_of_the_chosen_thresholds_holds() -> None:
    for alpha in (0.02, 0.05, 0.1):
        chosen = {Risk.KEPT_ERROR: alpha}
        sliders = sliders_of(GATE, GATE.in_force, chosen, 0.05)
        thresholds = [GATE.certificate(each.risk).step(each.alpha).threshold for each in sliders]
        assert strictest(sliders) == max(threshold for threshold in thresholds if threshold is not None)


@pytest.mark.parametrize("alpha", [0.04, 0.005, float("nan")])
def test_an_alpha_that_is_not_certified_is_never_chosen(alpha: float) -> None:
    sliders = sliders_of(GATE, GATE.in_force, {Risk.KEPT_ERROR: alpha}, 0.05)
    assert {each.risk: each.alpha for each in sliders} == dict(GATE.in_force)


def test_cloud_requests_are_what_is_escalated_and_the_audits_of_the_rest() -> None:
    threshold = GATE.threshold()
    figures = figures_at(GATE, threshold, 0.1)
    assert figures.audits_per_thousand == pytest.approx(100 * (1 - figures.offload))
    assert figures.cloud_per_thousand == pytest.approx(1000 * figures.offload + figures.audits_per_thousand)


def test_a_stricter_threshold_never_agrees_less_nor_costs_less() -> None:
    found = [figures_at(GATE, threshold, 0.05) for threshold in GATE.certified_thresholds()]
    assert [each.offload for each in found] == sorted((each.offload for each in found), reverse=True)
    agreements = [each.agreement or 0.0 for each in found]
    assert agreements == sorted(agreements, reverse=True)


def test_keeping_nothing_sends_everything_to_the_cloud() -> None:
    figures = figures_at(GATE, None, 0.05)
    assert (figures.offload, figures.cloud_per_thousand, figures.audits_per_thousand) == (1.0, 1000.0, 0.0)


def test_a_risk_that_is_none_is_left_out() -> None:
    assert alphas_of({"kept-error": 0.02, "luck": 0.5}) == {Risk.KEPT_ERROR: 0.02}
