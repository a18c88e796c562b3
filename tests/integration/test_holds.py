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


def test_one_probe_a_second_over_all_workers(each_vendor: Pair) -> None:
    Hold.objects.hold("", AWAY)
    assert not Hold.objects.claim_probe("")
    time.sleep(1.05)

    futures = [in_thread(Hold.objects.claim_probe, "") for _ in range(8)]
    assert [future.result(PATIENCE) for future in futures].count(True) == 1

    assert not Hold.objects.claim_probe("")
    time.sleep(1.05)
    assert Hold.objects.claim_probe("")


def test_what_is_not_held_is_not_probed(each_vendor: Pair) -> None:
    Hold.objects.hold("shop.Article", AWAY)
    time.sleep(1.05)

    assert not Hold.objects.claim_probe("")
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

    assert Hold.objects.claim_probe("")
    assert not Hold.objects.claim_probe("")
