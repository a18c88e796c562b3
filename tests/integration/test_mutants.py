"""Tests of the tests: the protocol is broken on purpose, and a test of it must notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.databases import Pair
from tests.integration import test_protocol as protocol
from tests.mutants import MUTANTS

#: Which test forces the order of steps in which a mutant goes wrong.
CAUGHT_BY: dict[str, Callable[..., Any]] = {
    "no_lock": protocol.test_an_older_state_is_never_written_over_a_newer_one,
    "state_first": protocol.test_a_change_that_commits_before_the_entries_are_taken_is_copied,
    "all_entries": protocol.test_only_the_taken_entries_are_marked,
    "watermark": protocol.test_a_transaction_that_commits_late_is_copied,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_test_of_the_protocol_catches(name: str, postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch.setattr)

    with pytest.raises(AssertionError):
        CAUGHT_BY[name](postgres_pair, protocol.Gate(), monkeypatch)
