"""`Pace`: seconds per request, whatever their groups and the idle time between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.batching.pace import Pace

SECONDS = st.floats(0.01, 10)


@given(SECONDS, st.integers(1, 16), st.integers(1, 20), st.integers(3, 30))
def test_a_steady_queue(step: float, group: int, steps: int, rounds: int) -> None:
    """`group` requests are done every `steps` steps; the first ones fill the batch."""
    pace = Pace()
    for _ in range(rounds):
        for number in range(1, steps + 1):
            pace.record(step, group if number == steps else 0, others_wait=True)
    assert pace.seconds_per_request == pytest.approx(step * steps / group, rel=0.3)


@given(st.lists(SECONDS), SECONDS)
def test_steps_do_not_count_while_nobody_waits(idle: list[float], step: float) -> None:
    pace = Pace()
    for _ in range(3):
        for seconds in idle:
            pace.record(seconds, 1, others_wait=False)
        for _ in range(2):
            pace.record(step, 1, others_wait=True)
    assert pace.seconds_per_request == pytest.approx(step)


def test_requests_that_are_not_done_take_time_too() -> None:
    pace = Pace()
    for num_done in (1, 1, 0, 0, 0):
        pace.record(1.0, num_done, others_wait=True)
    assert pace.seconds_per_request == pytest.approx(4, rel=0.1)


def test_nothing_is_known_at_first() -> None:
    pace = Pace()
    pace.record(1.0, 0, others_wait=True)
    assert pace.seconds_per_request == 0


def test_the_first_mean_is_too_low_and_a_request_alone_stands_for_it() -> None:
    pace = Pace(num_uncertain=8)
    pace.seconds_alone = 3.0
    assert pace.seconds_per_request == 3
    for num_done in (1, 9, 0):  # nine that had begun before
        pace.record(2.0, num_done, others_wait=True)
        assert pace.seconds_per_request == (3 if num_done == 1 else pytest.approx(0.3, abs=0.2))
    pace = Pace(num_uncertain=100)
    pace.seconds_alone = 3.0
    for num_done in (1, 9, 1):
        pace.record(2.0, num_done, others_wait=True)
        assert pace.seconds_per_request == 3
