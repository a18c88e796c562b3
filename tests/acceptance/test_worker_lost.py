"""An object that kills whoever copies it: it is found, counted, and given up, and everything else arrives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import sleep

import pytest
from django.db import transaction
from django.utils import timezone

from synchro.models import Attempt, ChangeLog, Option
from synchro_tasks import publisher
from synchro_tasks.tasks import checkpoint
from tests import factories
from tests.acceptance.processes import Site, wait_until
from tests.assertions import assert_same_on_remote
from tests.handlers.models import Shipment
from tests.shop.models import Article

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

KILLED = "exited with 'signal 9 (SIGKILL)'"


def entry_of(shipment: Shipment) -> ChangeLog:
    return ChangeLog.objects.of_objects(Shipment, [str(shipment.pk)]).get()


def pending() -> set[tuple[str, str]]:
    entries = ChangeLog.objects.pending().select_related("content_type")
    return {(entry.content_type.model, entry.object_id) for entry in entries}


def make_due() -> None:
    ChangeLog.objects.pending().update(next_attempt_at=timezone.now())


def run_checkpoint() -> None:
    """Queue a checkpoint that need not wait until the lease of a killed one is over."""
    Option.objects.filter(key="checkpoint").delete()
    assert publisher.publish(checkpoint, [()])


def bring_something() -> None:
    """Let a worker that has just been started do its first work, of which it is careful."""
    factories.article()
    wait_until(lambda: not pending(), "the worker has brought something")


def test_an_object_that_kills_its_worker_is_given_up_and_stops_only_itself(site: Site) -> None:
    worker = site.start_worker(SYNCHRO_TEST_KILLER="killer", SYNCHRO_TEST_MAX_ATTEMPTS="2")
    bring_something()
    with transaction.atomic(using=site.pair.local):
        shipments = [factories.make(Shipment, number=number) for number in ("1", "2", "killer", "4", "5")]
    killer = shipments[2]

    wait_until(lambda: pending() == {("shipment", str(killer.pk))}, "all others arrive")
    wait_until(lambda: site.queue_length() == 0, "no message goes round and round")
    assert [(each.object_id, each.error) for each in Attempt.objects.all()] == [(str(killer.pk), "WorkerLost")]
    assert entry_of(killer).attempts == 1
    article = factories.article()
    wait_until(lambda: len(pending()) == 1, "what is changed later arrives")

    make_due()
    run_checkpoint()
    wait_until(lambda: entry_of(killer).attempts == 2, "the checkpoint has tried it")
    worker.wait_for("Another checkpoint is running.")
    make_due()
    run_checkpoint()
    wait_until(lambda: entry_of(killer).state == ChangeLog.State.FAILED, "it is given up")

    assert Attempt.objects.count() == 2
    assert worker.log.count(KILLED) == 3, "the batch, and each attempt"
    for each in (*shipments[:2], *shipments[3:], article):
        assert_same_on_remote(each)
    assert Shipment.objects.using(site.pair.remote).count() == 4
    assert Article.objects.using(site.pair.remote).count() == 2


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_whole_worker_that_is_killed_and_started_again_gives_it_up_too(site: Site, pool: str) -> None:
    """Where tasks have no process of their own, and Redis gives back what a killed worker had only much later."""
    start = partial(site.start_worker, SYNCHRO_TEST_KILLER="killer", SYNCHRO_TEST_MAX_ATTEMPTS="2")
    starts = 0

    def supervise(condition: Callable[[], bool], what: str) -> None:
        nonlocal starts

        def met() -> bool:
            nonlocal starts
            if not any(process.is_running for process in site.processes):
                assert starts < 10, "it goes round and round"
                starts += 1
                start(f"{pool}-{starts}", f"--pool={pool}", ready=False)
            return condition()

        wait_until(met, what)

    with transaction.atomic(using=site.pair.local):
        shipments = [factories.make(Shipment, number=number) for number in ("1", "2", "killer", "4", "5")]
    killer = shipments.pop(2)

    supervise(lambda: pending() == {("shipment", str(killer.pk))}, "all others arrive")
    for _ in range(2):
        make_due()
        run_checkpoint()
        attempts = entry_of(killer).attempts
        supervise(
            lambda known=attempts: entry_of(killer).attempts > known or not pending(),  # type: ignore[misc]
            "it is tried again, or given up",
        )

    assert entry_of(killer).state == ChangeLog.State.FAILED
    assert starts <= 4
    for each in shipments:
        assert_same_on_remote(each)


def test_a_killer_among_many_that_have_no_task_of_their_own_is_found_by_the_checkpoint(site: Site) -> None:
    worker = site.start_worker(SYNCHRO_TEST_KILLER="killer")
    bring_something()
    worker.pause()
    shipments = [factories.make(Shipment, number=f"{number}") for number in range(40)]
    killer = factories.make(Shipment, number="killer")
    shipments += [factories.make(Shipment, number=f"{number}") for number in range(40, 60)]
    site.forget_messages()
    worker.go_on()
    for _ in range(20):
        run_checkpoint()
        sleep(1)
        wait_until(lambda: site.queue_length() == 0, "a worker has taken it")
        if pending() == {("shipment", str(killer.pk))}:
            break

    assert pending() == {("shipment", str(killer.pk))}
    attempts = entry_of(killer).attempts
    assert Attempt.objects.filter(error="WorkerLost").count() == attempts
    assert worker.log.count(KILLED) == attempts + 1, "the batch, and each attempt"
    for each in shipments[::20]:
        assert_same_on_remote(each)
