"""The retry policy as a table."""

from __future__ import annotations

import sqlite3

import pytest
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from synchro.exceptions import Held, NotWatched, TransientError
from synchro_tasks.retry import Action, Decision, decide

MOST_RETRIES = 5


def locked() -> OperationalError:
    error = OperationalError("database is locked")
    error.__cause__ = sqlite3.OperationalError("database is locked")
    return error


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("connection refused"),
        OperationalError(1213, "Deadlock found"),
        OperationalError(2006, "Server has gone away"),
        InterfaceError("connection already closed"),
        TransientError(),
        ConnectionResetError(),
        TimeoutError(),
        locked(),
    ],
    ids=repr,
)
def test_what_passes_by_itself_is_retried_and_then_left_to_the_database(error: Exception) -> None:
    assert decide(error, 0).action is Action.RETRY
    assert decide(error, MOST_RETRIES - 1).action is Action.RETRY
    assert decide(error, MOST_RETRIES) == Decision(Action.POSTPONE)
    assert decide(error, MOST_RETRIES + 100) == Decision(Action.POSTPONE)


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError("duplicate key"),
        DataError("value too long"),
        ProgrammingError("no such column"),
        OperationalError(1153, "Got a packet bigger than max_allowed_packet"),
        ValidationError("wrong"),
        NotWatched(),
        KeyError("a mistake of ours"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("retries", [0, MOST_RETRIES])
def test_what_does_not_pass_by_itself_is_not_retried(error: Exception, retries: int) -> None:
    assert decide(error, retries) == Decision(Action.FAIL)


@pytest.mark.parametrize("retries", [0, 1, MOST_RETRIES])
def test_nothing_waits_in_the_broker_for_what_is_held_back(retries: int) -> None:
    assert decide(Held(), retries) == Decision(Action.LEAVE)


@pytest.mark.parametrize(("retries", "longest"), [(0, 2), (1, 4), (2, 8), (3, 16), (4, 30)])
def test_waits_grow_and_are_spread_over_their_whole_length(retries: int, longest: float) -> None:
    error = TimeoutError()

    assert decide(error, retries, random=lambda: 0.0).seconds == 0
    assert decide(error, retries, random=lambda: 0.5).seconds == longest / 2
    assert decide(error, retries, random=lambda: 1.0).seconds == longest


def test_all_retries_together_take_about_a_minute_at_most() -> None:
    waits = [decide(TimeoutError(), retries, random=lambda: 1.0).seconds for retries in range(MOST_RETRIES)]

    assert 50 <= sum(waits) <= 70


def test_two_tasks_do_not_come_back_together() -> None:
    waits = {decide(TimeoutError(), 3).seconds for _ in range(20)}

    assert len(waits) > 10
