"""The breaker in front of the broker: who may try, and when."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from synchro_tasks.breaker import Breaker


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(shortest=5, longest=300, clock=clock)


def test_everybody_may_try_while_nothing_has_failed(breaker: Breaker) -> None:
    assert [breaker.allows() for _ in range(3)] == [True, True, True]
    assert not breaker.is_open


def test_nobody_may_try_right_after_a_failure(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(0.002)

    assert breaker.is_open
    assert not breaker.allows()
    clock.now += 4.9
    assert not breaker.allows()


def test_one_may_try_when_the_pause_is_over(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(0.002)
    clock.now += 5

    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_a_try_of_which_nothing_is_heard_does_not_lock_the_others_out_for_ever(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(0.002)
    clock.now += 5
    assert breaker.allows()
    clock.now += 5

    assert breaker.allows()


def test_a_success_lets_everybody_through_again(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(0.002)
    clock.now += 5
    breaker.allows()
    breaker.succeeded()

    assert [breaker.allows() for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize(
    ("took", "pause"),
    [(0.0, 5), (0.002, 5), (0.1, 5), (0.2, 10), (1.0, 50), (10.0, 300)],
)
def test_what_fails_slowly_is_left_alone_longer(breaker: Breaker, clock: Clock, took: float, pause: float) -> None:
    breaker.failed(took)

    clock.now += pause - 0.01
    assert not breaker.allows()
    clock.now += 0.01
    assert breaker.allows()


def test_it_tells_when_it_opens_and_closes(breaker: Breaker) -> None:
    assert breaker.succeeded() is False
    assert breaker.failed(0.1) is True
    assert breaker.failed(0.1) is False
    assert breaker.succeeded() is True
    assert breaker.succeeded() is False


def test_only_one_of_many_threads_may_try(breaker: Breaker, clock: Clock) -> None:
    breaker.failed(0.002)
    clock.now += 5

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: breaker.allows(), range(200)))

    assert answers.count(True) == 1
