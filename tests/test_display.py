"""Figures of a training: what they draw, and that nobody's notebook redraws them when nobody
watches.
"""

import pytest

from bimedix_utils.core import charts

pytestmark = pytest.mark.unit
LOG = [{"step": i, "loss": 4.0 / i} for i in range(1, 31)] + [{"step": 30, "eval_loss": 0.5}]


@pytest.fixture(autouse=True)
def headless():
    import matplotlib

    matplotlib.use("agg")


def test_the_curve_draws_each_step_a_running_mean_and_the_held_out_loss():
    axis = charts.training_curve(LOG)
    each, means, held = axis.get_lines()
    assert list(each.get_ydata()) == [entry["loss"] for entry in LOG[:-1]]
    assert (
        means.get_ydata()[-1] == pytest.approx(sum(4.0 / i for i in range(11, 31)) / 20)
        and means.get_ydata()[0] == 4.0
    )
    assert list(held.get_xdata()) == [30] and axis.get_xlabel() and axis.get_ylabel()
    assert len(charts.training_curve([]).get_lines()) == 0


def test_the_live_curve_is_drawn_for_a_person_only(monkeypatch):
    assert charts.live_curve() is None
    shown = []

    class Handle:
        def update(self, figure):
            shown.append(figure)

    monkeypatch.setattr(charts, "is_interactive", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda display_id: Handle())
    draw = charts.live_curve(seconds=0.0)
    draw(LOG[:1])
    draw(LOG)
    assert len(shown) == 1, "one entry is no curve"
    slow = charts.live_curve(seconds=1e9)
    slow(LOG)
    assert len(shown) == 1, "not more often than asked"
