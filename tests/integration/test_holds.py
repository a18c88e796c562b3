"""What is held back: REMOTE as a whole or a model, once for all workers, and whose turn it is to try."""

from __future__ import annotations

import time
from datetime import timedelta

from django.db import connections
from django.utils import timezone

from synchro.models import Hold
from tests.databases import Pair
from tests.threads import PATIENCE, in_thread

AWAY = "The database could not be used."


def test_holding_is_new_once_and_the_last_reason_is_kept(each_vendor: Pair) -> None:
    assert Hold.objects.hold("", "First.")
    assert not Hold.objects.hold("", AWAY)
    assert Hold.objects.hold("shop.Article", "No such column.")

    assert [(hold.label, hold.reason) for hold in Hold.objects.held()] == [
        ("", AWAY),
        ("shop.Article", "No such column."),
    ]
    assert [hold.label for hold in Hold.objects.over("shop.Product")] == [""]
    assert [hold.label for hold in Hold.objects.over("shop.Article")] == ["", "shop.Article"]


def test_of_many_who_hold_at_once_one_is_told_that_it_is_new(each_vendor: Pair) -> None:
    futures = [in_thread(Hold.objects.hold, "", AWAY) for _ in range(8)]

    assert [future.result(PATIENCE) for future in futures].count(True) == 1


def test_of_many_who_let_go_at_once_one_is_told_so(each_vendor: Pair) -> None:
    Hold.objects.hold("", AWAY)

    futures = [in_thread(Hold.objects.release, "") for _ in range(8)]

    assert [future.result(PATIENCE) for future in futures].count(True) == 1
    assert not Hold.objects.held().exists()


def test_one_probe_at_a_time_and_one_a_second_over_all_workers(each_vendor: Pair) -> None:
    Hold.objects.hold("", AWAY)
    assert not claim()
    time.sleep(1.05)

    futures = [in_thread(claim) for _ in range(8)]
    assert [future.result(PATIENCE) for future in futures].count(True) == 1

    time.sleep(1.05)
    assert not claim(), "the probe may still be under way"
    Hold.objects.hold("", AWAY)
    assert not claim(), "it has just failed"
    time.sleep(1.05)
    assert claim()


def test_a_probe_that_never_ends_gives_its_turn_to_the_next_one(each_vendor: Pair) -> None:
    Hold.objects.hold("", AWAY)
    time.sleep(1.05)
    assert claim(timedelta(seconds=1.5))
    time.sleep(1.05)
    assert not claim()
    time.sleep(0.5)

    assert claim()


def test_who_has_nothing_to_try_with_passes_its_turn_on(each_vendor: Pair) -> None:
    Hold.objects.hold("", AWAY)
    time.sleep(1.05)
    assert claim()

    Hold.objects.pass_on([""])

    assert claim()


def claim(longest: timedelta = timedelta(seconds=6)) -> bool:
    return Hold.objects.claim_probe("", longest=longest)


def test_what_is_not_held_is_not_probed(each_vendor: Pair) -> None:
    Hold.objects.hold("shop.Article", AWAY)
    time.sleep(1.05)

    assert not claim()
    assert not Hold.objects.release("")


def test_a_turn_is_told_by_the_clock_of_the_server_in_utc(each_vendor: Pair) -> None:
    if connections[each_vendor.local].vendor == "mysql":
        with connections[each_vendor.local].cursor() as cursor:
            cursor.execute("SET time_zone = '+05:00'")
    before = timezone.now()

    Hold.objects.hold("", AWAY)

    (hold,) = Hold.objects.held()
    assert before < hold.next_try_at < timezone.now() + timedelta(seconds=2)
    connections[each_vendor.local].close()


def test_a_server_clock_that_was_put_back_does_not_hold_for_ever(each_vendor: Pair) -> None:
    Hold.objects.hold("", AWAY)
    Hold.objects.update(next_try_at=timezone.now() + timedelta(days=1))

    assert claim()
    assert not claim()
