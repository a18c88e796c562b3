"""Reading in threads: abreast, and never longer than anybody wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from itertools import accumulate

import pytest

from synchro.compare.threads import produced

Made = tuple[str, int]


def _made(name: str, weights: list[int], begun: list[Made]) -> Generator[Made]:
    for weight in weights:
        begun.append((name, weight))
        yield name, weight


def _all(*producers: Callable[[], Generator[Made]]) -> list[Made]:
    with closing(produced(*producers, ahead=1, weight=lambda made: made[1])) as everything:
        return list(everything)


def test_no_producer_runs_ahead() -> None:
    """However heavy what it makes is, and however many it could make meanwhile."""
    begun: list[Made] = []
    small, large = [1] * 200, [50] * 4

    found = _all(partial(_made, "small", small, begun), partial(_made, "large", large, begun))

    assert sorted(found) == sorted(begun) == sorted([("small", 1)] * 200 + [("large", 50)] * 4)
    balance = accumulate(weight if name == "small" else -weight for name, weight in found)
    assert all(-50 <= each <= 1 for each in balance)


def test_one_that_ends_early_lets_the_other_go_on() -> None:
    begun: list[Made] = []

    found = _all(partial(_made, "short", [1], begun), partial(_made, "long", [1] * 10, begun))

    assert len(found) == 11


def test_what_nobody_wants_is_not_made() -> None:
    """Closing it ends the threads."""
    begun: list[Made] = []
    before = threading.active_count()
    answers = produced(partial(_made, "endless", [1] * 1000, begun), ahead=1)

    next(answers)
    answers.close()

    assert len(begun) <= 4
    assert threading.active_count() == before


def test_an_error_of_a_producer_is_raised() -> None:
    def broken() -> Generator[Made]:
        yield "fine", 1
        raise LookupError

    with pytest.raises(LookupError):
        _all(broken, partial(_made, "other", [1] * 100, []))
