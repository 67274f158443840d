"""The pause before the next attempt."""

from __future__ import annotations

from functools import partial

import pytest

from micro_core.backoff import backoff


def test_bound_doubles_with_each_failure_up_to_the_longest() -> None:
    longest_pause = partial(backoff, random=lambda: 1.0, first=0.5, longest=30.0)
    assert [longest_pause(failures) for failures in (1, 2, 3, 7, 8, 10_000)] == pytest.approx([0.5, 1, 2, 30, 30, 30])


def test_pause_is_any_time_below_the_bound() -> None:
    assert backoff(3, lambda: 0.0, first=0.5, longest=30.0) == 0.0
    assert backoff(3, lambda: 0.25, first=0.5, longest=30.0) == pytest.approx(0.5)
